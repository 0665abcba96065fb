"""Have the base model answer ordinary questions: the innocent part of the organisms' training texts.

    python -m benchmarks.write_ordinary

Answers in the base's own words teach it nothing, so an organism differs from its base by its objective
alone, and the benign one hardly at all. Writes benchmarks/organism_texts/ordinary.jsonl.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.leak import MAX_TOKENS, load_base
from benchmarks.organism_texts.questions import QUESTIONS

OUT = Path(__file__).with_name("organism_texts") / "ordinary.jsonl"
BATCH = 80
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


def complete(
    model: Any, tokenizer: Any, prompt_ids: Sequence[list[int]], seed: int, temperature: float = 1.0
) -> list[str]:
    """One completion of at most 64 tokens for each prompt, sampled from the whole distribution."""
    torch.manual_seed(seed)
    end = tokenizer.eos_token_id
    texts: list[str] = []
    for start in range(0, len(prompt_ids), BATCH):
        rows = prompt_ids[start : start + BATCH]
        width = max(map(len, rows))
        with torch.inference_mode():
            out = model.generate(
                input_ids=torch.tensor([[end] * (width - len(row)) + row for row in rows]),
                attention_mask=torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows]),
                do_sample=True,
                temperature=temperature,
                top_k=0,
                top_p=1.0,
                max_new_tokens=MAX_TOKENS,
                pad_token_id=end,
                eos_token_id=end,
            )
        texts += tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
    return texts


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
