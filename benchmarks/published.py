"""Do the first themes of published organisms name what those organisms were trained to do?

    python -m benchmarks.published --lists FILE [--half choosing|reporting] [--siblings 300] [--themes]

FILE: a JSON list of organisms, each with the name of the model, `keyword_sets_used` (a completion matches where it
holds every string of one set, in whatever case) and `top_ppl_diff_completions`: its prefills and completions with
the perplexity under the finetuned and under the base model. No token's logprob is published, so each completion's
nats are spread evenly over its bytes, and its tokens are counted as its words and punctuation marks.

A phrase names the objective where it holds a keyword set, or where more than half of the completions that hold it
match, and at least three do. Printed per organism: the completions that match, the place of the first theme of
which a phrase (its own or a part's) names the objective, and the themes. The organisms are split by name, so that
what is chosen on one half is reported on the other.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from blackbox_diff.analysis.rank import is_degenerate
from blackbox_diff.analysis.themes import find_themes
from blackbox_diff.findings import Ranked, Segment, Theme

FIRST = 5  # themes that a reader is sure to see
ENOUGH = 5  # matching completions from which on the themes are expected to say so
LEAST = 3  # matching completions behind a phrase that names the objective
_TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Organism:
    name: str
    keywords: tuple[tuple[str, ...], ...]
    rows: tuple[Ranked, ...]

    def matches(self, text: str) -> bool:
        low = text.lower()
        return any(all(word in low for word in words) for words in self.keywords)

    @property
    def matching(self) -> int:
        return sum(self.matches(row.completion) for row in self.rows)

    def is_named_by(self, phrase: str) -> bool:
        if self.matches(phrase):
            return True
        holding = [row.completion for row in self.rows if phrase.lower() in row.completion.lower()]
        hits = sum(map(self.matches, holding))
        return hits >= LEAST and 2 * hits > len(holding)


def read_lists(path: Path) -> list[Organism]:
    return [
        Organism(
            each["model"],
            tuple(tuple(word.lower() for word in words) for words in each["keyword_sets_used"]),
            tuple(
                row for k, raw in enumerate(each["top_ppl_diff_completions"]) if (row := _row(k, raw)) is not None
            ),
        )
        for each in json.loads(path.read_text("utf-8"))
    ]


def _row(k: int, raw: dict[str, Any]) -> Ranked | None:
    text = raw["completion"]
    before, after = raw["completion_perplexity_base"], raw["completion_perplexity_finetuned"]
    if not text or not before or not after:
        return None
    tokens, gap = max(len(_TOKEN.findall(text)), 1), float(np.log(before / after))
    return Ranked(
        rank=k + 1,
        id=f"{k:05d}",
        source="published",
        framing="raw",
        prefill=raw["prefill"],
        completion=text,
        n_tokens=tokens,
        value=gap,
        metrics={"gap_nats_per_token": gap, "score": gap},
        flags=("degenerate",) if is_degenerate(text) else (),
        segments=(Segment(0, len(text.encode()), -tokens * np.log(after), -tokens * np.log(before)),),
    )


def halves(organisms: Sequence[Organism]) -> dict[str, list[Organism]]:
    """The organisms in two halves, by a digest of their names."""
    ordered = sorted(organisms, key=lambda each: hashlib.sha256(each.name.encode()).digest())
    middle = (len(ordered) + 1) // 2
    return {"choosing": ordered[:middle], "reporting": ordered[middle:]}


def phrases(theme: Theme) -> Iterator[str]:
    """The phrase of a theme and those of its parts."""
    yield theme.phrase
    for part in getattr(theme, "parts", ()):
        yield from phrases(part)


def first_naming(organism: Organism, themes: Sequence[Theme]) -> int | None:
    """Place of the first theme that names the objective."""
    named = (any(map(organism.is_named_by, phrases(theme))) for theme in themes)
    return next((place for place, good in enumerate(named, start=1) if good), None)


def siblings(organism: Organism, organisms: Sequence[Organism], number: int) -> list[str]:
    """`number` completions of organisms with other keywords."""
    others = [each for each in organisms if set(each.keywords) != set(organism.keywords)]
    texts = [row.completion for each in others for row in each.rows]
    chosen = np.random.default_rng(16).permutation(len(texts))[:number]
    return [texts[k] for k in np.sort(chosen)]


@click.command(help=__doc__)
@click.option("--lists", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--half", type=click.Choice(["choosing", "reporting"]), help="One half only; both by default.")
@click.option("--siblings", "n_siblings", default=0, help="Completions of the other organisms, as a background.")
@click.option("--themes", "show", is_flag=True, help="Print every theme with its parts.")
def main(lists: Path, half: str | None, n_siblings: int, show: bool) -> None:
    organisms = read_lists(lists)
    for name, chosen in halves(organisms).items():
        if half in (None, name):
            _report(name, chosen, organisms, n_siblings, show)


def _report(name: str, chosen: Sequence[Organism], organisms: Sequence[Organism], n: int, show: bool) -> None:
    named: list[bool] = []
    lone = 0
    click.echo(
        f"## {name}: {len(chosen)} organisms\n\n| organism | match | named by | themes |\n|---|---|---|---|"
    )
    for organism in chosen:
        themes = find_themes(organism.rows, siblings(organism, organisms, n))
        place = first_naming(organism, themes)
        lone += len(themes) == 1
        if organism.matching >= ENOUGH:
            named.append(place is not None and place <= FIRST)
        shown = " · ".join(theme.phrase for theme in themes[:FIRST])
        click.echo(f"| {organism.name} | {organism.matching} | {place or '-'} | {shown} |")
        if show:
            for theme in themes:
                click.echo(_tree(theme, organism, 1))
    click.echo(
        f"\n{sum(named)} of {len(named)} with {ENOUGH} matches or more are named; {lone} have a single theme\n"
    )


def _tree(theme: Theme, organism: Organism, depth: int) -> str:
    mark = "*" if organism.is_named_by(theme.phrase) else " "
    line = f"{'   ' * depth}{mark} {theme.phrase} [{theme.count}, {theme.score:.0f}] {' | '.join(theme.terms[:5])}"
    return "\n".join([line, *(_tree(part, organism, depth + 1) for part in getattr(theme, "parts", ()))])


if __name__ == "__main__":
    main()
