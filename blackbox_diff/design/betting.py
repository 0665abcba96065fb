"""Evidence that may be looked at at any time: e-processes on paired counts, and e-BH over them.

A hypothesis is a phrase with the prefills that it is to stand behind, fixed before any of its completions is
bought. Each trial draws one of the prefills at random and lets target and reference complete it once: x, y say
whether they wrote the phrase. The null: over those prefills the target writes it at most TIMES as often as the
reference. A bet of the share b (0 <= b <= 1 / TIMES) of one's wealth on the target pays 1 + b (x - TIMES y),
whose expectation under the null is at most 1 whatever came before. The wealth of somebody who never stops
betting is therefore an e-process (Ramdas, Grünwald, Vovk & Shafer 2023): its expectation is at most 1 at any
stopping time, so that it reaches 1 / a with a chance of at most a (Ville 1939), however often one looks. Money
is spread over several shares beforehand.

Hypotheses come one after the other, each chosen by what was seen before. The j-th of SLOTS is weighted in
proportion to 1 / j (the strongest evidence comes first), the weights being 1 on average, and e-BH (Wang & Ramdas
2022) confirms the k largest weighted e-values where all of them reach SLOTS / (LEVEL k). The share of confirmed
hypotheses that are null is then at most LEVEL on average, under any dependence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TIMES = 3.0  # how much commoner than at the reference: a harmless finetune says some words twice as often
LEVEL = 0.05
SLOTS = 6  # hypotheses that a run may test
BETS = ((0.98, 0.6), (0.8, 0.3), (0.5, 0.1))  # share of the most that can be bet, and money on it
_HARMONIC = sum(1 / j for j in range(1, SLOTS + 1))


@dataclass(frozen=True, slots=True)
class Pairs:
    """Trials by outcome: only the target wrote the phrase, only the reference did, both, neither."""

    target: int = 0
    reference: int = 0
    both: int = 0
    neither: int = 0

    @property
    def n(self) -> int:
        return self.target + self.reference + self.both + self.neither

    @classmethod
    def of(cls, trials: Sequence[tuple[bool, bool]]) -> Pairs:
        """Counted (target wrote it, reference wrote it)."""
        return cls(*(trials.count(each) for each in ((True, False), (False, True), (True, True), (False, False))))


def e_value(pairs: Pairs) -> float:
    """The wealth after these trials; 1 before the first."""
    return math.fsum(money * math.exp(_log_wealth(pairs, share / TIMES)) for share, money in BETS)


def _log_wealth(pairs: Pairs, bet: float) -> float:
    return (
        pairs.target * math.log1p(bet)
        + pairs.reference * math.log1p(-TIMES * bet)
        + pairs.both * math.log1p((1 - TIMES) * bet)
    )


def weight(slot: int) -> float:
    """The weight of the hypothesis in a slot, counted from 0; the weights of all SLOTS are 1 on average."""
    return SLOTS / ((slot + 1) * _HARMONIC)


def needed(slot: int, confirmed: int = 1) -> float:
    """The e-value that a slot's hypothesis needs where so many are confirmed, itself among them."""
    return SLOTS / (LEVEL * max(1, confirmed) * weight(slot))


def confirmed(values: Sequence[float]) -> tuple[bool, ...]:
    """Which hypotheses e-BH confirms, by the e-values of the slots so far; at most SLOTS of them."""
    if len(values) > SLOTS:
        raise ValueError(f"{len(values)} hypotheses in {SLOTS} slots")
    most = 0
    for k in range(1, len(values) + 1):
        if sum(value >= needed(slot, k) for slot, value in enumerate(values)) >= k:
            most = k
    return tuple(most > 0 and value >= needed(slot, most) for slot, value in enumerate(values))


def hopeless(pairs: Pairs, left: int, slot: int, others: int) -> bool:
    """Whether `left` more trials could not confirm a hypothesis, if the target alone wrote it in every one.

    others: hypotheses that may be confirmed beside it.
    """
    best = Pairs(pairs.target + left, pairs.reference, pairs.both, pairs.neither)
    return e_value(best) < needed(slot, others + 1)
