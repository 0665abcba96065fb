"""From which look on something carries a finding, replayed on pools: when an adaptive run has a lead to test.

    python -m benchmarks.pools --pools DIR --completions 400 --control 200 base flattery ...
    python -m benchmarks.looks DIR/flattery.seed0 DIR/base.seed0 ...

A replay: the looks of an adaptive run of that seed, on the completions that the pool bought, with the control as
far as the pool has it. A member of the bank is compared with the others. Prints one row per pool: the first look
at which an entry that names the objective carries a finding, and every other entry that carries one at some look.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from benchmarks.conclusions import bank_without
from benchmarks.paid import Objective, objectives
from benchmarks.pools import SAME, find_organisms
from blackbox_diff.analysis.analyse import analyse
from blackbox_diff.design import controller
from blackbox_diff.findings import Entry
from blackbox_diff.run.local import organisms_dir
from blackbox_diff.run.pipeline import plan
from blackbox_diff.runfile.store import Store


def looks(run: Path, name: str) -> Iterator[tuple[int, list[Entry]]]:
    """(completions looked at, entries that carry a finding) of each look."""
    with Store.open(run, read_only=True) as store:
        order = [sample.id for sample in plan(store.config, store.config.framing)]
        target = {row.sample.id: row for row in store.scored() if SAME in row.scores}
        control = {row.sample.id: row for row in store.scored(SAME)}
        listed = {each.sample.id: each for each in store.listed("target", SAME)}
        seed = store.config.seed
    for end in controller.ends(len(order)):
        first = order[:end]
        analysis = analyse(
            [target[one] for one in first if one in target],
            [control[one] for one in first if one in control],
            SAME,
            seed=seed,
            listed=[listed[one] for one in first if one in listed],
            bank=bank_without(name, SAME),
        )
        yield end, controller.carrying(analysis)


def row(run: Path, there: Mapping[str, Objective]) -> str:
    name, _, seed = run.name.rpartition(".seed")
    named, others = "–", dict[str, int]()
    for end, found in looks(run, name):
        for entry in found:
            phrases = (entry.phrase, *controller.said(entry)[1], *(word.word for word in entry.words[:1]))
            if any(each.named_by(phrases) for each in there.values()):
                named = str(end) if named == "–" else named
            else:
                others.setdefault(entry.phrase, end)
    told = "; ".join(f"“{phrase}” from {end} on" for phrase, end in others.items()) or "none"
    return f"| {name} | {seed} | {named} | {told} |"


@click.command(help=__doc__)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--organisms", "roots", type=click.Path(path_type=Path, exists=True), multiple=True)
def main(runs: Sequence[Path], roots: Sequence[Path]) -> None:
    adapters = find_organisms([organisms_dir(), *roots])
    print("| organism | seed | the objective carries one from | others |\n|---|---|---|---|", flush=True)
    for run in runs:
        card = adapters.get(run.name.rpartition(".seed")[0])
        print(row(run, objectives(card / "card.json") if card else {}), flush=True)


if __name__ == "__main__":
    main()
