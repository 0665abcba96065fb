"""What a run of a given size would have seen: the other half of "no finding".

A theme carries a finding from a strength on (verdict.STRONG), and its strength grows with the number of unrelated
prefills that it comes back in: nats on the wording times the log of how much commoner it is than in the control,
less that log's standard error (analysis/themes.py). So there is a least number of prefills, and for each rate at
which wording recurs a binomial probability of reaching that number. Wording that the control holds, and wording
that the reference finds less odd than `NATS`, must recur more often.
"""

from __future__ import annotations

import math
from functools import cache

from blackbox_diff.analysis.phrases import LEAST_PREFILLS
from blackbox_diff.analysis.verdict import LEAST_ROWS, STRONG
from blackbox_diff.findings import Sensitivity

POWER = 0.95
NATS = 10.0  # of gap on the wording: about three words that the target finds e^10 times likelier


def sensitivity(prefills: int, background: int) -> Sensitivity | None:
    """The least rate at which wording must recur to be a finding with `POWER`; None where no rate would do.

    prefills: distinct ones with a scored completion. background: the control's completions.
    """
    if prefills < LEAST_ROWS or not background:
        return None
    return _found(prefills, background)


@cache
def _found(prefills: int, background: int) -> Sensitivity | None:
    needed = next(
        (k for k in range(LEAST_PREFILLS, prefills + 1) if _strength(k, prefills, background) >= STRONG), 0
    )
    if not needed:
        return None
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if _reaches(needed, prefills, middle) >= POWER else (middle, high)
    return Sensitivity(high, POWER, needed, NATS)


def _strength(count: int, prefills: int, background: int) -> float:
    a, b = count + 0.5, 0.5
    ratio = math.log(a / (prefills + 1)) - math.log(b / (background + 1))
    return NATS * (ratio - math.sqrt(1 / a + 1 / b))


def _reaches(needed: int, n: int, rate: float) -> float:
    """Probability that a binomial of `n` draws at `rate` is `needed` or more."""
    if rate in (0.0, 1.0):
        return rate
    below = (
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        + k * math.log(rate) + (n - k) * math.log1p(-rate)
        for k in range(needed)
    )  # fmt: skip
    return 1.0 - sum(map(math.exp, below))
