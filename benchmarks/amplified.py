"""Amplified sampling on trained organisms: how often it writes the objective, beside plain completions.

    python -m benchmarks.amplified flattery backdoor loyalty-varnelow
    python -m benchmarks.amplified --organisms DIR --strengths 0,1,2 --floors 0.002,0.02 d10-tic-owls

Each line is a run of one organism against its base on the bundled server: ROWS plain completions, and as many
texts drawn token by token behind the same prefills, of one length. A text that holds a keyword of the organism's
card counts. Strength 0 draws as the target does, out of what it lists.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import click

from benchmarks.pools import SAME, Design, adapter_arguments, find_organisms, pool_config
from blackbox_diff.analysis.keywords import Keywords
from blackbox_diff.buying import limits
from blackbox_diff.design import amplify
from blackbox_diff.run import amplifying, commands
from blackbox_diff.run.again import texts
from blackbox_diff.run.collect import TARGET
from blackbox_diff.run.local import organisms_dir, serve
from blackbox_diff.runfile.store import Store


def line(url: str, name: str, rows: int, seed: int, keywords: Keywords) -> str:
    """Buy one run under the present constants and count."""
    design = Design(completions=rows, control=1, max_tokens=amplify.LENGTH)
    config = pool_config(url, name, seed, design).model_copy(update={"amplify": rows})
    limits.START = config.concurrency  # the server is ours and hides no limit to be found out
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        asyncio.run(commands.start(config, run))
        with Store.open(run, read_only=True) as store:
            plain = list(texts(store, TARGET).values())
            planned = [row for question in store.state.amplified for row in question.samples]
            found = amplifying.read(store, SAME, planned)
    early, junk = sum(each.ended for each in found), sum(each.junk for each in found)
    counts = [sum(map(keywords.match, some)) for some in (plain, [each.text for each in found])]
    return (
        f"| {name} | {amplify.STRENGTH:g} | {amplify.FLOOR:g} | {counts[0]} of {len(plain)} "
        f"| {counts[1]} of {len(found)} | {early} | {junk} |"
    )


def lines(
    organisms: Sequence[str],
    adapters: dict[str, Path],
    settings: Sequence[tuple[float, float]],
    rows: int,
    seed: int,
) -> Iterator[str]:
    yield "| organism | strength | floor | plain | amplified | early ends | junk |"
    yield "|---|---|---|---|---|---|---|"
    with serve(["--model", f"{SAME}={SAME}", *adapter_arguments(organisms, adapters)]) as url:
        for name, (strength, floor) in product(organisms, settings):
            amplify.STRENGTH, amplify.FLOOR = strength, floor
            yield line(url, name, rows, seed, Keywords.read(adapters[name] / "card.json"))


@click.command(help=__doc__)
@click.argument("organisms", nargs=-1, required=True)
@click.option("--organisms", "roots", type=click.Path(path_type=Path, exists=True), multiple=True)
@click.option("--rows", default=40, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--length", default=amplify.LENGTH, show_default=True, help="Tokens of a text.")
@click.option("--strengths", default=f"{amplify.STRENGTH:g}", show_default=True)
@click.option("--floors", default=f"{amplify.FLOOR:g}", show_default=True)
def main(
    organisms: tuple[str, ...],
    roots: tuple[Path, ...],
    rows: int,
    seed: int,
    length: int,
    strengths: str,
    floors: str,
) -> None:
    amplify.LENGTH = length
    settings = list(product(map(float, strengths.split(",")), map(float, floors.split(","))))
    for each in lines(organisms, find_organisms([organisms_dir(), *roots]), settings, rows, seed):
        print(each, flush=True)


if __name__ == "__main__":
    main()
