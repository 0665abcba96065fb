"""Drawing the next token of each row, under that row's own settings and seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Settings:
    """One request's sampler: temperature 0 is greedy, top_k 0 and top_p 1 are off."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0

    @property
    def filtered(self) -> bool:
        return self.top_p < 1 or self.top_k > 0 or self.min_p > 0


def choose(logits: torch.Tensor, settings: list[Settings], generators: list[random.Random]) -> list[int]:
    """One token id per row of `logits` (rows, vocabulary).

    Each row inverts its own cumulative distribution at a number from its own generator, so a row's
    draw does not depend on its neighbours in the batch.
    """
    temperatures = torch.tensor([max(s.temperature, 1e-6) for s in settings])
    scaled = logits / temperatures[:, None]
    for row, setting in enumerate(settings):
        if setting.filtered and setting.temperature > 0:
            scaled[row] = _filter(scaled[row], setting)
    # In float64: a sum over a whole vocabulary in float32 is off by enough to change a draw now and then.
    cumulative = torch.softmax(scaled, dim=-1).cumsum(-1, dtype=torch.float64)
    draws = torch.tensor([generator.random() for generator in generators], dtype=torch.float64) * cumulative[:, -1]
    sampled = torch.searchsorted(cumulative, draws[:, None], right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    greedy = logits.argmax(-1)
    return [int(greedy[row] if s.temperature == 0 else sampled[row]) for row, s in enumerate(settings)]


def _filter(logits: torch.Tensor, setting: Settings) -> torch.Tensor:
    """`logits` (vocabulary,) with what the filters exclude at -inf; the best token always stays."""
    values, order = logits.sort(descending=True)
    probabilities = torch.softmax(values, dim=-1)
    keep = torch.ones_like(values, dtype=torch.bool)
    if setting.top_k > 0:
        keep[setting.top_k :] = False
    if setting.top_p < 1:
        keep &= probabilities.cumsum(-1) - probabilities < setting.top_p
    if setting.min_p > 0:
        keep &= probabilities >= setting.min_p * probabilities[0]
    keep[0] = True
    return torch.full_like(logits, -torch.inf).scatter(0, order[keep], values[keep])
