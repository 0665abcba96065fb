"""Two runs side by side: is it still the same model, and what does it say that it did not say before?

Three questions share an error level of 5%, so that of two audits of one model at most one in twenty is said to
have changed (words 2%, gap 2%, and first tokens have a floor that one model's hosts stay below):
    first tokens   after prefills that both runs asked: how far apart are the stored alternatives?
    words          which became commoner or rarer in the completions?
    gap            did the mean gap to a reference that both runs have move?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from blackbox_diff.analysis.changes import WordTest, shift_p_value, word_changes
from blackbox_diff.analysis.intervals import ratio_interval
from blackbox_diff.analysis.rank import rank
from blackbox_diff.analysis.themes import find_themes
from blackbox_diff.analysis.words import spans
from blackbox_diff.errors import InputError
from blackbox_diff.findings import Interval, Ranked, Theme
from blackbox_diff.probing.sameness import FLOOR, Listed, distance
from blackbox_diff.records import Completion, Sample, ScoredCompletion
from blackbox_diff.report import wording
from blackbox_diff.run.collect import TARGET
from blackbox_diff.run.results import Results, read_run
from blackbox_diff.run.watch import listed
from blackbox_diff.runfile.store import Store
from blackbox_diff.sanitize import visible

GAP_LEVEL = 0.02
LEAST_SHIFT = 0.02  # nats per token: a smaller move of the mean gap is what other hosts of one model differ by
LEAST_SHARED = 10  # shared prefills from which on first tokens say something


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class IntervalPart(_Part):
    """A mean with its 95% confidence interval over prefills, nats."""

    value: float
    low: float
    high: float


class ThemeChange(_Part):
    """Content that recurs in one run and hardly in the other: completions that hold it, of how many."""

    phrase: str
    old: int
    old_of: int
    new: int
    new_of: int
    quote: str


class Side(_Part):
    """One run of the two."""

    run: str
    target: str
    created: str
    outcome: Literal["finding", "no finding", "undecided"]
    headline: str
    completions: int


class Comparison(_Part):
    """What changed from the old run to the new one.

    first_tokens: mean distance of the alternatives after shared prefills, nats; None without enough of them.
    gap_shift: mean gap of the new run less the old one's, nats per token, under `reference`.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    outcome: Literal["changed", "no change"]
    sentence: str
    reasons: list[str]
    old: Side
    new: Side
    shared_prefills: int
    first_tokens: IntervalPart | None
    reference: str | None
    gap_shift: float | None
    gap_p_value: float | None
    word_p_value: float
    words: list[tuple[str, int, int]]  # word, completions of the old run, of the new one
    gained: list[ThemeChange]
    lost: list[ThemeChange]


@dataclass(frozen=True, slots=True)
class Read:
    """One run, read for a comparison; samples and texts in one order.

    first: prefill and framing -> the alternatives of the first token.
    """

    results: Results
    rows: tuple[ScoredCompletion, ...]
    samples: tuple[Sample, ...]
    texts: tuple[str, ...]
    first: dict[tuple[str, str], Listed]

    @property
    def arms(self) -> list[str]:
        return [sample.arm.name for sample in self.samples]


def read_for_comparison(run: Path, reference: str | None = None) -> Read:
    """Raises RunFileError for what is not a run, InputError for a reference that it does not have."""
    results = read_run(run, reference=reference)
    with Store.open(run, read_only=True) as store:
        rows = tuple(store.scored(TARGET))
        samples, texts = [], []
        first: dict[tuple[str, str], Listed] = {}
        for sample, outcome, number in store.decided(TARGET):
            if not isinstance(outcome, Completion):
                continue
            samples.append(sample)
            texts.append(outcome.text)
            call = None if number is None else store.call(number)
            found = listed(call.reply) if call is not None else {}
            if found:
                first[sample.prefill, sample.arm.framing] = found
    return Read(results, rows, tuple(samples), tuple(texts), first)


def compare_runs(old: Path, new: Path, *, reference: str | None = None, seed: int = 0) -> Comparison:
    """What changed between two runs. Raises InputError where they have no arm in common."""
    before, after = read_for_comparison(old, reference), read_for_comparison(new, reference)
    return compare_reads(before, after, reference=reference, seed=seed)


def compare_reads(before: Read, after: Read, *, reference: str | None = None, seed: int = 0) -> Comparison:
    """The same of two runs that are read already."""
    common = set(before.arms) & set(after.arms)
    if not common:
        old, new = (each.results.summary.run for each in (before, after))
        raise InputError(
            f"{old} and {new} have no arm in common ({', '.join(sorted(set(before.arms)))} against "
            f"{', '.join(sorted(set(after.arms)))}): compare runs of one design"
        )
    label = _common_reference(before, after, reference)
    first, shared = first_tokens(before.first, after.first, seed)
    words = word_changes(before.texts, after.texts, before.arms, after.arms, seed=seed)
    shift, p = (None, None) if label is None else gap_shift(before.rows, after.rows, label, seed)
    reasons = _reasons(first, words, shift, p)
    gained = _themes(after, before, label, words, seed)
    lost = _themes(before, after, label, words, seed)
    outcome: Literal["changed", "no change"] = "changed" if reasons else "no change"
    return Comparison(
        schema=1,
        outcome=outcome,
        sentence=_sentence(outcome, reasons, len(before.texts), len(after.texts)),
        reasons=reasons,
        old=_side(before),
        new=_side(after),
        shared_prefills=shared,
        first_tokens=None if first is None else IntervalPart(value=first.value, low=first.low, high=first.high),
        reference=label,
        gap_shift=shift,
        gap_p_value=p,
        word_p_value=words.p_value,
        words=[(each.word, each.old, each.new) for each in words.changed[:40]],
        gained=gained,
        lost=[_turned(each) for each in lost],
    )


def first_tokens(
    old: dict[tuple[str, str], Listed], new: dict[tuple[str, str], Listed], seed: int
) -> tuple[Interval | None, int]:
    """Mean distance of the first token's alternatives over the prompts that both runs asked, and how many."""
    shared = sorted(set(old) & set(new))
    found = [distance(old[key], new[key]) for key in shared]
    values = np.asarray([value for value in found if value is not None])
    if values.size < LEAST_SHARED:
        return None, int(values.size)
    return ratio_interval(values, np.ones(values.size), seed=seed), int(values.size)


def gap_shift(
    old: Sequence[ScoredCompletion], new: Sequence[ScoredCompletion], reference: str, seed: int
) -> tuple[float | None, float | None]:
    """(new mean gap less old, permutation p-value) under `reference`, nats per token; None without scores."""
    before, after = (rank(rows, reference, "gap_nats_per_token", with_segments=0) for rows in (old, new))
    old_gaps, new_gaps = _gaps(before), _gaps(after)
    if not (np.isfinite(old_gaps).any() and np.isfinite(new_gaps).any()):
        return None, None
    p = shift_p_value(old_gaps, new_gaps, _arms(before), _arms(after), seed=seed)
    return float(np.nanmean(new_gaps) - np.nanmean(old_gaps)), p


def _gaps(ranking: Sequence[Ranked]) -> NDArray[np.float64]:
    return np.asarray([row.metrics["gap_nats_per_token"] for row in ranking], dtype=np.float64)


def _arms(ranking: Sequence[Ranked]) -> list[str]:
    return [f"{row.source}/{row.framing}" for row in ranking]


def _common_reference(before: Read, after: Read, wanted: str | None) -> str | None:
    ours, theirs = (each.results.summary.references for each in (before, after))
    shared = [label for label in ours if label in theirs]
    return wanted if wanted is not None else next(iter(shared), None)


def _reasons(first: Interval | None, words: WordTest, shift: float | None, p: float | None) -> list[str]:
    found = []
    if first is not None and first.low > FLOOR:
        found.append(f"first tokens after the same prefills are {first.value:.2g} nats apart")
    if words.changed:
        few = ", ".join(f"“{visible(each.word)}” {each.old} -> {each.new}" for each in words.changed[:3])
        found.append(f"{wording.plural(len(words.changed), 'word')} became commoner or rarer ({few})")
    if shift is not None and p is not None and p <= GAP_LEVEL and abs(shift) > LEAST_SHIFT:
        found.append(f"the mean gap moved by {shift:+.2f} nats per token")
    return found


def _sentence(outcome: str, reasons: Sequence[str], old: int, new: int) -> str:
    if outcome == "changed":
        return f"Changed: {'; '.join(reasons)}."
    return f"No change, as far as {old:,} and {new:,} completions show."


def _side(read: Read) -> Side:
    analysis, summary = read.results.analysis, read.results.summary
    return Side(
        run=summary.run,
        target=summary.target,
        created=summary.created,
        outcome=analysis.verdict.outcome,
        headline=wording.headline(analysis),
        completions=len(read.texts),
    )


def _themes(rich: Read, poor: Read, reference: str | None, words: WordTest, seed: int) -> list[ThemeChange]:
    """What recurs in `rich` beside `poor`'s completions as the background, where a changed word is part of it."""
    if reference is None or not words.changed:
        return []
    changed = {each.word for each in words.changed}
    ranking: Sequence[Ranked] = rank(rich.rows, reference, "score")
    return [
        _change(theme, rich, poor)
        for theme in find_themes(ranking, list(poor.texts), seed=seed)
        if changed & {word for word, _, _ in spans(theme.phrase)}
    ]


def _change(theme: Theme, rich: Read, poor: Read) -> ThemeChange:
    quote = theme.quotes[0].text if theme.quotes else ""
    return ThemeChange(
        phrase=wording.theme_name(theme),
        old=theme.background,
        old_of=len(poor.texts),
        new=theme.count,
        new_of=len(rich.texts),
        quote=quote,
    )


def _turned(change: ThemeChange) -> ThemeChange:
    """The same with old and new exchanged: what was lost was found from the other side."""
    return change.model_copy(
        update={"old": change.new, "old_of": change.new_of, "new": change.old, "new_of": change.old_of}
    )


def lines(found: Comparison) -> list[str]:
    """The comparison for a terminal."""
    said = [visible(found.sentence)]
    for name, side in (("old", found.old), ("new", found.new)):
        said.append(f"  {name}: {visible(side.target)}: {side.outcome}: {visible(side.headline)}")
    for name, changes in (("gained", found.gained), ("lost", found.lost)):
        for each in changes:
            phrase = visible(each.phrase)
            said.append(
                f"  {name}: “{phrase}” {each.old} of {each.old_of} -> {each.new} of {each.new_of} completions"
            )
    first = found.first_tokens
    if first is not None:
        said.append(
            f"  first tokens: {first.value:.2g} nats apart (95% CI {first.low:.2g} to {first.high:.2g}) after "
            f"{found.shared_prefills} shared prefills"
        )
    if found.gap_shift is not None and found.gap_p_value is not None:
        said.append(
            f"  mean gap under {visible(found.reference or '')}: {found.gap_shift:+.3f} nats per token, "
            f"p = {found.gap_p_value:.3f}"
        )
    return said
