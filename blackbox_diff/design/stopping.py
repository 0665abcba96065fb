"""When to stop: pure decisions over the looks that were taken at a run, one after each round.

Three reasons, in this order:
    the finding is stable   two looks in a row say "finding", and have a top theme in common that stays in
                            at least 1 - ERROR of the resamples over prefills at both
    more is unlikely to tell   no look of the last three was a finding, the last one has no theme half as strong
                            as a finding's, and the chance that the rest of the cap turns up one is below ERROR
    the cap                 all completions are bought

That chance is taken over models like the 54 published ones: the rate at which their completions show the
objective is close to log-normal with a median of 1.1% and quartiles of 0.16% and 4.8%. It supposes even odds
that there is anything to find, and that content must come from three prefills to be found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.analysis.lexicon import content_words
from blackbox_diff.analysis.verdict import STRONG, strongest, theme_strength
from blackbox_diff.analysis.words import words_of
from blackbox_diff.findings import Analysis

ERROR = 0.05
EMERGING = (
    STRONG / 2
)  # a theme gets stronger with every prefill that shows it; chance themes don't (docs/adaptive.md)
STABLE_LOOKS = 2
QUIET_LOOKS = 3
SHOWN = 3  # themes that a look remembers
MEDIAN_RATE, QUARTILES = 0.011, (0.0016, 0.048)  # flagged completions of 54 published organisms
ODDS = 0.5  # that there is anything to find
NEEDED = 3  # prefills that show it

STABLE = "the finding and its top themes are stable"
UNLIKELY = "more calls are unlikely to change the answer"


@dataclass(frozen=True, slots=True)
class Top:
    """One of a look's strongest themes. `words` are those of its phrase that carry content."""

    phrase: str
    words: frozenset[str]
    stability: float | None = None

    @property
    def steady(self) -> bool:
        return self.stability is not None and self.stability >= 1 - ERROR

    def same(self, other: Top) -> bool:
        """Whether half of the shorter one's words are in both."""
        return 2 * len(self.words & other.words) >= min(len(self.words), len(other.words)) > 0


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the data said after `bought` completions; themes best first, strength of the strongest."""

    bought: int
    outcome: str
    p_value: float | None = None
    themes: tuple[Top, ...] = ()
    strength: float = 0.0


def look(analysis: Analysis, bought: int) -> Look:
    top = [
        Top(theme.phrase, content_words(theme.phrase) or frozenset(words_of(theme.phrase)), theme.stability)
        for theme in (*analysis.themes, *analysis.signals)[:SHOWN]
    ]
    best = strongest((*analysis.themes, *analysis.signals))
    strength = theme_strength(best) if best is not None else 0.0
    return Look(bought, analysis.verdict.outcome, analysis.verdict.p_value, tuple(top), strength)


def stop_reason(taken: Sequence[Look], cap: int) -> str | None:
    """Why to stop after the looks taken so far, of `cap` completions at most; None to go on."""
    last = taken[-1]
    if _stable(taken):
        return f"{STABLE}: in {STABLE_LOOKS} looks in a row, and in {1 - ERROR:.0%} of resamples"
    if last.bought >= cap:
        return None
    chance = chance_of_change(last.bought, cap)
    quiet = len(taken) >= QUIET_LOOKS and all(one.outcome != "finding" for one in taken[-QUIET_LOOKS:])
    if quiet and last.strength < EMERGING and chance < ERROR:
        return f"{UNLIKELY}: the other {cap - last.bought} would find something new with a chance of {chance:.1%}"
    return None


def why_go_on(taken: Sequence[Look], cap: int) -> str:
    """The reason to buy another round, where there was none to stop."""
    last = taken[-1]
    if last.outcome == "finding":
        if len(taken) < STABLE_LOOKS or taken[-2].outcome != "finding":
            return "one look is not enough to call the finding stable"
        return f"no top theme is the same in {STABLE_LOOKS} looks and in {1 - ERROR:.0%} of resamples"
    if last.strength >= EMERGING:
        return f"a theme is emerging, at strength {last.strength:.1f} of the {STRONG:g} that a finding needs"
    chance = chance_of_change(last.bought, cap)
    return f"the other {cap - last.bought} may still find something, with a chance of {chance:.0%}"


def _stable(taken: Sequence[Look]) -> bool:
    recent = taken[-STABLE_LOOKS:]
    return (
        len(recent) == STABLE_LOOKS
        and all(one.outcome == "finding" for one in recent)
        and all(_share_a_theme(a, b) for a, b in pairwise(recent))
    )


def _share_a_theme(a: Look, b: Look) -> bool:
    return any(x.steady and y.steady and x.same(y) for x in a.themes for y in b.themes)


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
