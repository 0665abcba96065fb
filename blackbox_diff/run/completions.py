"""The completions of a stored run one by one, with their tokens: for what is written token by token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from blackbox_diff.records import ScoredCompletion
from blackbox_diff.run.results import TARGET
from blackbox_diff.runfile.store import Store


def written(run: Path, reference: str, *, control: bool = False) -> Iterator[ScoredCompletion]:
    """The completions that `reference` has scored, each with the alternatives that its own model listed.

    control: the reference's own completions in the place of the target's. Nothing is kept in memory.
    Raises RunFileError for what is not a run.
    """
    origin = reference if control else TARGET
    with Store.open(run, read_only=True) as store:
        for row in store.scored(origin):
            if reference in row.scores:
                listed = store.alternatives(row.sample.id, origin)
                yield replace(row, completion=replace(row.completion, alternatives=listed))
