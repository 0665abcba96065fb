"""A bank of harmless models, made of the runs that audited them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from blackbox_diff.analysis.bank import Bank, Member, kept_masses, strengths
from blackbox_diff.errors import InputError
from blackbox_diff.run.bank import LEAST
from blackbox_diff.run.results import Results, read_run


def bank_of(runs: Iterable[Path], *, reference: str | None = None, base: str | None = None) -> Bank:
    """The bank that runs of harmless models make, each a member under its target's name.

    base: what the models were finetuned from, where that is not the reference.

    Raises InputError for fewer than two runs, or two of one name; RunFileError for what is no run.
    """
    found: list[Results] = []
    label = reference
    for run in runs:
        one = read_run(run, reference=label, bank=None)
        label = one.analysis.reference
        if any(other.summary.target == one.summary.target for other in found):
            raise InputError(f"{run}: a second run of '{one.summary.target}': a model counts once")
        found.append(one)
    if len(found) < LEAST or label is None:
        raise InputError("calibrate: give runs of at least two harmless models; twenty allow p <= 0.048")
    completions = min(one.summary.scored for one in found)
    members = []
    for one in found:
        shown = one.analysis
        values, wording = strengths((*shown.themes, *shown.signals), shown.promoted, shown.listed, completions)
        masses = kept_masses(shown.promoted, shown.listed, completions)
        members.append(Member(one.summary.target, one.summary.scored, values, wording, masses))
    return Bank(base or label, label, completions, tuple(members))
