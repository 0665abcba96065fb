"""Where the next calls go: arms are bought in rounds, and a round goes where the last ones found most.

Pure: what an arm has given goes in, the next round's allocation comes out. Nothing is drawn at random, so
the same replies give the same rounds.

The reward needs no labels. A completion's excess is its score above what the arm's control reaches; of all
excesses, each arm counting the same, the upper tail is rewarded, from 0 where the tail begins to 1 at the
mean of the best few. Near-duplicates, loops, refusals and failed calls are tries without reward. Each arm's
reward is a Beta posterior (fractional rewards as in Agrawal & Goyal 2012, arXiv 1111.1797), and an arm gets
the share of a round that its probability of being the best arm says. That is what Thompson sampling does
on average (Thompson 1933), without its noise. A floor keeps every arm alive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FIRST_ROUND = 32  # completions, shared equally; enough for a first verdict
FIRST_PER_ARM = 8
LEAST_ROUND = 16
GROWTH = 0.2  # a round is a fifth of what is bought already, so that a look costs little and comes in time
FLOOR = 0.2  # share of a round that is split equally, whatever the arms have given
TAIL = 0.8  # quantile of the excess from which on a completion is rewarded
BEST = 3  # completions whose mean excess is worth the whole reward
CONTROL_TAIL = 0.95  # quantile of an arm's control that a score is measured from
GRID = 500  # points of the numerical integral

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ArmRecord:
    """What one arm has given so far.

    tried: samples that are decided: scored, refused or failed.
    scores: of its completions, near-duplicates and degenerate loops left out; nats per token, shrunk.
    control: scores of the control's completions in this arm; may be empty.
    capacity: samples that the arm holds in all; None for no limit.
    """

    tried: int
    scores: tuple[float, ...]
    control: tuple[float, ...] = ()
    capacity: int | None = None

    @property
    def left(self) -> float:
        return math.inf if self.capacity is None else self.capacity - self.tried


def round_size(bought: int, arms: int) -> int:
    """Completions in the next round, whatever the cap: a larger cap only adds rounds."""
    if bought == 0:
        return max(FIRST_ROUND, FIRST_PER_ARM * arms)
    return max(LEAST_ROUND, math.ceil(GROWTH * bought))


def next_round(records: Mapping[str, ArmRecord], cap: int) -> dict[str, int]:
    """Completions to buy per arm, in all at most `cap` less those tried; all zero where nothing is left.

    Every arm gets at least its part of the floor, as far as whole numbers and its capacity allow.
    """
    bought = sum(record.tried for record in records.values())
    size = min(round_size(bought, len(records)), cap - bought)
    return allocate(probabilities(records), {name: record.left for name, record in records.items()}, size)


def probabilities(records: Mapping[str, ArmRecord]) -> dict[str, float]:
    """Probability of each arm that its expected reward is the highest; equal before anything is bought."""
    names = list(records)
    reward = rewards(records)
    x = (np.arange(GRID) + 0.5) / GRID
    density, below = [], []
    for name in names:
        won, tried = reward[name], max(records[name].tried, reward[name])
        log = won * np.log(x) + (tried - won) * np.log1p(-x)  # a uniform prior
        part = np.exp(log - log.max())
        part /= part.sum()
        density.append(part)
        below.append(np.cumsum(part) - part / 2)
    best = np.empty(len(names))
    for k in range(len(names)):
        others = [other for j, other in enumerate(below) if j != k]
        best[k] = float((density[k] * np.prod(others, axis=0)).sum()) if others else 1.0
    best /= best.sum()
    return dict(zip(names, best.tolist(), strict=True))


def rewards(records: Mapping[str, ArmRecord]) -> dict[str, float]:
    """Summed reward of each arm: between 0 and its number of scores."""
    excess = {name: _excess(record) for name, record in records.items()}
    pooled = np.concatenate([*excess.values(), np.empty(0)])
    if not pooled.size:
        return dict.fromkeys(records, 0.0)
    weights = np.concatenate([np.full(part.size, 1 / max(part.size, 1)) for part in excess.values()])
    order = np.argsort(pooled, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    start = float(pooled[order][np.searchsorted(reached, TAIL)]) if pooled.size > 1 else 0.0
    width = float(np.sort(pooled)[-BEST:].mean()) - start
    if width <= 0:
        return dict.fromkeys(records, 0.0)
    return {name: float(np.clip((part - start) / width, 0, 1).sum()) for name, part in excess.items()}


def _excess(record: ArmRecord) -> Floats:
    scores = np.asarray(record.scores, dtype=np.float64)
    return scores - (float(np.quantile(record.control, CONTROL_TAIL)) if record.control else 0.0)


def allocate(wanted: Mapping[str, float], left: Mapping[str, float], size: int) -> dict[str, int]:
    """`size` places by the shares in `wanted` above an equal floor; an arm never gets more than it has `left`.

    One place after the other goes to the arm that lags its share most, so a larger size only adds.
    """
    names = list(wanted)
    share = {name: FLOOR / len(names) + (1 - FLOOR) * wanted[name] for name in names}
    given = dict.fromkeys(names, 0)
    for place in range(1, size + 1):
        open_arms = [name for name in names if given[name] < left[name]]
        if not open_arms:
            break
        total = sum(share[name] for name in open_arms)
        lag = [share[name] / total * place - given[name] for name in open_arms]
        given[open_arms[max(range(len(lag)), key=lag.__getitem__)]] += 1
    return given


def order(given: Mapping[str, int], names: Sequence[str]) -> list[str]:
    """The round as a sequence of arms, spread evenly, so that a round cut short is still in proportion."""
    places = [((k + 0.5) / given[name], at, name) for at, name in enumerate(names) for k in range(given[name])]
    return [name for _, _, name in sorted(places)]
