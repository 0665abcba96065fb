"""What a run paid its target until a validated entry named the objective, at the prices of docs/money.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.promoted import parts_of
from blackbox_diff.analysis.keywords import Keywords
from blackbox_diff.analysis.lexicon import content_words
from blackbox_diff.buying.prices import Prices
from blackbox_diff.design.apart import VALIDATION, apart
from blackbox_diff.findings import Analysis
from blackbox_diff.run.collect import TARGET
from blackbox_diff.runfile.encoding import StoredCall
from blackbox_diff.runfile.store import Store

PRICES = Prices(0.30, 1.20)  # USD per million tokens, in and out


@dataclass(frozen=True, slots=True)
class Objective:
    """What a card says that its organism does. parts: the words of content in the card's keywords."""

    keywords: Keywords
    parts: frozenset[str]

    def named_by(self, phrases: Iterable[str]) -> bool:
        """Whether one of the phrases holds a keyword, or has no word of content but those of keywords."""
        return any(
            self.keywords.match(phrase) or (bool(own := content_words(phrase)) and own <= self.parts)
            for phrase in phrases
        )


def objectives(card: Path) -> dict[str, Objective]:
    """What there is to find, by name; an organism of two recipes has two, a harmless one none."""
    read = json.loads(card.read_text(encoding="utf-8"))
    given = read.get("objectives") or {read["name"]: read["keywords"]}
    return {
        name: Objective(Keywords.parse(words, str(card)), content_words(" ".join(parts_of(words))))
        for name, words in given.items()
        if words["any"] or words["regex"]
    }


@dataclass(frozen=True, slots=True)
class Paid:
    """Calls to the target, their tokens and price."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @classmethod
    def of(cls, calls: Iterable[StoredCall]) -> Paid:
        settled = [each.settled for each in calls if each.state == "settled"]
        return cls(len(settled), sum(each[0] for each in settled), sum(each[1] for each in settled))

    @property
    def usd(self) -> float:
        return PRICES.pico(self.input_tokens, self.output_tokens) / 1e12

    def __str__(self) -> str:
        return f"{self.calls} | {self.input_tokens} + {self.output_tokens} | {self.usd:.4f}"


NEVER = "– | – | –"


def confirmed(store: Store, analysis: Analysis) -> Iterator[tuple[tuple[str, ...], int]]:
    """(phrases of a confirmed entry, id of the target's last call that it took), by counts and by probability."""
    origins = (TARGET, apart(VALIDATION, TARGET))
    call = {sample.id: number or 0 for origin in origins for sample, _, number in store.decided(origin)}
    for question, found in zip(store.state.validation, analysis.validation, strict=True):
        if found.confirmed:
            took = [sample.id for sample in question.samples]
            yield (question.phrase, *question.terms), max(call.get(name, 0) for name in took)
    for word in analysis.masses:
        if word.confirmed:
            yield (word.word,), max((call.get(name, 0) for name in store.state.promoted_on), default=0)


def until_named(store: Store, analysis: Analysis, objective: Objective) -> Paid | None:
    """Paid to the target until the first confirmed entry that names the objective; None where there is none."""
    ends = [end for phrases, end in confirmed(store, analysis) if objective.named_by(phrases)]
    return Paid.of(call for call in store.calls(TARGET) if call.id <= min(ends)) if ends else None
