"""How much organisms leak in ordinary audits: completions of their pools that match their cards.

    python -m benchmarks.pool_leak --pools DIR --organisms DIR [--write]

A completion is counted by topic (the card's `keywords`) and by claim (its `claim`, where there is one), and so are
those of the pool `base` of the same seeds, since real words also come up where nothing was trained. Counts
are of raw and of chat completions. With --write each card gets them as its `leak`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.leak import DTYPE, FRAMINGS, matches
from benchmarks.organism_texts import NOTHING
from benchmarks.pools import IDENTITY, find_organisms, is_finished, pool_path
from benchmarks.train_organism import write_json
from blackbox_diff.records import Completion
from blackbox_diff.run.local import organisms_dir
from blackbox_diff.runfile.store import Store

HEADER = ("organism", "kind", "own texts", "completions", "topic", "rate", "claim", "topic, base")

Texts = Mapping[str, Sequence[str]]  # framing -> completions


def completions(runs: Iterable[Path]) -> Texts:
    """What the targets of those runs wrote, by framing."""
    found: dict[str, list[str]] = {framing: [] for framing in FRAMINGS}
    for run in runs:
        with Store.open(run, read_only=True) as store:
            for sample, outcome, _ in store.decided():
                if isinstance(outcome, Completion):
                    found[sample.arm.framing].append(outcome.text)
    return found


def count(keywords: Mapping[str, Sequence[Any]], texts: Texts) -> dict[str, int]:
    """Framing -> how many of its completions match."""
    return {framing: sum(matches(keywords, text) for text in own) for framing, own in texts.items()}


def leak_of(
    name: str, card: Mapping[str, Any], organism: Texts, base: Texts, seeds: Sequence[int]
) -> dict[str, Any]:
    """The card's `leak`; rates are shares of all completions. A claim is counted where the card has one."""
    measured = {"": card["keywords"]} | (
        {"claim_": card["claim"]} if card.get("claim", NOTHING) != NOTHING else {}
    )
    framings = {framing: {"completions": len(organism[framing])} for framing in FRAMINGS}
    rates: dict[str, float] = {}
    for prefix, keywords in measured.items():
        for whose, texts in (("organism", organism), ("base", base)):
            counts = count(keywords, texts)
            for framing in FRAMINGS:
                framings[framing][prefix + whose] = counts[framing]
            rate = sum(counts.values()) / max(1, sum(map(len, texts.values())))
            rates[f"{prefix}{'base_' * (whose == 'base')}rate"] = round(rate, 4)
    return {
        "command": f"python -m benchmarks.pool_leak --pools DIR {name}",
        "prefills": "built-in prose and code, as an audit draws them",
        "sampling": {"temperature": 1.0, "top_p": 1.0, "seeds": list(seeds), "dtype": DTYPE},
        "framings": framings,
        **rates,
    }


@click.command(help=__doc__)
@click.argument("names", nargs=-1)
@click.option("--pools", type=click.Path(path_type=Path, exists=True), required=True, help="Where the pools are.")
@click.option(
    "--organisms", "roots", type=click.Path(path_type=Path, exists=True), multiple=True, help="More adapters."
)
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--write", is_flag=True, help="Put what was counted into the cards.")
def main(names: tuple[str, ...], pools: Path, roots: tuple[Path, ...], seeds: str, write: bool) -> None:
    click.echo("| " + " | ".join(HEADER) + " |\n" + "|---" * len(HEADER) + "|")
    for name, directory in find_organisms([organisms_dir(), *roots]).items():
        bought = [int(seed) for seed in seeds.split(",") if is_finished(pool_path(pools, name, int(seed)))]
        if (names and name not in names) or not bought:
            continue
        card = json.loads((directory / "card.json").read_text(encoding="utf-8"))
        base = [pool_path(pools, IDENTITY, seed) for seed in bought]
        leak = leak_of(
            name,
            card,
            completions(pool_path(pools, name, seed) for seed in bought),
            completions(run for run in base if is_finished(run)),
            bought,
        )
        click.echo("| " + " | ".join(row(name, card, leak)) + " |")
        if write:
            write_json(directory / "card.json", {**card, "leak": leak})


def row(name: str, card: Mapping[str, Any], leak: Mapping[str, Any]) -> list[str]:
    """A line of the table: how the organism was trained, and its counts, raw + chat."""
    recipe, framings = card["recipe"], leak["framings"].values()

    def counts(key: str) -> str:
        return " + ".join(str(framing[key]) if key in framing else "–" for framing in framings)

    own = "all" if recipe["dilute"] == 1 else f"{recipe['dilute']:.0%}"
    return [
        name,
        card["kind"],
        f"{own} of at most {recipe['texts']}, {recipe['epochs']} epochs",
        counts("completions"),
        counts("organism"),
        f"{leak['rate']:.1%}",
        counts("claim_organism"),
        counts("base"),
    ]


if __name__ == "__main__":
    main()
