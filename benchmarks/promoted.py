"""What the alternatives show: the first promoted words of every pool, and where each model stands in the bank.

    python -m benchmarks.promoted --pools DIR            # pools as benchmarks.pools buys them
    python -m benchmarks.promoted --pools DIR --completions 120 --draws 10 d10-tic-owls

A pool of format 1 lists nothing before `blackbox-diff resume` has read its replies again. With --draws, random
subsets of the completions are read, and the place of the first word that matches the card's keywords is printed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from benchmarks.leak import matches
from benchmarks.pools import SAME, default_dir, find_organisms
from blackbox_diff.analysis.listed_words import masses
from blackbox_diff.analysis.promoted import promoted_words
from blackbox_diff.cli.demo import card
from blackbox_diff.findings import Promoted
from blackbox_diff.records import Alternatives, Completion, Listed
from blackbox_diff.run.local import organisms_dir
from blackbox_diff.runfile.store import Store

SHOWN = 5


def first_words(listed: list[Listed], others: list[str]) -> list[Promoted]:
    """Promoted content words of some completions, strongest first."""
    return [each for each in promoted_words(masses(listed), others) if not each.style]


def read(run: Path, reference: str) -> tuple[list[Listed], list[str]]:
    """(completions with lists on both sides, the reference's own texts) of a pool."""
    with Store.open(run, read_only=True) as store:
        others = [out.text for _, out, _ in store.decided(reference) if isinstance(out, Completion)]
        return list(store.listed("target", reference)), others


def parts_of(keywords: Mapping[str, list[list[str]]]) -> frozenset[str]:
    """The words that a card's keywords are made of."""
    return frozenset(word for group in keywords["any"] for part in group for word in part.lower().split())


def named(words: list[Promoted], keywords: dict[str, list[list[str]]]) -> int | None:
    """Place of the first phrase that holds a part of the objective's keywords."""
    parts = parts_of(keywords)
    places = (
        place
        for place, each in enumerate(words, start=1)
        if matches(keywords, each.phrase) or parts & set(each.phrase.split()) or each.word in parts
    )
    return next(places, None)


def cut(lists: Alternatives, text: str, most: int) -> Alternatives:
    """The likeliest `most` tokens of each list, and the one that stands there."""
    data, counts = text.encode("utf-8", "surrogatepass"), np.diff(lists.offsets)
    ends = [*lists.positions[1:].tolist(), len(data)]
    stands = [data[start:end] for start, end in zip(lists.positions.tolist(), ends, strict=True)]
    rows = np.repeat(np.arange(len(counts)), counts)
    own = [lists.vocabulary[token] == stands[row] for token, row in zip(lists.tokens, rows, strict=True)]
    kept = (np.arange(len(rows)) - lists.offsets[rows] < most) | np.asarray(own, dtype=bool)
    last = lists.offsets[:-1] + np.minimum(counts, most) - 1
    return replace(
        lists,
        offsets=np.cumsum([0, *np.bincount(rows[kept], minlength=len(counts))]),
        tokens=lists.tokens[kept],
        logprobs=lists.logprobs[kept],
        unlisted=np.where(counts > most, lists.logprobs[last], lists.unlisted).astype(np.float32),
    )


def shortened(one: Listed, most: int) -> Listed:
    """A completion as of endpoints that list at most so many tokens a position."""
    return replace(one, target=cut(one.target, one.text, most), reference=cut(one.reference, one.text, most))


@click.command(help=__doc__)
@click.argument("names", nargs=-1)
@click.option("--pools", type=click.Path(path_type=Path), default=default_dir)
@click.option("--organisms", "roots", type=click.Path(path_type=Path, exists=True), multiple=True)
@click.option("--reference", default=SAME, show_default=True)
@click.option("--completions", type=int, help="Completions of a draw; all by default.")
@click.option("--draws", default=1, show_default=True)
@click.option("--alternatives", type=click.IntRange(min=1), help="Cut every list to so many; all by default.")
def main(
    names: tuple[str, ...],
    pools: Path,
    roots: tuple[Path, ...],
    reference: str,
    completions: int | None,
    draws: int,
    alternatives: int | None,
) -> None:
    adapters = find_organisms([organisms_dir(), *roots])
    for run in sorted(pools.glob("*.seed*")):
        name = run.name.rpartition(".seed")[0]
        if names and name not in names:
            continue
        listed, others = read(run, reference)
        if alternatives is not None:
            listed = [shortened(each, alternatives) for each in listed]
        keywords = card(adapters[name])["keywords"] if name in adapters else {"any": [], "regex": []}
        for draw in range(draws):
            some = (
                listed
                if completions is None
                else random.Random(draw).sample(listed, min(completions, len(listed)))
            )
            words = first_words(some, others)
            place = named(words, keywords)  # type: ignore[arg-type]
            shown = " · ".join(
                f"{each.phrase} {each.strength:.2f} ({each.target:.1f} against {each.reference:.1f})"
                for each in words[:SHOWN]
            )
            click.echo(f"{run.name} | {len(some)} | {'–' if place is None else place} | {shown or 'none'}")


if __name__ == "__main__":
    main()
