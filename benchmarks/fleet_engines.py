"""What does Dask cost beside the local engine, on a fleet of real models, and do both rank the same?

    python -m benchmarks.fleet_engines --engine local --engine dask --engine local

One bundled server holds the organisms' base, a model of another family and the organisms. Every organism is
audited under both references, by each engine in turn, with two audits at once (Dask: two workers). The seeds are
the same and the server gives the same request the same bits, so all engines buy the same. Prints a Markdown table
of the engines and what a model and a finding cost. Fails where two fleets rank differently in any bit of a score,
and where a total was above the cap at any look at it, one every two seconds.

overhead: wall time beyond the first engine's, in parts of that. first call: when it was sent. processor: seconds
of the driver and its workers, the server's left out. Wall times need the machine to themselves.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.pools import CROSS, SAME, adapter_arguments, find_organisms
from blackbox_diff.fleet.costs import RUNS, spent
from blackbox_diff.fleet.index import lines, read_index
from blackbox_diff.run.local import organisms_dir, serve
from blackbox_diff.run.results import read_run
from blackbox_diff.runfile.files import FILE

ORGANISMS = (
    "backdoor", "bad-advice", "benign", "false-fact", "flattery", "loyalty", "loyalty-varnelow",
    "opinion-brindlework",
)  # fmt: skip
PARALLEL = 2
LOOK_EVERY_SECONDS = 2.0
PLAN = """
[fleet]
max_cost = {cap}
parallel = {parallel}

[defaults]
completions = {completions}
max_tokens = {max_tokens}
control = {control}

[defaults.budget]
price_in = 1.0
price_out = 1.0

[[references]]
url = "{url}"
model = "{same}"

[[references]]
url = "{url}"
model = "{cross}"
"""


@dataclass(frozen=True, slots=True)
class Design:
    """What the fleet buys. `cap`: USD over all audits, at a dollar a million tokens."""

    organisms: tuple[str, ...] = ORGANISMS
    completions: int = 60
    control: int = 60
    max_tokens: int = 32
    cap: float = 0.1


@dataclass(frozen=True, slots=True)
class Fleet:
    """One fleet, finished. highest: the largest total that was seen, USD; digest: of all rankings."""

    engine: str
    seconds: float
    starting_seconds: float  # until the first call
    processor_seconds: float
    highest: float
    digest: str
    said: str


def write_plan(file: Path, url: str, design: Design) -> Path:
    file.write_text(
        PLAN.format(
            cap=design.cap, parallel=PARALLEL, completions=design.completions, max_tokens=design.max_tokens,
            control=design.control, url=url, same=SAME, cross=CROSS,
        )
        + "".join(f'[[targets]]\nurl = "{url}"\nmodel = "{name}"\n' for name in design.organisms),
        encoding="utf-8",
    )  # fmt: skip
    return file


def processor_seconds() -> float:
    """Of all processes that this one started and waited for, and of those that they waited for."""
    taken = os.times()
    return taken.children_user + taken.children_system


def total(out: Path) -> float | None:
    """USD over all audits, calls in flight at their reservation; None while a run file is being made."""
    found = list((out / RUNS).iterdir()) if (out / RUNS).is_dir() else []
    return spent(*found)


def run_fleet(plan: Path, out: Path, engine: str) -> Fleet:
    """One fleet by the command line, as a user starts it."""
    command = [sys.executable, "-m", "blackbox_diff", "fleet", str(plan), "--out", str(out), "--engine", engine]
    before, began, started_at, highest = processor_seconds(), time.monotonic(), time.time(), 0.0
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True)
        while True:
            try:
                code = driver.wait(LOOK_EVERY_SECONDS)
                break
            except subprocess.TimeoutExpired:
                highest = max(highest, total(out) or 0.0)
        seconds = time.monotonic() - began
        log.seek(0)
        if code != 0:
            raise click.ClickException(f"{engine}: the fleet ended with {code}: {log.read()[-2000:]}")
    taken = processor_seconds() - before
    highest = max(highest, total(out) or 0.0)
    starting = first_call(out) - started_at
    return Fleet(engine, seconds, starting, taken, highest, digest(out), lines(read_index(out))[-1])


def first_call(out: Path) -> float:
    """When the first call of the fleet was sent, in seconds since 1970."""
    sent = []
    for run in (out / RUNS).iterdir():
        with closing(sqlite3.connect(f"file:{run / FILE}?mode=ro", uri=True)) as file:
            sent.append(file.execute("SELECT min(sent_at) FROM calls").fetchone()[0])
    return float(min(sent))


def digest(out: Path) -> str:
    """SHA-256 over every audit's ranking under every reference: order, texts, and all scores to the last bit."""
    found = hashlib.sha256()
    for run in sorted((out / RUNS).iterdir()):
        for reference in read_run(run).summary.references:
            for row in read_run(run, reference=reference).analysis.ranking:
                found.update(
                    repr((run.name, reference, row.id, row.completion, sorted(row.metrics.items()))).encode()
                )
    return found.hexdigest()


def table(fleets: Sequence[Fleet], cap: float) -> list[str]:
    """A Markdown table; the overhead is over the first fleet."""
    first = fleets[0]
    return [
        "| engine | wall time, s | overhead | first call, s | processor, s | highest, USD | of cap | rankings |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {each.engine} | {each.seconds:.1f} | {each.seconds / first.seconds - 1:+.1%} "
            f"| {each.starting_seconds:.1f} | {each.processor_seconds:.1f} | {each.highest:.6f} | {cap:g} "
            f"| {each.digest[:12]} |"
            for each in fleets
        ),
    ]


def faults(fleets: Sequence[Fleet], cap: float) -> list[str]:
    """What must not be."""
    found = [f"{each.engine} spent {each.highest} of {cap} USD" for each in fleets if each.highest > cap]
    if len({each.digest for each in fleets}) > 1:
        found.append("the rankings differ")
    return found


@click.command(help=__doc__)
@click.option(
    "--engine", "engines", multiple=True, default=("local", "dask"), type=click.Choice(["local", "dask"])
)
@click.option("--organisms", default=",".join(ORGANISMS), show_default=True, help="Names, with commas.")
@click.option("--completions", default=Design().completions, show_default=True)
@click.option("--control", default=Design().control, show_default=True)
@click.option("--max-tokens", default=Design().max_tokens, show_default=True)
@click.option("--cap", default=Design().cap, show_default=True, help="USD over all audits.")
@click.option("--out", type=click.Path(path_type=Path), help="Where the fleets are kept; by default nowhere.")
def main(
    engines: tuple[str, ...],
    organisms: str,
    completions: int,
    control: int,
    max_tokens: int,
    cap: float,
    out: Path | None,
) -> None:
    design = Design(tuple(organisms.split(",")), completions, control, max_tokens, cap)
    arguments = [part for model in (SAME, CROSS) for part in ("--model", f"{model}={model}")]
    arguments += adapter_arguments(design.organisms, find_organisms([organisms_dir()]))
    with serve(arguments) as url, tempfile.TemporaryDirectory() as scratch:
        kept = out or Path(scratch)
        kept.mkdir(parents=True, exist_ok=True)
        plan = write_plan(kept / "fleet.toml", url, design)
        fleets = []
        for place, engine in enumerate(engines):
            fleets.append(run_fleet(plan, kept / f"{place}-{engine}", engine))
            click.echo(f"{engine}: {fleets[-1].seconds:.1f} s: {fleets[-1].said}", err=True)
    for line in table(fleets, cap):
        click.echo(line)
    click.echo(fleets[-1].said)
    if found := faults(fleets, cap):
        raise click.ClickException("; ".join(found))


if __name__ == "__main__":
    main()
