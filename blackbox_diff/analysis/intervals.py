"""How sure a number is: bootstrap intervals, a permutation test against the control, and how stable the top is.

Resampling is seeded: the same rows and seed give the same numbers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.findings import Interval, Ranked

RESAMPLES = 1000
TOP = 10  # the statistic is the mean score of the best ten

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
    prefills = np.unique([row.group for row in ranking], return_inverse=True)[1]
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
