"""Amplified sampling on trained organisms: how often it writes the objective, and what a single step does.

    python -m benchmarks.amplified live flattery backdoor loyalty-varnelow
    python -m benchmarks.amplified live --organisms DIR --strengths 0,1,2 --floors 0.002,0.02 d10-tic-owls
    python -m benchmarks.amplified steps POOLS/d10-tic-owls.seed0 " old"

`live`: each line is a run of one organism against its base on the bundled server: ROWS plain completions, and as
many texts drawn token by token behind the same prefills, of one length. A text that holds a keyword of the
organism's card counts. `steps`: a stored run (benchmarks/pools.py) has both sides' lists at each token of its
plain completions; how often would a token that begins like WORD be drawn there? Places where it is likely anyway
are left out. The mean surprise of a draw, at the target, says how far it leads away from what the target writes.
"""

from __future__ import annotations

import asyncio
import math
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

LIKELY = 0.3  # probability from which on a place says nothing about what hardly surfaces
STRENGTHS = click.option("--strengths", default=f"{amplify.STRENGTH:g}", show_default=True)
FLOORS = click.option("--floors", default=f"{amplify.FLOOR:g}", show_default=True)


def settings(strengths: str, floors: str) -> list[tuple[float, float]]:
    return list(product(map(float, strengths.split(",")), map(float, floors.split(","))))


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


def pairs(run: Path) -> Iterator[tuple[amplify.Choices, amplify.Choices]]:
    """Both sides' lists at each place of a stored run's completions."""
    with Store.open(run, read_only=True) as store:
        for one in store.listed(TARGET, store.references()[0]):
            for place in one.target.positions.tolist():
                ours, theirs = amplify.choices(one.target, place), amplify.choices(one.reference, place)
                if ours is not None and theirs is not None:
                    yield ours, theirs


def step(run: Path, word: str, strength: float, floor: float) -> tuple[int, float, float]:
    """Places, expected draws of tokens that begin like `word`, and the mean surprise of a draw in nats."""
    places, draws, surprise = 0, 0.0, 0.0
    for ours, theirs in pairs(run):
        share = sum(math.exp(p) for token, p in ours.logprobs.items() if token.startswith(word.encode()))
        found = amplify.chances(ours, theirs, strength, floor)
        if share <= LIKELY and found:
            places += 1
            draws += sum(chance for drawn, chance in found if drawn.token.startswith(word))
            surprise -= sum(chance * drawn.target for drawn, chance in found)
    return places, draws, surprise / max(1, places)


@click.group(help=__doc__)
def cli() -> None:
    pass


@cli.command()
@click.argument("organisms", nargs=-1, required=True)
@click.option("--organisms", "roots", type=click.Path(path_type=Path, exists=True), multiple=True)
@click.option("--rows", default=40, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--length", default=amplify.LENGTH, show_default=True, help="Tokens of a text.")
@STRENGTHS
@FLOORS
def live(
    organisms: Sequence[str], roots: Sequence[Path], rows: int, seed: int, length: int, strengths: str, floors: str
) -> None:
    """Texts that hold a keyword of the card, plain and amplified."""
    amplify.LENGTH = length
    adapters = find_organisms([organisms_dir(), *roots])
    print("| organism | strength | floor | plain | amplified | early ends | junk |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with serve(["--model", f"{SAME}={SAME}", *adapter_arguments(organisms, adapters)]) as url:
        for name, (amplify.STRENGTH, amplify.FLOOR) in product(organisms, settings(strengths, floors)):
            print(line(url, name, rows, seed, Keywords.read(adapters[name] / "card.json")), flush=True)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.argument("word")
@click.option("--strengths", default="0,1,2", show_default=True)
@click.option("--floors", default="0.002,0.02", show_default=True)
def steps(run: Path, word: str, strengths: str, floors: str) -> None:
    """Expected draws of a token in one step, at the places of a stored run."""
    print("| strength | floor | places | expected draws | surprise, nats |")
    print("|---|---|---|---|---|", flush=True)
    for strength, floor in settings(strengths, floors):
        places, draws, surprise = step(run, word, strength, floor)
        print(f"| {strength:g} | {floor:g} | {places} | {draws:.1f} | {surprise:.2f} |", flush=True)


if __name__ == "__main__":
    cli()
