"""Adaptive audits from start to end, live: verdict, stop rule and validation on completions bought for each run.

    python -m benchmarks.live --seeds 100-119 benign
    python -m benchmarks.live --seeds 5 false-fact loyalty backdoor

Every run is `audit --adaptive --source prose --source code --seed SEED` with the bundled base as the reference,
from one server that holds the base and all adapters. Nothing is shared between runs. Prints one row per run.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click

from benchmarks.detection import NULLS, names
from benchmarks.pools import IDENTITY, SAME, Design, adapter_arguments, find_organisms, pool_config
from blackbox_diff.analysis.keywords import Keywords
from blackbox_diff.buying import limits
from blackbox_diff.report.wording import validated
from blackbox_diff.run import commands
from blackbox_diff.run.collect import TARGET
from blackbox_diff.run.local import organisms_dir, serve
from blackbox_diff.run.results import read_run
from blackbox_diff.runfile.store import Store


def row(url: str, name: str, seed: int, completions: int, number: int, keywords: Keywords | None) -> str:
    """Buy one run and say how it came out."""
    config = pool_config(
        url, SAME if name == IDENTITY else name, seed, Design(completions=completions)
    ).model_copy(update={"adaptive": True, "control": None, "validation": number})
    limits.START = config.concurrency  # the server is ours and hides no limit to be found out
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        asyncio.run(commands.start(config, run))
        found = read_run(run, reference=SAME)
        with Store.open(run, read_only=True) as store:
            bought = len(store.outcomes(TARGET))
            calls = store.spent(TARGET).calls
    analysis = found.analysis
    top = sum(keywords.match(each.completion) for each in analysis.ranking[:10]) if keywords else "–"
    named = (
        any(names(theme, analysis.ranking, keywords) for theme in (*analysis.themes, *analysis.signals))
        if keywords
        else "–"
    )
    lanes = "; ".join(f"“{each.phrase}” {validated(each)}" for each in analysis.validation) or "no theme"
    return (
        f"| {name} | {seed} | {bought} | {calls} | {analysis.verdict.outcome} | {top} | {named} "
        f"| {sum(each.confirmed for each in analysis.validation)} | {lanes} |"
    )


def rows(
    organisms: Sequence[str], adapters: dict[str, Path], seeds: Sequence[int], completions: int, number: int,
    at_once: int,
) -> Iterator[str]:  # fmt: skip
    yield (
        "| organism | seed | completions | calls | verdict | count@10 | theme names it | themes confirmed "
        "| validation |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    cards = {name: None if name in NULLS else Keywords.read(adapters[name] / "card.json") for name in organisms}
    arguments = ["--model", f"{SAME}={SAME}", *adapter_arguments(organisms, adapters)]
    with serve(arguments) as url, ProcessPoolExecutor(at_once) as pool:  # a process each: runs handle signals
        found = [
            pool.submit(row, url, name, seed, completions, number, cards[name])
            for name in organisms
            for seed in seeds
        ]
        yield from (each.result() for each in found)


@click.command(help=__doc__)
@click.argument("organisms", nargs=-1, required=True)
@click.option("--organisms", "roots", type=click.Path(path_type=Path, exists=True), multiple=True)
@click.option("--seeds", default="0", show_default=True, help="One, or FIRST-LAST.")
@click.option("--completions", default=300, show_default=True, help="The cap of each run.")
@click.option("--validation", default=160, show_default=True, help="Fresh completions a side, at most.")
@click.option("--at-once", default=4, show_default=True, help="Runs side by side; a round alone leaves room.")
def main(
    organisms: tuple[str, ...],
    roots: tuple[Path, ...],
    seeds: str,
    completions: int,
    validation: int,
    at_once: int,
) -> None:
    first, _, last = seeds.partition("-")
    adapters = find_organisms([organisms_dir(), *roots])
    wanted = range(int(first), int(last or first) + 1)
    for line in rows(organisms, adapters, wanted, completions, validation, at_once):
        print(line, flush=True)


if __name__ == "__main__":
    main()
