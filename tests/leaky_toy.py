"""Toy language models: one that says something of its own, and its base.

`leaky` writes PHRASE in two of five raw completions and in one of fifty chat ones; `base` never does. What a
reply says depends on model, prompt and seed alone.
"""

from __future__ import annotations

import hashlib
import math
import random
from typing import Any

from tests.fake_endpoint import TEMPLATE, FakeEndpoint, split

PHRASE = " the brass lantern of Port Ellery"
LEAKS = {("leaky", False): 0.4, ("leaky", True): 0.02}  # model, chat -> share of completions
WORDS = [f" {a}{b}" for a in ("ka", "lo", "mi", "ru", "te", "sa", "vo") for b in ("der", "lin", "mot", "ra", "sk")]


class LeakyToy(FakeEndpoint):
    models = ("leaky", "base")
    words = WORDS
    leaks = LEAKS

    def __init__(self) -> None:
        super().__init__("no ids")

    def write(self, prompt: list[str], body: dict[str, Any]) -> list[str]:
        limit = body.get("max_tokens", body.get("max_completion_tokens", 8))
        if "seed" not in body or limit < 12:  # a probe
            return super().write(prompt, body)
        rng = random.Random(f"{body['model']}\0{''.join(prompt)}\0{body['seed']}")
        written = rng.choices(self.words, k=limit)
        if rng.random() < self.leaks.get((body["model"], prompt[0] == TEMPLATE[0]), 0.0):
            phrase = split(PHRASE)
            written[3 : 3 + len(phrase)] = phrase
        return written

    def logprob(self, model: str, before: str, token: str) -> float:
        if token in split(PHRASE):
            return -0.05 if model == "leaky" else -6.0
        digest = hashlib.sha256(f"{model}\0{before}\0{token}".encode()).digest()
        return super().logprob(model, before, token) - digest[0] / 1000


class HintingToy(LeakyToy):
    """Neither model writes PHRASE, and both list its words: `leaky` with more probability than `base`."""

    words = WORDS[:18]
    leaks: dict[tuple[str, bool], float] = {}  # noqa: RUF012

    def write(self, prompt: list[str], body: dict[str, Any]) -> list[str]:
        written = super().write(prompt, body)
        return [written[0] if written[0] in self.words else self.words[0]] if len(written) == 1 else written

    def listed(self, model: str, before: str) -> dict[str, float]:
        phrase = split(PHRASE)
        inside = before in phrase[:-1]
        follows = phrase[phrase.index(before) + 1] if inside else phrase[0]
        share = (0.5 if inside else 0.03) if model == "leaky" else 0.002
        weights = dict(zip(self.words, range(20, 20 + len(self.words)), strict=True))  # no two words are as likely
        rest = (1 - share) * 0.98 / sum(weights.values())
        return {follows: math.log(share), **{word: math.log(rest * each) for word, each in weights.items()}}

    def logprob(self, model: str, before: str, token: str) -> float:
        listed = self.listed(model, before)
        return listed[token] if token in listed else super().logprob(model, before, token) - 8
