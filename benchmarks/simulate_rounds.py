"""Adaptive rounds at paper scale, with no model: what the controller would save on organisms like the published.

    python -m benchmarks.simulate_rounds

54 organisms have the rates of flagged completions that the 54 published ones are known by: log-normal, median
1.1%, quartiles 0.16% and 4.8%. Four arms hold 10,000 completions each. As in the published tables, half of the
organisms (trained on documents) leak at their rate in raw and at half of it in chat, the others (trained on
transcripts) at their rate in chat and a fifth of it in raw; code leaks at 0.6 of prose. A score is normal with
unit variance, and `separation` higher where the completion is flagged. The scores are made up; the controller
is the package's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import NormalDist

import click
import numpy as np
from numpy.typing import NDArray

from blackbox_diff.design.allocation import ArmRecord, next_round, order
from blackbox_diff.design.stopping import MEDIAN_RATE, QUARTILES

ARMS = ("prose/raw", "prose/chat", "code/raw", "code/chat")
PER_ARM = 10_000
ORGANISMS = 54
TOP, NEEDED = 10, 3

Arms = dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]  # scores and flags, in order


def rates() -> list[float]:
    """Flagged share of each organism in its best framing."""
    spread = np.log(QUARTILES[1] / QUARTILES[0]) / (2 * 0.67449)
    z = [NormalDist().inv_cdf((k + 0.5) / ORGANISMS) for k in range(ORGANISMS)]
    return [float(min(1.0, MEDIAN_RATE * np.exp(spread * each))) for each in z]


def organism(rate: float, documents: bool, separation: float, rng: np.random.Generator) -> Arms:
    found = {}
    for arm in ARMS:
        share = rate * (0.6 if arm.startswith("code") else 1.0)
        if arm.endswith("chat") == documents:
            share *= 0.5 if documents else 0.2
        flags = rng.random(PER_ARM) < share
        found[arm] = (rng.normal(0, 1, PER_ARM) + separation * flags, flags)
    return found


def adaptive(arms: Arms, rng: np.random.Generator) -> Iterator[str]:
    """Arms in the order that the controller buys from them."""
    records = {arm: ArmRecord(0, (), capacity=PER_ARM) for arm in ARMS}
    while sum((given := next_round(records, PER_ARM * len(ARMS))).values()):
        yield from order(given, ARMS)
        tried = {arm: records[arm].tried + given[arm] for arm in ARMS}
        records = {
            arm: ArmRecord(tried[arm], tuple(arms[arm][0][: tried[arm]].tolist()), capacity=PER_ARM)
            for arm in ARMS
        }


def equal(arms: Arms, rng: np.random.Generator) -> Iterator[str]:
    for _ in range(PER_ARM):
        yield from ARMS


def one_at_a_time(arms: Arms, rng: np.random.Generator) -> Iterator[str]:
    """The paper's design; which arm is first is chance."""
    for arm in rng.permutation(ARMS):
        for _ in range(PER_ARM):
            yield str(arm)


def oracle(arms: Arms, rng: np.random.Generator) -> Iterator[str]:
    """The best arm first, as if it were known: no choice of arms can do better on average."""
    for arm in sorted(ARMS, key=lambda name: -int(arms[name][1].sum())):
        for _ in range(PER_ARM):
            yield arm


DESIGNS: dict[str, Callable[[Arms, np.random.Generator], Iterator[str]]] = {
    "adaptive": adaptive, "equal shares": equal, "one arm at a time": one_at_a_time,
    "the best arm, were it known": oracle,
}  # fmt: skip


def calls(design: Iterator[str], arms: Arms) -> tuple[int, int]:
    """Calls until a flagged completion is in the top ten, and until NEEDED are bought; the cap if never."""
    cap = PER_ARM * len(ARMS)
    place = dict.fromkeys(ARMS, 0)
    top: list[tuple[float, bool]] = []
    first, hits = 0, 0
    for call, arm in enumerate(design, start=1):
        score, flagged = arms[arm][0][place[arm]], bool(arms[arm][1][place[arm]])
        place[arm] += 1
        hits += flagged
        if not first:
            if len(top) < TOP or score > top[-1][0]:
                top = sorted([*top, (float(score), flagged)], reverse=True)[:TOP]
            if any(each for _, each in top):
                first = call
        if first and hits >= NEEDED:
            return first, call
    return first or cap, cap


@click.command(help=__doc__)
@click.option("--seeds", default=10, show_default=True)
@click.option("--separation", "separations", multiple=True, default=(2.0, 3.0), show_default=True)
def main(seeds: int, separations: tuple[float, ...]) -> None:
    print("| separation | design | first match in the top 10: median calls | mean | third match: median | mean |")
    print("|---|---|---|---|---|---|")
    for separation in separations:
        found: dict[str, list[tuple[int, int]]] = {name: [] for name in DESIGNS}
        for number, rate in enumerate(rates()):
            for seed in range(seeds):
                rng = np.random.default_rng([seed, number])
                arms = organism(rate, number % 2 == 0, separation, rng)
                for name, design in DESIGNS.items():
                    found[name].append(calls(design(arms, rng), arms))
        for name, pairs in found.items():
            first, third = np.asarray(pairs).T
            cells = [f"{np.median(first):,.0f}", f"{first.mean():,.0f}", f"{np.median(third):,.0f}"]
            print(f"| {separation:g} | {name} | {' | '.join(cells)} | {third.mean():,.0f} |", flush=True)


if __name__ == "__main__":
    main()
