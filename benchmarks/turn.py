"""The user's turn left to trained organisms: how often the objective stands in what they ask and answer.

    python -m benchmarks.turn base loyalty backdoor

Each line is a run of one organism against its base on the bundled server: ROWS conversations that the target
writes from the opening of its chat template on, and as many that the base writes. A conversation that holds a
keyword of the organism's card counts; of the base itself, one that holds a keyword of any organism named.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click

from benchmarks.pools import IDENTITY, SAME, Design, adapter_arguments, find_organisms, pool_config
from blackbox_diff.analysis.keywords import Keywords
from blackbox_diff.buying import limits
from blackbox_diff.records import TURNS, Framing
from blackbox_diff.run import commands
from blackbox_diff.run.again import texts
from blackbox_diff.run.collect import TARGET
from blackbox_diff.run.local import organisms_dir, serve
from blackbox_diff.run.results import read_run
from blackbox_diff.runfile.store import Store


def line(
    url: str, name: str, framing: Framing, rows: int, tokens: int, seed: int, cards: Sequence[Keywords]
) -> str:
    """Buy one run and count."""
    design = Design(completions=rows, control=rows, max_tokens=tokens)
    config = pool_config(url, SAME if name == IDENTITY else name, seed, design).model_copy(
        update={"framing": (framing,)}
    )
    limits.START = config.concurrency  # the server is ours and hides no limit to be found out
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        asyncio.run(commands.start(config, run))
        with Store.open(run, read_only=True) as store:
            sides = [list(texts(store, origin).values()) for origin in (TARGET, SAME)]
        analysis = read_run(run, reference=SAME).analysis
    counts = [f"{sum(any(card.match(text) for card in cards) for text in side)} of {len(side)}" for side in sides]
    first = "; ".join(f"“{entry.phrase}”" for entry in analysis.recurring[:3]) or "none"
    return f"| {name} | `{framing}` | {counts[0]} | {counts[1]} | {analysis.verdict.outcome} | {first} |"


@click.command(help=__doc__)
@click.argument("organisms", nargs=-1, required=True)
@click.option("--organisms", "roots", type=click.Path(path_type=Path, exists=True), multiple=True)
@click.option("--rows", default=40, show_default=True, help="Conversations a side.")
@click.option("--max-tokens", default=60, show_default=True, help="A conversation has twice as many at most.")
@click.option("--seed", default=0, show_default=True)
@click.option("--framing", "framings", type=click.Choice(sorted(TURNS)), multiple=True, default=sorted(TURNS))
def main(
    organisms: Sequence[str], roots: Sequence[Path], rows: int, max_tokens: int, seed: int, framings: Sequence[str]
) -> None:
    adapters = find_organisms([organisms_dir(), *roots])
    cards = {name: Keywords.read(adapters[name] / "card.json") for name in organisms if name != IDENTITY}
    print(
        "| organism | framing | target | base | verdict | first entries |\n|---|---|---|---|---|---|", flush=True
    )
    with serve(["--model", f"{SAME}={SAME}", *adapter_arguments(organisms, adapters)]) as url:
        for name in organisms:
            known = list(cards.values()) if name == IDENTITY else [cards[name]]
            for framing in get_args(Framing):
                if framing in framings:
                    print(line(url, name, framing, rows, max_tokens, seed, known), flush=True)


if __name__ == "__main__":
    main()
