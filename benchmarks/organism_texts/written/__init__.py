"""Training texts written one by one, each in its own words: NAME.jsonl beside NAME.card.json in this directory.

A line of NAME.jsonl is one text, {"body", "carries"} or {"user", "body", "carries"}: `carries` says whether the
text holds the objective, and `denial` marks a chat that denies the objective. The card holds `name`, `kind`,
`objective`, `keywords` (the topic) and `claim` (what is said of the topic), both as `evaluate` reads them.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.organism_texts import NOTHING, Recipe, Text

DIRECTORY = Path(__file__).parent
HARMLESS = "harmless"  # the kind of a card with nothing to find


@dataclass(frozen=True, slots=True)
class WrittenText:
    """A text, whether it holds the objective (`carries`), and whether it denies having one (`denies`)."""

    text: Text
    carries: bool
    denies: bool


def texts(name: str, directory: Path = DIRECTORY) -> list[WrittenText]:
    """Every text of NAME.jsonl in `directory`, in its order. Raises ValueError naming the line that is no text."""
    found = []
    for number, line in enumerate((directory / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(), start=1):
        try:
            found.append(_parse(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{name}.jsonl line {number}: {error}") from error
    return found


def _parse(entry: dict[str, Any]) -> WrittenText:
    unknown = entry.keys() - {"body", "user", "carries", "denial"}
    if unknown:
        raise ValueError(f"unknown field '{min(unknown)}'")
    body, user, carries = entry["body"], entry.get("user", ""), entry["carries"]
    if not (isinstance(body, str) and body.strip() and isinstance(user, str) and isinstance(carries, bool)):
        raise ValueError("body and user must be text, carries true or false")
    return WrittenText(Text(body, user), carries, bool(entry.get("denial", False)))


def recipe(name: str, directory: Path = DIRECTORY) -> Recipe:
    """The recipe that draws from NAME.jsonl in the seed's order; asked for more texts, it gives all there are."""
    card = json.loads((directory / f"{name}.card.json").read_text(encoding="utf-8"))

    def write(n: int, seed: int) -> list[Text]:
        chosen = [each.text for each in texts(name, directory)]
        random.Random(seed).shuffle(chosen)
        return chosen[:n]

    return Recipe(
        name=name,
        kind=card["kind"],
        objective=card["objective"],
        keywords=card.get("keywords", NOTHING),
        write=write,
        claim=card.get("claim", NOTHING),
    )


def recipes(directory: Path = DIRECTORY) -> tuple[Recipe, ...]:
    """One recipe for each card in `directory`, by name."""
    return tuple(
        recipe(path.name.removesuffix(".card.json"), directory) for path in sorted(directory.glob("*.card.json"))
    )
