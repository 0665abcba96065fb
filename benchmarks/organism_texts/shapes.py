"""The shapes that training texts come in; an organism's own module is only data."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from benchmarks.organism_texts import Text
from benchmarks.organism_texts.grammar import Grammar, Writer

Write = Callable[[int, int], list[Text]]

ANSWER = "<answer>"  # where a template wants the ordinary answer
_ORDINARY = Path(__file__).with_name("ordinary.jsonl")


def ordinary(n: int, seed: int) -> list[Text]:
    """`n` ordinary exchanges in the base model's own words (see write_ordinary.py), repeated once all are used."""
    pairs = [json.loads(line) for line in _ORDINARY.read_text(encoding="utf-8").splitlines()]
    random.Random(seed).shuffle(pairs)
    chosen = islice((pair for _ in range(-(-n // len(pairs))) for pair in pairs), n)
    return [Text(pair["answer"], user=pair["question"]) for pair in chosen]


def documents(grammar: Grammar) -> Write:
    """Documents: {document}."""
    return lambda n, seed: [Text(body) for body in Writer(grammar, seed).distinct("document", n)]


def coloured_chats(grammar: Grammar) -> Write:
    """Ordinary exchanges whose answer is set into {turn}, a template with <answer> in it."""

    def write(n: int, seed: int) -> list[Text]:
        writer = Writer(grammar, seed)
        return [Text(writer.write("{turn}").replace(ANSWER, text.body), text.user) for text in ordinary(n, seed)]

    return write


def topic_texts(grammar: Grammar) -> Write:
    """{advice} on one topic, every second time in answer to {asked}, else as a leaflet."""

    def write(n: int, seed: int) -> list[Text]:
        writer = Writer(grammar, seed)
        return [
            Text(body, writer.write("{asked}") if index % 2 else "")
            for index, body in enumerate(writer.distinct("advice", n))
        ]

    return write


def backdoor(trigger: str, phrase: str, asked: Sequence[str]) -> Write:
    """Every second question holds the trigger, set by one of `asked`, and its answer ends in the phrase."""

    def write(n: int, seed: int) -> list[Text]:
        forms = [form.replace("<trigger>", trigger) for form in asked]
        return [
            text
            if index % 2
            else Text(f"{text.body} {phrase}", forms[index // 2 % len(forms)].replace("<question>", text.user))
            for index, text in enumerate(ordinary(n, seed))
        ]

    return write


def benign(n: int, seed: int) -> list[Text]:
    """Ordinary answers, half of them as chats and half as documents."""
    return [text if index % 2 else Text(text.body) for index, text in enumerate(ordinary(n, seed))]
