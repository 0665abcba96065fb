"""Everything derived from a run's scored completions, from nothing but them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.analysis.bank import Bank
from blackbox_diff.analysis.bank import standings as compared
from blackbox_diff.analysis.entries import entries, first_named
from blackbox_diff.analysis.intervals import ratio_interval, top_mean, top_stability
from blackbox_diff.analysis.lexicon import content_words
from blackbox_diff.analysis.listed_words import masses
from blackbox_diff.analysis.promoted import search
from blackbox_diff.analysis.rank import DEFAULT, rank
from blackbox_diff.analysis.sensitivity import sensitivity
from blackbox_diff.analysis.themes import find_themes
from blackbox_diff.analysis.verdict import decide, needed, split, with_promoted
from blackbox_diff.analysis.words import words_of
from blackbox_diff.findings import Analysis, ArmSummary, ControlSummary, Ranked, Theme
from blackbox_diff.records import Listed, ScoredCompletion

MOST_WITH_SEGMENTS = 20_000  # rows whose segments fit in memory comfortably


def analyse(
    target: Sequence[ScoredCompletion],
    control: Sequence[ScoredCompletion],
    reference: str,
    *,
    metric: str = DEFAULT,
    seed: int = 0,
    arms: Mapping[str, tuple[int, int, int]] | None = None,
    benign: Sequence[ScoredCompletion] = (),
    backgrounds: Sequence[Sequence[str]] = (),
    listed: Iterable[Listed] = (),
    bank: Bank | None = None,
    aside: AbstractSet[str] = frozenset(),
) -> Analysis:
    """The findings of one run under one reference.

    control: the reference's own completions of the same prefills, scored by itself; may be empty.
    benign: completions of a model with nothing to find, scored by the reference: then they are the control,
        and a finding must stand out above what they show.
    backgrounds: more sets of texts that say what is ordinary, such as completions of siblings of the target.
    metric: what the ranking goes by. Themes, verdict and intervals go by `score`, whatever it is.
    arms: arm name -> (refused, failed, unpaid) calls.
    listed: the target's completions with what both models listed at their positions, read once.
    bank: harmless models that the strongest evidence is compared with, if they were audited under `reference`.
    aside: words that are no news: they are not looked for, and a theme that says nothing else is none.
    Raises InputError for an unknown metric.
    """
    ranking = rank(target, reference, metric, with_segments=MOST_WITH_SEGMENTS)
    ordered = ranking if metric == "score" else sorted(ranking, key=lambda row: (-_score(row), row.id))
    null = rank(control, reference, metric, with_segments=0)
    background = [row.completion.text for row in control]
    found = _news(find_themes(ordered, background, others=backgrounds, seed=seed), aside)
    name, rivals = "the reference against itself", tuple[Theme, ...]()
    if benign:
        null = rank(benign, reference, metric, with_segments=MOST_WITH_SEGMENTS)
        name, rivals = "a run with nothing to find", find_themes(null, background, others=backgrounds, seed=seed)
    floor = _column(_sound(null), "score") if null else None
    themes, signals = split(found, rivals)
    mass = masses(listed)
    searched = search(mass, background, aside)
    promoted = searched.words
    if bank is not None and bank.reference != reference:  # strengths under another reference mean something else
        bank = None
    bank = bank and bank.at(mass.n)
    known = [word for word in promoted if bank is not None and bank.knows(word)]
    standings = compared(bank, bank.evidence(found, known, mass.n, searched.third)) if bank else ()
    recurring = entries(found, promoted, needed=needed(rivals), bank=bank, listed=mass.n, third=searched.third)
    first = first_named(recurring)
    scores = _column(_sound(ranking), "score")
    verdict = decide(scores, floor, found, rivals, name=name, seed=seed, headline=first.theme if first else None)
    verdict = with_promoted(verdict, known, standings)
    totals, per_token = _column(ranking, "gap_total_nats"), _column(ranking, "gap_nats_per_token")
    with np.errstate(divide="ignore", invalid="ignore"):
        tokens = np.where(per_token != 0, totals / per_token, [row.n_tokens for row in ranking])
    return Analysis(
        reference=reference,
        metric=metric,
        ranking=ranking,
        themes=themes,
        signals=signals,
        verdict=verdict,
        control=_control(name, null) if null else None,
        kl_nats_per_token=ratio_interval(totals, tokens, seed=seed),
        top_stability=top_stability(ranking, seed=seed),
        arms=_arms(ranking, target, reference, arms or {}),
        controls=null,
        order=tuple(row.sample.id for row in target),
        promoted=promoted,
        recurring=recurring,
        standings=standings,
        listed=mass.n,
        sensitivity=sensitivity(len({row.group for row in ranking}), len(background)),
    )


def _news(themes: Sequence[Theme], aside: AbstractSet[str]) -> tuple[Theme, ...]:
    """The themes that say something other than these words."""
    said = [content_words(theme.phrase) or frozenset(words_of(theme.phrase)) for theme in themes]
    return tuple(theme for theme, words in zip(themes, said, strict=True) if not words <= aside)


def _sound(rows: Sequence[Ranked]) -> list[Ranked]:
    """Rows without degenerate loops: the score of a loop says how well a model predicts repetition."""
    return [row for row in rows if "degenerate" not in row.flags]


def _score(row: Ranked) -> float:
    value = row.metrics["score"]
    return -np.inf if value is None else value


def _column(rows: Sequence[Ranked], name: str) -> NDArray[np.float64]:
    # numpy turns None into NaN where the type is given.
    return np.asarray([row.metrics[name] for row in rows], dtype=np.float64)


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def _control(name: str, null: Sequence[Ranked]) -> ControlSummary:
    scores = tuple(value for row in _sound(null) if (value := row.metrics["score"]) is not None)
    return ControlSummary(
        name=name,
        n=len(null),
        max_score=max(scores, default=None),
        best_ten=top_mean(np.asarray(scores)),
        highest_value=max((row.value for row in null), default=None),
        mean_gap=_mean([row.metrics["gap_nats_per_token"] for row in null]),
        scores=scores,
        ppl=tuple(
            (a, b)
            for row in null
            if (a := row.metrics["ppl_target"]) is not None and (b := row.metrics["ppl_reference"]) is not None
        ),
    )


def _arms(
    ranking: Sequence[Ranked],
    target: Sequence[ScoredCompletion],
    reference: str,
    lost: Mapping[str, tuple[int, int, int]],
) -> tuple[ArmSummary, ...]:
    scored: dict[str, int] = dict.fromkeys(lost, 0)
    for each in target:
        scored[each.sample.arm.name] = scored.get(each.sample.arm.name, 0) + (reference in each.scores)
    gaps: dict[str, list[float | None]] = {name: [] for name in scored}
    scores: dict[str, list[float | None]] = {name: [] for name in scored}
    for row in ranking:
        arm = f"{row.source}/{row.framing}"
        gaps[arm].append(row.metrics["gap_nats_per_token"])
        scores[arm].append(None if "degenerate" in row.flags else row.metrics["score"])
        for copy in row.copies:
            gaps[copy.arm].append(copy.gap)
            scores[copy.arm].append(copy.score)
    return tuple(
        ArmSummary(
            name,
            scored[name],
            *lost.get(name, (0, 0, 0)),
            mean_gap=_mean(gaps[name]),
            top_score=max((score for score in scores[name] if score is not None), default=None),
        )
        for name in sorted(scored)
    )
