"""Drawing the next token of each row, under that row's own settings and seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

BLOCK = 256  # ids whose probabilities are summed together


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
    sampled = _invert(torch.softmax(scaled, dim=-1), [generator.random() for generator in generators])
    greedy = logits.argmax(-1)
    return [int(greedy[row] if s.temperature == 0 else sampled[row]) for row, s in enumerate(settings)]


def _invert(probabilities: torch.Tensor, numbers: list[float]) -> torch.Tensor:
    """(rows,) the first id at which each row's cumulative distribution passes its number from 0 to 1.

    First the block, then the place in it. Sums are in float64: over a whole vocabulary a float32 one is off
    by enough to change a draw now and then.
    """
    rows, vocabulary = probabilities.shape
    blocks = pad(probabilities, (0, -vocabulary % BLOCK)).view(rows, -1, BLOCK)
    ends = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    wanted = torch.tensor(numbers, dtype=torch.float64)[:, None] * ends[:, -1:]
    block = torch.searchsorted(ends, wanted, right=True).clamp(max=ends.shape[-1] - 1)
    before = torch.where(block > 0, ends.gather(1, (block - 1).clamp(min=0)), 0.0)
    inside = blocks[torch.arange(rows)[:, None], block][:, 0].cumsum(-1, dtype=torch.float64)
    place = torch.searchsorted(inside, wanted - before, right=True).clamp(max=BLOCK - 1)
    return (block * BLOCK + place)[:, 0].clamp(max=vocabulary - 1)


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
