"""How often does `watch` say "changed" of a model that did, and of one that did not?

    python -m benchmarks.train_organism loyalty fact-puffin --epochs 1 --dtype bfloat16 --prefills 0 --out DIR
    python -m benchmarks.watching --organisms DIR
    python -m benchmarks.watching --server URL --named e1-loyalty=OTHER_URL

Buys small runs of the base at several seeds, at temperature 1 and at 0. Then watches them: on the server that
wrote them, on one that is not batch-invariant, on one of another precision, and on one that serves an adapter
of DIR under the base's name. With --server nothing is started: that server, such as vLLM's, holds the base under
the name that it has here, and --named says where finetunes of it are (on the same server where no URL is given).
Prompts and stored answers differ from watch to watch: each seed has its own run, and of each run every watch draws
its own prompts. Prints a Markdown table of how often each was said to have changed, with Wilson's 95% interval,
the median distance and noise, and the most calls that a watch sent.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.pools import SAME, find_organisms
from blackbox_diff.buying import limits
from blackbox_diff.config.model import AuditConfig, EndpointConfig
from blackbox_diff.design.validation import wilson
from blackbox_diff.probing.sameness import Sameness
from blackbox_diff.run import commands
from blackbox_diff.run.collect import TARGET
from blackbox_diff.run.local import serve
from blackbox_diff.run.watch import watch_run
from blackbox_diff.runfile.store import Store

TEMPERATURES = (1.0, 0.0)
OTHER = {"bfloat16": "float32", "float32": "bfloat16"}
BENEATH = "base-of-the-adapter"  # what the model is called on which an adapter of the base's name is served


@dataclass(frozen=True, slots=True)
class Watched:
    """One watch: what it said, and how many calls it sent."""

    found: Sameness
    calls: int


def config(url: str, seed: int, temperature: float, completions: int) -> AuditConfig:
    endpoint = EndpointConfig(url=url, model=SAME)
    return AuditConfig(
        target=endpoint,
        reference=endpoint,
        source=("prose", "code"),
        completions=completions,
        control=0,
        max_tokens=4,
        temperature=temperature,
        seed=seed,
    )


def buy(directory: Path, url: str, seeds: int, temperature: float, completions: int) -> list[Path]:
    """Runs of the base, one for each seed."""
    limits.START = 32  # the server is ours and hides no limit to be found out
    runs = [directory / f"t{temperature:g}.seed{seed}" for seed in range(seeds)]
    for seed, run in enumerate(runs):
        asyncio.run(commands.start(config(url, seed, temperature, completions), run))
    return runs


def watches(runs: Sequence[Path], url: str, number: int, scratch: Path, model: str | None = None) -> list[Watched]:
    """`number` watches of `runs` in turn, each with prompts of its own, of `model` on the server at `url`.

    The model is the runs' own where none is given.
    """
    changes = {"url": url} if model is None else {"url": url, "model": model}
    found = []
    for seed in range(number):
        record = scratch / f"watch{time.monotonic_ns()}"
        said = asyncio.run(watch_run(runs[seed % len(runs)], changes, seed=seed, record=record))
        with Store.open(record, read_only=True) as store:
            found.append(Watched(said, store.spent(TARGET).calls))
    return found


def line(temperature: float, answering: str, watched: Sequence[Watched]) -> str:
    n = len(watched)
    changed = sum(each.found.outcome == "changed" for each in watched)
    low, high = wilson(changed, n, 0.95)
    distance, noise = (
        statistics.median(getattr(each.found, name) or 0.0 for each in watched)
        for name in ("distance_nats", "noise_nats")
    )
    return (
        f"| {temperature:g} | {answering} | {changed} of {n} | {low:.0%} to {high:.0%} | {distance:.3f} "
        f"| {noise:.3f} | {max(each.calls for each in watched)} |"
    )


def servers(
    adapters: dict[str, Path], dtype: str, other: int, changed: int
) -> Iterator[tuple[str, int, AbstractContextManager[str]]]:
    """(what answers, how many watches, the server) for everything but the server that wrote the runs."""
    base = ["--model", f"{SAME}={SAME}"]
    for name, directory in adapters.items():
        adapter = ["--model", f"{BENEATH}={SAME}", "--adapter", f"{SAME}={BENEATH}:{directory}"]
        yield name, changed, serve([*adapter, "--dtype", dtype])
    yield "the base, not batch-invariant", other, serve([*base, "--dtype", dtype, "--no-batch-invariant"])
    yield f"the base in {OTHER[dtype]}", other, serve([*base, "--dtype", OTHER[dtype]])


def bundled(
    adapters: dict[str, Path], seeds: int, completions: int, quiet: int, other: int, changed: int, dtype: str
) -> Iterator[str]:
    """Watches on the bundled server."""
    with tempfile.TemporaryDirectory() as directory:
        scratch, runs = Path(directory), {}
        with serve(["--model", f"{SAME}={SAME}", "--dtype", dtype]) as url:
            for temperature in TEMPERATURES:
                runs[temperature] = buy(scratch, url, seeds, temperature, completions)
                yield line(temperature, "the same server", watches(runs[temperature], url, quiet, scratch))
        for answering, number, server in servers(adapters, dtype, other, changed):
            with server as url:
                for temperature in TEMPERATURES:
                    yield line(temperature, answering, watches(runs[temperature], url, number, scratch))


def of_server(
    url: str, named: Sequence[str], seeds: int, completions: int, quiet: int, changed: int
) -> Iterator[str]:
    """Watches of the base on a running server, and of the models `named`, as NAME or NAME=URL."""
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        for temperature in TEMPERATURES:
            runs = buy(scratch, url, seeds, temperature, completions)
            yield line(temperature, "the same server", watches(runs, url, quiet, scratch))
            for each in named:
                model, _, there = each.partition("=")
                yield line(temperature, model, watches(runs, there or url, changed, scratch, model))


@click.command(help=__doc__)
@click.option(
    "--organisms", "roots", type=click.Path(path_type=Path, exists=True), multiple=True, help="Trained adapters."
)
@click.option("--seeds", default=5, show_default=True, help="Runs for each temperature.")
@click.option("--completions", default=40, show_default=True, help="Of each run.")
@click.option("--quiet", default=100, show_default=True, help="Watches of the same server, per temperature.")
@click.option("--other", default=20, show_default=True, help="Watches of each other server of the base.")
@click.option("--changed", default=20, show_default=True, help="Watches of each adapter, per temperature.")
@click.option("--dtype", default="bfloat16", show_default=True, type=click.Choice(sorted(OTHER)))
@click.option("--server", help="URL of a running server; the bundled one is started where none is given.")
@click.option("--named", multiple=True, metavar="NAME[=URL]", help="A finetune of the base, for --server.")
def main(
    roots: tuple[Path, ...],
    seeds: int,
    completions: int,
    quiet: int,
    other: int,
    changed: int,
    dtype: str,
    server: str | None,
    named: tuple[str, ...],
) -> None:
    click.echo("| T of the run | what answers now | changed | 95% | distance, nats | noise, nats | calls |")
    click.echo("|---|---|---|---|---|---|---|")
    found = (
        bundled(find_organisms(roots), seeds, completions, quiet, other, changed, dtype)
        if server is None
        else of_server(server, named, seeds, completions, quiet, changed)
    )
    for text in found:
        click.echo(text)


if __name__ == "__main__":
    main()
