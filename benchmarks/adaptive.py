"""The adaptive design replayed over pools: calls to detection, and what the stop rule does.

    python -m benchmarks.pools --seeds 0,1,2          # buys what this reads
    python -m benchmarks.adaptive --pools DIR         # prints the tables

A replay, not live runs: completions that were bought once are handed out again, in the order that each design
would have bought them, so that many runs cost nothing. A pool of 200 completions has 50 in each of four arms,
and the adaptive design can't take more of an arm than that, which works against it. To see more orders than
there are pools, each arm's completions are shuffled: a replay of a (pool, shuffle) is called a run below.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

from benchmarks.detection import NULLS, names
from benchmarks.pools import IDENTITY, SAME, default_dir, find_organisms
from blackbox_diff.analysis.analyse import analyse
from blackbox_diff.analysis.keywords import Keywords
from blackbox_diff.analysis.rank import rank
from blackbox_diff.design import allocation
from blackbox_diff.design.stopping import STABLE, Look, look, stop_reason
from blackbox_diff.records import ScoredCompletion
from blackbox_diff.run.collect import TARGET
from blackbox_diff.run.local import organisms_dir
from blackbox_diff.run.rounds import arm_records
from blackbox_diff.runfile.store import Store

TOP = 10
LEAST = 100  # completions of a pool that is worth replaying
CAP = 600  # completions that a replayed run believes it may buy


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool under one reference: an arm's rows in order; a row's score, and whether it matches."""

    organism: str
    arms: dict[str, list[ScoredCompletion]]
    control: dict[str, ScoredCompletion]
    score: dict[str, float]
    matches: set[str]

    def shuffled(self, seed: int) -> Pool:
        """Each arm in another order; 0 leaves it as it was bought."""
        rng = random.Random(seed)
        arms = {name: rng.sample(rows, len(rows)) if seed else rows for name, rows in self.arms.items()}
        return Pool(self.organism, arms, self.control, self.score, self.matches)


def read_pool(path: Path, reference: str, keywords: Keywords | None) -> Pool:
    with Store.open(path, read_only=True) as store:
        rows = [row for row in store.scored(TARGET) if reference in row.scores]
        control = {row.sample.id: row for row in store.scored(reference)}
    base = path.with_name(f"{IDENTITY}.{path.name.rsplit('.', 1)[1]}")
    if not control and (base / "run.sqlite").is_file():  # pools of a seed share their controls
        with Store.open(base, read_only=True) as store:
            control = {row.sample.id: row for row in store.scored(reference)}
    arms: dict[str, list[ScoredCompletion]] = {}
    for row in rows:
        arms.setdefault(row.sample.arm.name, []).append(row)
    ranking = rank(rows, reference, "score", with_segments=0)
    # A near-duplicate never stands in a ranking of its own, nor does a loop stand in the top.
    score = {row.id: row.value for row in ranking if "degenerate" not in row.flags}
    hit = {row.sample.id for row in rows if keywords is not None and keywords.match(row.completion.text)}
    return Pool(path.name.rsplit(".seed", 1)[0], dict(sorted(arms.items())), control, score, hit)


def first_match(pool: Pool, bought: Sequence[ScoredCompletion]) -> int | None:
    """Calls until a match is among the ten best; None if that never happens."""
    top: list[tuple[float, str]] = []
    for call, row in enumerate(bought, start=1):
        name = row.sample.id
        if name in pool.score:
            top = sorted([*top, (pool.score[name], name)], reverse=True)[:TOP]
        if any(each in pool.matches for _, each in top):
            return call
    return None


def equal(pool: Pool, seed: int) -> list[ScoredCompletion]:
    longest = max(map(len, pool.arms.values()))
    return [rows[k] for k in range(longest) for rows in pool.arms.values() if k < len(rows)]


def one_at_a_time(pool: Pool, seed: int) -> list[ScoredCompletion]:
    """The paper's design, scaled down; which arm comes first is chance."""
    names = list(pool.arms)
    random.Random(seed + 1).shuffle(names)
    return [row for name in names for row in pool.arms[name]]


def best_first(pool: Pool) -> list[ScoredCompletion]:
    """The arm in which most completions match, as if that were known: what no choice of arms can beat by much."""
    share = {
        name: -sum(row.sample.id in pool.matches for row in rows) / len(rows) for name, rows in pool.arms.items()
    }
    return [row for name in sorted(share, key=lambda name: share[name]) for row in pool.arms[name]]


@dataclass(slots=True)
class Run:
    """An adaptive replay: what it bought, in order, and what it saw."""

    bought: list[ScoredCompletion] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    matching: list[bool] = field(
        default_factory=list
    )  # per look: is a theme of the finding one of the objective's?
    stopped: str | None = None


def rounds(pool: Pool, reference: str, cap: int) -> Iterator[list[ScoredCompletion]]:
    """The adaptive design's rounds, never stopping early."""
    records = {name: allocation.ArmRecord(0, (), capacity=len(rows)) for name, rows in pool.arms.items()}
    bought: list[ScoredCompletion] = []
    while sum((given := allocation.next_round(records, cap)).values()):
        waiting = {name: iter(rows[records[name].tried :]) for name, rows in pool.arms.items()}
        now = [next(waiting[name]) for name in allocation.order(given, list(pool.arms))]
        bought += now
        ranking = rank(bought, reference, "score", with_segments=0)
        records = arm_records(records, given, ranking, _control(pool, bought), reference)
        yield now


def _control(pool: Pool, bought: Sequence[ScoredCompletion]) -> list[ScoredCompletion]:
    return [pool.control[row.sample.id] for row in bought if row.sample.id in pool.control]


def replay(pool: Pool, reference: str, keywords: Keywords | None) -> Run:
    """An adaptive run with its stop rule, under a cap of CAP; it ends with the pool at the latest."""
    run = Run()
    for now in rounds(pool, reference, sum(map(len, pool.arms.values()))):
        run.bought += now
        analysis = analyse(run.bought, _control(pool, run.bought), reference)
        run.looks.append(look(analysis, len(run.bought)))
        run.matching.append(
            analysis.verdict.outcome == "finding"
            and keywords is not None
            and any(names(theme, analysis.ranking, keywords) for theme in (*analysis.themes, *analysis.signals))
        )
        run.stopped = stop_reason(run.looks, CAP)
        if run.stopped is not None:
            break
    return run


def equal_finding(pool: Pool, reference: str) -> int | None:
    """Completions bought in equal shares at the first look, of the sizes of adaptive rounds, that is a finding."""
    bought, size = equal(pool, 0), 0
    while size < len(bought):
        size = min(size + allocation.round_size(size, len(pool.arms)), len(bought))
        seen = bought[:size]
        if analyse(seen, _control(pool, seen), reference).verdict.outcome == "finding":
            return size
    return None


def median(values: Sequence[int | None], cap: int) -> str:
    there = [cap if value is None else value for value in values]
    missing = sum(value is None for value in values)
    return f"{np.median(there):.0f}" + (f" ({missing} never)" if missing else "")


def calls_table(pools: Mapping[str, Sequence[Pool]], reference: str, shuffles: int) -> Iterator[str]:
    yield (
        "| organism | runs | adaptive | equal shares | one arm at a time | best arm, if known | adaptive / equal "
        "| within 200 |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    ratios: dict[str, list[float]] = {"adaptive": [], "single": [], "best": []}
    for organism, own in pools.items():
        if organism in NULLS:
            continue
        found: dict[str, list[int | None]] = {"adaptive": [], "equal": [], "single": [], "best": []}
        cap = 0
        for pool in own:
            for seed in range(shuffles):
                mixed = pool.shuffled(seed)
                cap = max(cap, len(equal(mixed, seed)))
                bought = [row for now in rounds(mixed, reference, cap) for row in now]
                found["adaptive"].append(first_match(mixed, bought))
                found["equal"].append(first_match(mixed, equal(mixed, seed)))
                found["single"].append(first_match(mixed, one_at_a_time(mixed, seed)))
                found["best"].append(first_match(mixed, best_first(mixed)))
        means = {name: float(np.mean([cap if x is None else x for x in each])) for name, each in found.items()}
        for name, ratio in ratios.items():
            ratio.append(means[name] / means["equal"])
        quick = sum(x is not None and x <= 200 for x in found["adaptive"])
        runs = len(found["equal"])
        medians = " | ".join(median(each, cap) for each in found.values())
        yield f"| {organism} | {runs} | {medians} | {ratios['adaptive'][-1]:.2f} | {quick} of {runs} |"
    yield ""
    yield (
        "Ratio to equal shares, mean over organisms: adaptive {adaptive:.2f}, one arm at a time {single:.2f}, "
        "the best arm, if known, {best:.2f}.".format(**{name: np.mean(each) for name, each in ratios.items()})
    )


def stop_table(
    pools: Mapping[str, Sequence[Pool]], reference: str, shuffles: int, keywords: Mapping[str, Keywords]
) -> Iterator[str]:
    yield (
        "| organism | runs | claim a finding | first at | equal shares: first at | with its theme | stops at "
        "| stop / first |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for organism, own in pools.items():
        mixed = [pool.shuffled(seed) for pool in own for seed in range(shuffles)]
        runs = [replay(pool, reference, keywords.get(organism)) for pool in mixed]
        fixed = [equal_finding(pool, reference) for pool in mixed] if organism not in NULLS else []
        firsts = [next((one.bought for one in run.looks if one.outcome == "finding"), None) for run in runs]
        claims = sum(run.looks[-1].outcome == "finding" for run in runs)
        themed = sum(any(run.matching) for run in runs)
        stable = [run for run in runs if run.stopped is not None and run.stopped.startswith(STABLE)]
        ratios = [
            len(run.bought) / first
            for run, first in zip(runs, firsts, strict=True)
            if first is not None and run in stable
        ]
        there = [first for first in firsts if first is not None]
        yield (
            f"| {organism} | {len(runs)} | {claims} | {np.median(there) if there else '–'} "
            f"| {median(fixed, CAP) if fixed else '–'} "
            f"| {themed if organism not in NULLS else '–'} | {np.median([len(run.bought) for run in runs]):.0f} "
            f"| {f'{np.median(ratios):.2f}' if ratios else '–'} |"
        )


@click.command(help=__doc__)
@click.option("--pools", "directory", type=click.Path(path_type=Path, exists=True), default=default_dir)
@click.option("--reference", default=SAME, show_default=True)
@click.option("--shuffles", default=10, show_default=True, help="Orders of each pool for the calls.")
@click.option("--stop-shuffles", default=3, show_default=True, help="Orders of each pool for the stop rule.")
@click.option("--least", default=LEAST, show_default=True, help="Completions a pool must have.")
@click.option("--organisms", "roots", type=click.Path(path_type=Path, exists=True), multiple=True)
def main(
    directory: Path, reference: str, shuffles: int, stop_shuffles: int, least: int, roots: tuple[Path, ...]
) -> None:
    cards = find_organisms([organisms_dir(), *roots])
    keywords = {name: Keywords.read(path / "card.json") for name, path in cards.items() if name not in NULLS}
    pools: dict[str, list[Pool]] = {}
    for path in sorted(directory.glob("*.seed*")):
        name = path.name.rsplit(".seed", 1)[0]
        pool = read_pool(path, reference, keywords.get(name))
        if len(equal(pool, 0)) >= least:
            pools.setdefault(name, []).append(pool)
    print(
        f"Reference {reference}; " + ", ".join(f"{name} {len(own)}" for name, own in pools.items()) + " pools.\n"
    )
    for table in (
        calls_table(pools, reference, shuffles),
        stop_table(pools, reference, stop_shuffles, keywords),
    ):
        for line in table:
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
