"""The validation lane over pools: do the themes of finished runs come back on fresh completions?

    python -m benchmarks.pools --seeds 0,1,2                     # buys what this reads
    python -m benchmarks.validate --pools DIR base benign backdoor ...

Live: every pool is copied, and target and reference complete the contexts of its strongest themes on the bundled
server until each is confirmed or given up, as `resume RUN --validation N` would. The pools themselves stay as
they are. Prints one row per theme.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click

from benchmarks.pools import IDENTITY, SAME, adapter_arguments, default_dir, find_organisms, pool_config, pool_path
from benchmarks.pools import Design as PoolDesign
from blackbox_diff.buying import limits
from blackbox_diff.findings import Validation
from blackbox_diff.report.wording import validated
from blackbox_diff.run import commands
from blackbox_diff.run.local import organisms_dir, serve
from blackbox_diff.run.results import read_run
from blackbox_diff.runfile.store import Store


def validate(pool: Path, url: str, model: str, number: int) -> tuple[Validation, ...]:
    """What fresh completions say of the pool's themes; `number` of them a side."""
    seed = int(pool.name.rpartition(".seed")[2])
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / pool.name
        shutil.copytree(pool, run)
        with Store.open(run) as store:
            bought = PoolDesign(completions=store.config.completions, control=store.config.control)
            config = pool_config(url, model, seed, bought).model_copy(update={"validation": number})
            store.set_state(replace(store.state, config=config, stopped_because=None, references=()))
        limits.START = config.concurrency  # the server is ours and hides no limit to be found out
        asyncio.run(commands.go_on(run, {}))
        return read_run(run, reference=SAME).analysis.validation


def rows(
    pools: Path, adapters: dict[str, Path], names: Sequence[str], seeds: Sequence[int], number: int
) -> Iterator[str]:
    yield "| organism | seed | theme | outcome |"
    yield "|---|---|---|---|"
    with serve(["--model", f"{SAME}={SAME}", *adapter_arguments(names, adapters)]) as url:
        for name in names:
            for seed in seeds:
                found = validate(pool_path(pools, name, seed), url, SAME if name == IDENTITY else name, number)
                for theme in found:
                    yield f"| {name} | {seed} | “{theme.phrase}” | {validated(theme)} |"
                if not found:
                    yield f"| {name} | {seed} | none | – |"


@click.command(help=__doc__)
@click.argument("names", nargs=-1, required=True)
@click.option("--pools", type=click.Path(path_type=Path, exists=True), default=default_dir)
@click.option("--organisms", "roots", type=click.Path(path_type=Path, exists=True), multiple=True)
@click.option("--seeds", default="0", show_default=True, help="Sampling seeds, with commas.")
@click.option("--validation", default=160, show_default=True, help="Fresh completions a side, at most.")
def main(names: tuple[str, ...], pools: Path, roots: tuple[Path, ...], seeds: str, validation: int) -> None:
    adapters = find_organisms([organisms_dir(), *roots])
    for line in rows(pools, adapters, names, [int(seed) for seed in seeds.split(",")], validation):
        print(line, flush=True)


if __name__ == "__main__":
    main()
