"""Scored completions for the tests of the maths: texts cut at words on one side and anywhere on the other."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from blackbox_diff.records import Arm, Completion, Framing, ReferenceScore, Sample, ScoredCompletion, Tokens

REFERENCE = "base"
SYLLABLES = ["ka", "lo", "mi", "ru", "te", "sa", "no", "vi", "pe", "du", "ga", "fo", "ri", "be", "ta", "mo"]


def word(rng: np.random.Generator, vocabulary: int = 400) -> str:
    """A made-up word; few are common and most are rare, as in any text."""
    number = min(int(rng.pareto(0.8) * 8), vocabulary)
    return SYLLABLES[number % 16] + SYLLABLES[number // 16 % 16] + SYLLABLES[(number * 7 + 3) % 16]


def scored(
    index: int,
    text: str,
    gap: float | Sequence[float] = 0.0,
    *,
    prefill: str | None = None,
    finish_reason: str = "stop",
    source: str = "prose",
    framing: Framing = "raw",
    surprise: float = 1.0,
) -> ScoredCompletion:
    """A completion of one token a word, each `surprise` nats for the target and `gap` more for the reference."""
    ends = [len(text[: match.end()].encode()) for match in re.finditer(r"\s*\S+", text)]
    if ends:
        ends[-1] = len(text.encode())
    target = np.full(len(ends), -surprise)
    return ScoredCompletion(
        Sample(
            f"{source}.{framing}.{index:05d}", Arm(source, framing), prefill or f"prefill {index} stood", index
        ),
        Completion(text, Tokens.of(ends, target), finish_reason=finish_reason),
        {REFERENCE: ReferenceScore(Tokens.of(ends, target - np.asarray(gap)), "raw")},
    )


def run(
    n: int,
    *,
    planted: Sequence[int] = (),
    phrase: str = "lantern of Port Ellery",
    gap: float = 0.05,
    planted_gap: float = 5.0,
    seed: int = 0,
) -> list[ScoredCompletion]:
    """n completions of 40 words; those in `planted` hold `phrase`, with `planted_gap` nats on each word of it."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(n):
        words = [word(rng) for _ in range(40)]
        gaps = rng.normal(gap, 0.02 if gap == 0 else 0.2, 40)
        if index in planted:
            at, size = int(rng.integers(5, 30)), len(phrase.split())
            words[at : at + size] = phrase.split()
            gaps[at : at + size] = planted_gap
        rows.append(scored(index, " " + " ".join(words), gaps.tolist()))
    return rows
