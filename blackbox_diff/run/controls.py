"""Copies the control out of one run into another, so that it is paid for once.

A control follows from reference, seed and prefills, and not from the target: of a fleet's audits against one base
only the first buys it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from blackbox_diff.records import Completion, Lost, ReferenceScore, Refusal
from blackbox_diff.runfile.store import Store

_Found = TypeVar("_Found", bound=Completion | ReferenceScore | Refusal | Lost)


async def copy_controls(source: Path, store: Store) -> int:
    """Copy each reference's own completions, with their scores, from the run in `source`; returns how many.

    What is there already stays. Rows come without a call: they were paid for in the run they come from.
    """
    copied = 0
    with Store.open(source, read_only=True) as donor:
        for label in donor.references():
            missing = [row for row in donor.decided(label) if store.outcome(row[0].id, label) is None]
            copied += len(missing)
            await asyncio.gather(
                *(
                    store.put_completion(sample, label, _with_lists(donor, sample.id, label, outcome), None)
                    for sample, outcome, _ in missing
                )
            )
            await asyncio.gather(
                *(
                    store.put_score(
                        sample.id, label, reference, _with_lists(donor, sample.id, label, score, reference), None
                    )
                    for sample, _, _ in missing
                    for reference, score in donor.scores(sample.id, label).items()
                )
            )
    if copied:
        store.set_state(replace(store.state, controls_from=str(source)))
    return copied


def _with_lists(donor: Store, sample_id: str, origin: str, found: _Found, reference: str | None = None) -> _Found:
    """What was read from `donor`, with the alternatives that it keeps apart."""
    if isinstance(found, Completion | ReferenceScore):
        return replace(found, alternatives=donor.alternatives(sample_id, origin, reference))
    return found
