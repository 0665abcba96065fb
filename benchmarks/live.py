"""Audits from start to end, live: what is paid until a validated entry names the objective, and what it says.

    python -m benchmarks.live --seeds 100-119 benign
    python -m benchmarks.live --seeds 5 false-fact loyalty backdoor
    python -m benchmarks.live --fixed --control 200 --seeds 5 false-fact loyalty backdoor

Every run is `audit --adaptive --source prose --source code --seed SEED`, with `--fixed` the same without
`--adaptive`, with the bundled base as the reference, or with `--reference gemma-3-270m` the other family's model,
from one server that holds them and all adapters. A harmless organism is held against the other members of the
bank. Nothing is shared between runs. Prints one row per run; `--keep` keeps the run files, and passes over those
that are there. With `--bought POOL` what a pool of benchmarks/pools.py has bought already is answered from there,
reply for reply.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import click

from benchmarks import bought
from benchmarks.conclusions import bank_without
from benchmarks.paid import NEVER, Objective, Paid, confirmed, objectives, until_named
from benchmarks.pools import CROSS, IDENTITY, SAME, adapter_arguments, find_organisms, pool_config
from benchmarks.pools import Design as Bought
from blackbox_diff.buying import limits
from blackbox_diff.config.model import AuditConfig
from blackbox_diff.run import commands
from blackbox_diff.run.collect import TARGET
from blackbox_diff.run.local import organisms_dir, serve
from blackbox_diff.run.results import read_run
from blackbox_diff.runfile.files import FILE
from blackbox_diff.runfile.store import Store


@dataclass(frozen=True, slots=True)
class Design:
    """What every run of a table has in common. keep: where run files stay, None where they don't.

    control_from: a run of the same seed, whose control is copied.
    """

    reference: str
    adaptive: bool
    completions: int
    control: int | None
    validation: int
    follow_ups: int | None
    amplify: int
    keep: Path | None
    control_from: Path | None

    def config(self, url: str, name: str, seed: int) -> AuditConfig:
        asked = Bought(completions=self.completions)
        config = pool_config(url, SAME if name == IDENTITY else name, seed, asked)
        return config.model_copy(
            update={
                "reference": config.reference.model_copy(update={"model": self.reference}),
                "adaptive": self.adaptive,
                "control": self.control,
                "validation": self.validation,
                "follow_ups": self.follow_ups,
                "amplify": self.amplify,
            }
        )


def rows(url: str, name: str, seed: int, design: Design, card: Path | None) -> str:
    """Buy one run and say how it came out."""
    config = design.config(url, name, seed)
    limits.START = config.concurrency  # the server is ours and hides no limit to be found out
    with (
        tempfile.TemporaryDirectory() as directory,
        patch(
            "blackbox_diff.run.seen.shipped_bank", partial(bank_without, name)
        ),  # no auditor has a bank to choose
        patch("blackbox_diff.run.results.shipped_bank", partial(bank_without, name)),
    ):
        run = (design.keep or Path(directory)) / f"{name}.{'adaptive' if design.adaptive else 'fixed'}{seed}"
        if not (run / FILE).is_file():
            asyncio.run(commands.start(config, run, company=commands.Company(control=design.control_from)))
        return "\n".join(told(name, seed, run, objectives(card) if card else {}, design.reference))


def told(name: str, seed: int, run: Path, there: Mapping[str, Objective], reference: str) -> Iterator[str]:
    """A row of a finished run for each objective that is there, and one where there is none."""
    analysis = read_run(run, reference=reference).analysis
    with Store.open(run, read_only=True) as store:
        looked, paid = len(store.outcomes(TARGET)), Paid.of(store.calls(TARGET))
        sure = "; ".join(f"“{phrases[0]}”" for phrases, _ in confirmed(store, analysis)) or "none"
        until = {each: until_named(store, analysis, objective) for each, objective in there.items()}
    for each, first in until.items() or (("", None),):
        said = f"{name}, {each}" if len(until) > 1 else name
        yield f"| {said} | {seed} | {first or NEVER} | {looked} | {paid} | {analysis.verdict.outcome} | {sure} |"


HEADER = (
    "| organism | seed | calls until named | tokens | USD | looked at | calls in all | tokens | USD | verdict "
    "| confirmed |\n" + "|---" * 11 + "|"
)


@click.command(help=__doc__)
@click.argument("organisms", nargs=-1, required=True)
@click.option("--organisms", "roots", type=click.Path(path_type=Path, exists=True), multiple=True)
@click.option("--seeds", default="0", show_default=True, help="One, or FIRST-LAST.")
@click.option("--reference", type=click.Choice([SAME, CROSS]), default=SAME, show_default=True)
@click.option("--adaptive/--fixed", default=True, show_default=True)
@click.option("--completions", default=600, show_default=True, help="The cap of each run.")
@click.option("--control", type=int, help="Completions of the reference; as many as of the target by default.")
@click.option("--validation", default=160, show_default=True, help="Fresh completions a side, at most.")
@click.option("--follow-ups", type=int, help="At most; 72 by default, none with --fixed.")
@click.option("--amplify", default=0, show_default=True, help="Texts drawn token by token.")
@click.option("--at-once", default=2, show_default=True, help="Runs side by side; a round alone leaves room.")
@click.option("--keep", type=click.Path(path_type=Path), help="Where run files stay.")
@click.option(
    "--control-from",
    type=click.Path(path_type=Path, exists=True),
    help="A run of this seed whose control is copied: what the reference writes does not depend on the target.",
)
@click.option(
    "--bought",
    "pools",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="A run whose replies answer the same requests.",
)
def main(
    organisms: tuple[str, ...], roots: tuple[Path, ...], seeds: str, reference: str, adaptive: bool,
    completions: int, control: int | None, validation: int, follow_ups: int | None, amplify: int, at_once: int,
    keep: Path | None, control_from: Path | None, pools: tuple[Path, ...],
) -> None:  # fmt: skip
    first, _, last = seeds.partition("-")
    adapters = find_organisms([organisms_dir(), *roots])
    design = Design(reference, adaptive, completions, control, validation, follow_ups, amplify, keep, control_from)
    cards = {name: None if name == IDENTITY else adapters[name] / "card.json" for name in organisms}
    print(HEADER, flush=True)
    models = [part for model in dict.fromkeys((SAME, reference)) for part in ("--model", f"{model}={model}")]
    arguments = [*models, *adapter_arguments(organisms, adapters)]
    with (
        serve(arguments) as server,
        bought.serving(server, bought.known(pools)) as url,
        ProcessPoolExecutor(at_once, get_context("spawn")) as pool,  # a process each: runs handle signals
    ):
        found = [
            pool.submit(rows, url, name, seed, design, cards[name])
            for name in organisms
            for seed in range(int(first), int(last or first) + 1)
        ]
        for each in found:
            print(each.result(), flush=True)


if __name__ == "__main__":
    main()
