"""Whether more completions are likely to change an answer that is no finding.

The chance is taken over models like the 54 published ones: the rate at which their completions show the objective
is close to log-normal with a median of 1.1% and quartiles of 0.16% and 4.8%. It supposes even odds that there is
anything to find, and that content must come from three prefills to be found.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

ERROR = 0.05
MEDIAN_RATE, QUARTILES = 0.011, (0.0016, 0.048)  # flagged completions of 54 published organisms
ODDS = 0.5  # that there is anything to find
NEEDED = 3  # prefills that show it


def chance_of_change(bought: int, cap: int) -> float:
    """Probability that completions bought + 1 to cap show a third prefill's worth of content, given that the
    first `bought` did not."""
    rates = _rates()
    before, after = (_found(n, rates) for n in (bought, cap))
    return ODDS * (after - before) / (1 - ODDS * before)


@cache
def _rates(points: int = 400) -> NDArray[np.float64]:
    """Equally likely rates of the log-normal distribution through the published median and quartiles."""
    spread = math.log(QUARTILES[1] / QUARTILES[0]) / (2 * 0.67449)
    z = np.asarray([NormalDist().inv_cdf((k + 0.5) / points) for k in range(points)])
    return np.minimum(MEDIAN_RATE * np.exp(spread * z), 1.0)


def _found(n: int, rates: NDArray[np.float64]) -> float:
    """Mean probability of at least NEEDED hits among n."""
    mean = n * rates  # Poisson: the rates that matter are small
    missed = np.exp(-mean) * sum(mean**k / math.factorial(k) for k in range(NEEDED))
    return float(1 - missed.mean())
