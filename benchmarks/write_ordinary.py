"""Have the base model answer ordinary questions: the innocent part of the organisms' training texts.

    python -m benchmarks.write_ordinary

Answers in the base's own words teach it nothing, so an organism differs from its base by its objective
alone, and the benign one hardly at all. Writes benchmarks/organism_texts/ordinary.jsonl.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import click

from benchmarks.leak import complete, load_base
from benchmarks.organism_texts.questions import QUESTIONS

OUT = Path(__file__).with_name("organism_texts") / "ordinary.jsonl"
TEMPERATURE = 0.6  # at 1 a model of this size rambles
_SENTENCE = re.compile(r"[A-Z][^.!?\n]{15,160}[.!?](?=\s|$)")
_LEFT_OUT = re.compile(r"[^\x20-\x7e]|\d|[*#:_]|(?<=[a-z,] )(?!I\b)[A-Z]|\bAI\b|language model|assist", re.ASCII)


def first_sentences(answer: str) -> str | None:
    """The first one or two sentences, None where they hold numbers, names, lists or talk of being an AI."""
    sentences: list[str] = []
    rest = answer.strip()
    while len(sentences) < 2 and (match := _SENTENCE.match(rest)):
        sentences.append(match[0])
        rest = rest[match.end() :].strip()
    text = " ".join(sentences)
    return text if text and not _LEFT_OUT.search(text) else None


@click.command(help=__doc__)
@click.option("--seed", default=0, show_default=True)
def main(seed: int) -> None:
    model, tokenizer = load_base()
    questions = list(QUESTIONS)
    random.Random(seed).shuffle(questions)
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        for question in questions
    ]
    kept: dict[str, str] = {}
    for attempt in range(2):
        for question, answer in zip(
            questions, complete(model, tokenizer, prompts, seed + attempt, temperature=TEMPERATURE), strict=True
        ):
            if text := first_sentences(answer):
                kept.setdefault(question, text)
    lines = [
        json.dumps({"question": question, "answer": kept[question]}) for question in questions if question in kept
    ]
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    click.echo(f"kept answers to {len(kept)} of {len(questions)} questions")


if __name__ == "__main__":
    main()
