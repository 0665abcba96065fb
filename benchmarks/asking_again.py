"""The adaptive design beside the fixed one, on toy endpoints: what is paid until the objective is validated, and
speed.

    python -m benchmarks.asking_again calls
    python -m benchmarks.asking_again speed

The toy (tests/leaky_toy.py) is no language model: it writes made-up words at random, and its phrase in a set
share of raw completions, a twentieth of that in chat. So the tables say what the design does with a rate of
leaking, and not how often real organisms leak. `calls`: until the trial that confirms an entry with the phrase,
all calls to the target counted. `speed`: every reply takes 1 to 3 seconds; the toy leaks and nothing may be asked
again, so that what shows is never confirmed and both designs buy all of the same completions.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import click

from blackbox_diff.analysis.words import words_of
from blackbox_diff.buying import limits
from blackbox_diff.config.model import AuditConfig, EndpointConfig
from blackbox_diff.design.apart import VALIDATION, apart
from blackbox_diff.run import commands
from blackbox_diff.run.collect import TARGET
from blackbox_diff.run.results import read_run
from blackbox_diff.runfile.store import Store
from tests.leaky_toy import LEAKS, PHRASE, LeakyToy
from tests.toy_server import serving

BASE, LEAKY = "base", "leaky"


def config(url: str, model: str, completions: int, seed: int, *, adaptive: bool, validation: int) -> AuditConfig:
    return AuditConfig(
        target=EndpointConfig(url=url, model=model),
        reference=EndpointConfig(url=url, model=BASE),
        source=("prose", "code"),
        framing=("raw", "chat"),
        completions=completions,
        max_tokens=20,
        adaptive=adaptive,
        follow_ups=None if adaptive else 0,
        validation=validation,
        seed=seed,
    )


def until_validated(run: Path) -> int | None:
    """Calls to the target until the phrase was confirmed; None where it never was."""
    found = read_run(run, bank=None).analysis.validation
    with Store.open(run, read_only=True) as store:
        calls = list(store.calls(TARGET))
        for question, validated in zip(store.state.validation, found, strict=True):
            if validated.confirmed and set(words_of(question.phrase)) & set(words_of(PHRASE)):
                last = {sample.id for sample in question.samples} & store.outcomes(apart(VALIDATION, TARGET))
                end = max(call.id for call in calls if call.sample_id in last)
                return sum(call.id <= end for call in calls)
    return None


def bought(run: Path) -> int:
    with Store.open(run, read_only=True) as store:
        return store.spent(TARGET).calls


@click.group()
def cli() -> None:
    """Toy tables."""


@cli.command()
@click.option("--rates", default="0.4,0.1,0.03,0", show_default=True)
@click.option("--seeds", default=2, show_default=True)
@click.option("--completions", default=600, show_default=True)
def calls(rates: str, seeds: int, completions: int) -> None:
    """Calls until the phrase is validated."""
    print("| raw completions that leak | design | runs | validated | calls until then, median | in all, median |")
    print("|---|---|---|---|---|---|")
    for rate in map(float, rates.split(",")):
        LEAKS[LEAKY, False], LEAKS[LEAKY, True] = rate, rate / 20
        for adaptive in (False, True):
            until: list[int | None] = []
            total = []
            for seed in range(seeds):
                with tempfile.TemporaryDirectory() as directory, serving(LeakyToy()) as url:
                    run = Path(directory) / "run"
                    wanted = config(url, LEAKY, completions, seed, adaptive=adaptive, validation=160)
                    asyncio.run(commands.start(wanted, run))
                    until.append(until_validated(run))
                    total.append(bought(run))
            there = [each for each in until if each is not None]
            name = "adaptive" if adaptive else f"fixed, {completions}, then validation"
            shown = f"{statistics.median(there):.0f}" if there else "–"
            print(
                f"| {rate:g} | {name} | {seeds} | {len(there)} | {shown} | {statistics.median(total):.0f} |",
                flush=True,
            )


@cli.command()
@click.option("--completions", default=300, show_default=True)
@click.option("--runs", default=1, show_default=True, help="Pairs.")
def speed(completions: int, runs: int) -> None:
    """Replies a second of both designs, in pairs."""
    limits.START = 32  # the endpoint hides no limit to be found out
    ratios = []
    for seed in range(runs):
        rates = []
        for adaptive in (False, True):
            with tempfile.TemporaryDirectory() as directory, serving(LeakyToy(), latency=(1.0, 3.0)) as url:
                run = Path(directory) / "run"
                wanted = config(url, LEAKY, completions, seed, adaptive=adaptive, validation=0)
                wanted = wanted.model_copy(update={"follow_ups": 0})
                started = time.monotonic()
                asyncio.run(commands.start(wanted, run))
                rates.append(bought(run) / (time.monotonic() - started))
        ratios.append(rates[1] / rates[0])
        print(f"fixed {rates[0]:.2f} replies/s, adaptive {rates[1]:.2f}, ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    cli()
