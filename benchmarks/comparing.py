"""How often does `compare` say "changed" of two runs of one model, and of two models?

    python -m benchmarks.pools --pools DIR --seeds 0,1 --control 0 --no-foreign base flattery loyalty
    python -m benchmarks.comparing --pools DIR base:base base:flattery base:loyalty

OLD:NEW are names of pools. Each is cut into parts of --size completions, which are compared as if each were a
run of its own: parts have no prefill in common, as runs of two seeds have none, or the same ones, as two audits of
one seed have. NAME:NAME is one model: each part against itself, and against every other one. Prints a Markdown
table of how many pairs were said to have changed, and of why: first tokens, words or gap. Pairs share parts,
so they are no independent trials.
"""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import click

from benchmarks.pools import default_dir, is_finished
from blackbox_diff.fleet.compare import Comparison, Read, compare_reads, read_for_comparison
from blackbox_diff.records import Sample

REASONS = {"first tokens": "first tokens", "words": "became commoner", "gap": "mean gap moved"}


@dataclass(frozen=True, slots=True)
class Part:
    """Some completions of a pool. `prefills` is equal where another pool's part asked the same."""

    read: Read
    prefills: tuple[int, int]  # seed, and which part


def _within_arm(sample: Sample) -> int:
    return int(sample.id.rsplit(".", 1)[1])


def cut(read: Read, seed: int, size: int) -> Iterator[Part]:
    """The first `size` completions that were asked for, as many of each arm, then the next, and so on."""
    each = size // len(set(read.arms))
    asked = 1 + max(map(_within_arm, read.samples))
    for k in range(asked // each):
        kept = [place for place, sample in enumerate(read.samples) if _within_arm(sample) // each == k]
        samples = tuple(read.samples[place] for place in kept)
        ids, prompts = {sample.id for sample in samples}, {(s.prefill, s.arm.framing) for s in samples}
        part = replace(
            read,
            rows=tuple(row for row in read.rows if row.sample.id in ids),
            samples=samples,
            texts=tuple(read.texts[place] for place in kept),
            first={key: listed for key, listed in read.first.items() if key in prompts},
        )
        yield Part(part, (seed, k))


def parts_of(pools: Path, name: str, size: int) -> list[Part]:
    """All parts of the finished pools of that name."""
    found: list[Part] = []
    for path in sorted(pools.iterdir()):
        named = re.fullmatch(rf"{re.escape(name)}\.seed(\d+)", path.name)
        if named and is_finished(path):
            read = read_for_comparison(path)
            found += cut(read, int(named[1]), size)
    return found


def line(old: str, new: str, prefills: str, found: Sequence[Comparison], seconds: float) -> str:
    changed, n = sum(each.outcome == "changed" for each in found), len(found)
    why = Counter(name for each in found for name, said in REASONS.items() if said in " ".join(each.reasons))
    reasons = " | ".join(str(why[name]) for name in REASONS)
    return f"| {old} | {new} | {prefills} | {changed} of {n} ({changed / n:.0%}) | {reasons} | {seconds / n:.1f} |"


def lines(pools: Path, pairs: Sequence[tuple[str, str]], size: int) -> Iterator[str]:
    yield f"| old | new | prefills | changed | {' | '.join(REASONS)} | s a pair |"
    yield "|" + "---|" * (5 + len(REASONS))
    for old, new in pairs:
        olds = parts_of(pools, old, size)
        news = olds if old == new else parts_of(pools, new, size)
        if not olds or not news:
            raise click.UsageError(f"{pools} has no finished pool of {old if not olds else new}")
        kinds: dict[str, list[tuple[Part, Part]]] = defaultdict(list)
        for one, other in product(olds, news):
            same = one.prefills == other.prefills
            if same or old != new or one.prefills < other.prefills:
                kinds["the same" if same else "others"].append((one, other))
        for kind, chosen in kinds.items():
            began = time.monotonic()
            found = [compare_reads(one.read, other.read, seed=k) for k, (one, other) in enumerate(chosen)]
            yield line(old, new, kind, found, time.monotonic() - began)


@click.command(help=__doc__)
@click.argument("pairs", nargs=-1, required=True, metavar="OLD:NEW...")
@click.option("--pools", type=click.Path(path_type=Path), default=default_dir, help="Where the pools are kept.")
@click.option("--size", default=120, show_default=True, help="Completions of a part.")
def main(pairs: tuple[str, ...], pools: Path, size: int) -> None:
    for text in lines(pools, [(old, new) for old, _, new in (pair.partition(":") for pair in pairs)], size):
        click.echo(text)


if __name__ == "__main__":
    main()
