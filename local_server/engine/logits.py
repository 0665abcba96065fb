"""From hidden states to log-probabilities, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from local_server.model.load import LoadedModel

CHUNK = 16 << 20  # logits held at once; full logits of a 262,144-token vocabulary would not fit
CACHED = 1 << 20  # and in float32 at once: what the processor's cache holds


class Rows:
    """What a few rows of logits, (rows, vocabulary), each up to a constant, say about the next token.

    logits: the same in float32. norm: (rows,) log of the sum of exp(logits).
    """

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits.float()
        self.norm = torch.logsumexp(self.logits, dim=-1)

    def __len__(self) -> int:
        return len(self.logits)

    def logprobs(self, ids: torch.Tensor) -> list[float]:
        """The log-probability of one id per row."""
        found = self.logits.gather(1, ids[:, None])[:, 0] - self.norm
        return [float(value) for value in found.clamp(max=0.0).tolist()]

    def ranks(self, ids: torch.Tensor) -> list[int]:
        """The rank from 1 of one id per row."""
        return [int(rank) for rank in ((self.logits > self.logits.gather(1, ids[:, None])).sum(-1) + 1).tolist()]

    def top(self, count: int) -> list[list[tuple[int, float]]]:
        """The best `count` of each row as (id, logprob), best first."""
        if not count:
            return [[] for _ in range(len(self))]
        if count == 1:  # cheaper than a topk of one
            values, ids = self.logits.max(-1, keepdim=True)
        else:
            values, ids = self.logits.topk(min(count, self.logits.shape[-1]))
        values = (values - self.norm[:, None]).clamp(max=0.0)
        return [list(zip(*row, strict=True)) for row in zip(ids.tolist(), values.tolist(), strict=True)]


def cap_of(loaded: LoadedModel) -> float | None:
    """The bound that some models put on their logits."""
    cap: float | None = getattr(loaded.model.config, "final_logit_softcapping", None)
    return cap


def capped(loaded: LoadedModel, logits: torch.Tensor) -> torch.Tensor:
    cap = cap_of(loaded)
    return torch.tanh(logits / cap) * cap if cap else logits


def rows(loaded: LoadedModel, hidden: torch.Tensor) -> Iterator[tuple[slice, Rows]]:
    """All of `hidden`, (rows, hidden size), in order: (which rows, what they say)."""
    vocabulary = loaded.model.config.vocab_size
    chunk, few = max(1, CHUNK // vocabulary), max(1, CACHED // vocabulary)
    for start in range(0, len(hidden), chunk):
        block = capped(loaded, loaded.head(hidden[start : start + chunk]))
        for place in range(0, len(block), few):
            found = Rows(block[place : place + few])
            yield slice(start + place, start + place + len(found)), found


def scored(
    loaded: LoadedModel, hidden: torch.Tensor, targets: torch.Tensor, top: int, *, ranked: bool
) -> Iterator[tuple[float, list[tuple[int, float]], int]]:
    """For each row: (logprob of its target, the best `top` as (id, logprob), the target's rank from 1,
    or 0 unless `ranked`).

    hidden: (rows, hidden size); targets: (rows,).
    """
    for part, found in rows(loaded, hidden):
        wanted = targets[part]
        ranks = found.ranks(wanted) if ranked else [0] * len(found)
        yield from zip(found.logprobs(wanted), found.top(top), ranks, strict=True)
