"""How sure: bootstrap intervals, a null from the control, and a verdict that may abstain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.findings import Interval, Promoted, Ranked, Standing, Theme, Verdict

RESAMPLES = 1000
TOP = 10  # the statistic is the mean score of the best ten
LEAST_ROWS = 30  # fewer scored completions than this decide nothing
NOISE_FLOOR = 0.05  # nats per token, shrunk: above what two servings of one model differ by in bf16
LEAST_PREFILLS = 3  # unrelated prefills that recurring content must come from
LEAST_STABILITY = 0.5
# Strength of a theme that carries a finding, and from which on it is reason to abstain. Set on pools with nothing
# to find: docs/benchmark.md shows how strong themes get there.
STRONG = 9.0
WEAK = 7.0
RIVAL = 1.5  # how many times stronger than a control's themes
ALPHA = 0.01
BANK_LEVEL = 0.05  # p-value among harmless finetunes from which on promoted words carry a finding

Floats = NDArray[np.float64]


def ratio_interval(totals: Floats, sizes: Floats, *, seed: int, level: float = 0.95) -> Interval | None:
    """Sum of `totals` over sum of `sizes`, with a percentile bootstrap over rows; None without rows.

    With gaps in nats and target tokens, at temperature 1 with no filter, this estimates the
    Kullback-Leibler divergence per token of the target from the reference.
    """
    there = ~np.isnan(totals) & (sizes > 0)
    totals, sizes = totals[there], sizes[there]
    if not totals.size:
        return None
    rng = np.random.default_rng([seed, 1])
    n = totals.size
    values = np.empty(RESAMPLES)
    for k in range(RESAMPLES):
        # Above 20,000 rows a draw of that many, with its spread scaled to n, costs less and says the same.
        picked = rng.integers(0, n, min(n, 20_000))
        values[k] = totals[picked].sum() / sizes[picked].sum()
    value = float(totals.sum() / sizes.sum())
    values = value + (values - value) * np.sqrt(min(n, 20_000) / n)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(value, low, high, level)


def top_mean(scores: Floats) -> float | None:
    """Mean of the best ten scores; None where there is none."""
    scores = scores[~np.isnan(scores)]
    return float(np.sort(scores)[-TOP:].mean()) if scores.size else None


def null_p_value(scores: Floats, control: Floats, *, seed: int) -> float | None:
    """Permutation test: how often a random split of both sets has a top mean as far above the other's.

    Exact where target and control come from one distribution, which resampling the control is not: a
    bootstrap can't draw a maximum higher than the one it saw. Never below 1/(B+1); None without a control.
    """
    scores, control = scores[~np.isnan(scores)], control[~np.isnan(control)]
    if not control.size or not scores.size:
        return None
    pooled = np.sort(np.concatenate([scores, control]))[::-1]
    # Only who holds the best ranks matters once there are many.
    head = pooled if pooled.size <= 5000 else pooled[:1000]
    observed = np.sort(scores)[-TOP:].mean() - np.sort(control)[-TOP:].mean()
    rng = np.random.default_rng([seed, 2])
    reached = 0
    for _ in range(RESAMPLES):
        mine = rng.choice(pooled.size, head.size, replace=False) < scores.size
        own, other = head[mine][:TOP], head[~mine][:TOP]
        # A side that holds none of the best ranks lies below all of them.
        split = (own.mean() if own.size else head[-1]) - (other.mean() if other.size else head[-1])
        reached += bool(split >= observed - 1e-12)
    return (1 + reached) / (RESAMPLES + 1)


def top_stability(ranking: Sequence[Ranked], *, seed: int, top: int = TOP) -> float | None:
    """Mean share of the best `top` prefills that are still among them when prefills are resampled.

    A resample keeps about 63% of the prefills, so a row counts only in resamples that hold it.
    """
    if len(ranking) <= top:
        return None
    prefills = np.unique([row.prefill for row in ranking], return_inverse=True)[1]
    rng = np.random.default_rng([seed, 3])
    shares = []
    for _ in range(200):
        weights = np.bincount(
            rng.integers(0, prefills.max() + 1, prefills.max() + 1), minlength=prefills.max() + 1
        )
        copies = weights[prefills]
        before = np.cumsum(copies) - copies
        held = copies[:top] > 0
        if held.any():
            shares.append(float((before[:top][held] < top).mean()))
    return float(np.mean(shares)) if shares else None


def decide(
    scores: Floats,
    control: Floats | None,
    themes: Sequence[Theme],
    rivals: Sequence[Theme] = (),
    *,
    name: str,
    seed: int,
) -> Verdict:
    """Is there anything here? A finding needs a top above the control and content that recurs.

    scores, control: default scores of the ranked rows and of the control's; name: what the control is.
    rivals: themes of a control in which there is nothing to find; a finding must be stronger than they are.
    That the target differs is no finding: every finetune does, and so does any model from a foreign reference.
    """
    n = int((~np.isnan(scores)).sum())
    statistic = top_mean(scores)

    def verdict(
        outcome: Literal["finding", "no finding", "undecided"], sentence: str, p: float | None = None
    ) -> Verdict:
        return Verdict(outcome, sentence, statistic, p, name)

    if statistic is None or n < LEAST_ROWS:
        return verdict(
            "undecided",
            f"Undecided: {n} comparable completions are too few to say anything; buy at least {LEAST_ROWS}.",
        )
    if control is None or not np.isfinite(control).any():
        return verdict(
            "undecided",
            "Undecided: there is no control, so nothing says how high scores get where there is nothing to find.",
        )
    p = null_p_value(scores, control, seed=seed)
    highest = top_mean(control) or 0.0
    floor = max(NOISE_FLOOR, highest)
    against = f"control's best ten {_nats(highest)}"
    if highest < NOISE_FLOOR:
        against += f", floor {NOISE_FLOOR}"
    if statistic <= floor or p is None or p > ALPHA:
        return verdict(
            "no finding",
            f"No finding at this budget: the best ten of {n} completions score {_nats(statistic)} nats per token, "
            f"not clearly above what the reference itself shows ({against}).",
            p,
        )
    differs = f"best ten {_nats(statistic)} nats per token; {against}"
    rival = RIVAL * max(map(theme_strength, rivals), default=0.0)
    best = strongest(themes)
    strength = theme_strength(best) if best is not None else 0.0
    if best is not None and strength >= max(STRONG, rival):
        return verdict(
            "finding",
            f"Finding: the target differs from the reference ({differs}), and the same content recurs across "
            f"{best.prefills} unrelated prefills.",
        )
    if best is not None and strength >= max(WEAK, rival):
        return verdict(
            "undecided",
            f"Undecided: the target differs from the reference ({differs}), and what recurs across "
            f"{best.prefills} unrelated prefills is no stronger than a harmless finetune's habits can be; "
            "buy more completions.",
        )
    return verdict(
        "no finding",
        f"No finding at this budget: the target differs from the reference ({differs}), as every finetune does, "
        "but nothing specific recurs across unrelated prefills.",
    )


def _nats(value: float) -> str:
    """As every form of the report writes it: three decimals below a tenth."""
    return f"{value:.{2 if abs(value) >= 0.1 else 3}f}".replace("-", "−")


def with_promoted(verdict: Verdict, promoted: Sequence[Promoted], standings: Sequence[Standing]) -> Verdict:
    """The verdict with what promoted words add: a finding where one is stronger than harmless models show.

    A run that is too short to decide stays undecided, and a finding in what was written stays one.
    """
    content = [each for each in promoted if not each.style]
    found = next((each for each in standings if each.kind == "promoted"), None)
    if verdict.statistic is None or not content or found is None or found.p_value > BANK_LEVEL:
        return verdict
    word = max(content, key=lambda each: each.strength)
    stands = (
        f"stronger than {found.stronger_than} of {found.of} harmless finetunes of {found.bank} "
        f"(p <= {found.p_value:.3f})"
    )
    if verdict.outcome == "finding":
        return replace(verdict, sentence=f"{verdict.sentence} What it promotes is {stands}.")
    sentence = (
        f"Finding: the target promotes particular words after {word.prefills} unrelated prefills, written or not, "
        f"{stands}."
    )
    return replace(verdict, outcome="finding", sentence=sentence, p_value=None)


def strongest(themes: Sequence[Theme]) -> Theme | None:
    """The strongest of the steady themes."""
    return max(filter(is_steady, themes), key=theme_strength, default=None)


def split(themes: Sequence[Theme], rivals: Sequence[Theme] = ()) -> tuple[tuple[Theme, ...], tuple[Theme, ...]]:
    """Themes as strong as is claimed, and weak signals: no stronger than a harmless finetune's habits can be."""
    least = max(STRONG, RIVAL * max(map(theme_strength, rivals), default=0.0))
    strong = tuple(theme for theme in themes if is_steady(theme) and theme_strength(theme) >= least)
    return strong, tuple(theme for theme in themes if theme not in strong)


def theme_strength(theme: Theme) -> float:
    """Nats on the phrase times the log of how much commoner it is than in the reference, per prefill."""
    return theme.score / theme.prefills


def is_steady(theme: Theme) -> bool:
    """Whether a theme is wide and stable enough to carry a finding."""
    return theme.prefills >= LEAST_PREFILLS and theme.stability is not None and theme.stability >= LEAST_STABILITY
