"""From hidden states to log-probabilities, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn.functional import pad

from local_server.model.load import LoadedModel
from local_server.model.products import ROWS

CHUNK = 16 << 20  # logits held at once; full logits of a 262,144-token vocabulary would not fit
CACHED = 1 << 20  # and in float32 at once: what the processor's cache holds
BLOCK = 128  # ids whose largest logit is found together


class Rows:
    """What a few rows of logits, (rows, vocabulary), each up to a constant, say about the next token.

    wanted: how many of the rows count; the rest is padding.
    logits: the same in float32. norm: (rows,) log of the sum of exp(logits).
    """

    def __init__(self, logits: torch.Tensor, wanted: int) -> None:
        logits = logits.float()
        self.norm = torch.logsumexp(logits, dim=-1)[:wanted]
        self.logits = logits[:wanted]

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
        values, ids = largest(self.logits, count)
        values = (values - self.norm[:, None]).clamp(max=0.0)
        return [list(zip(*row, strict=True)) for row in zip(ids.tolist(), values.tolist(), strict=True)]


def largest(logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest `count` of each row as (values, ids), (rows, count) each; of equal ones the lower id first.

    logits: (rows, vocabulary), float32. The largest `count` lie in the `count` blocks with the largest maxima, and
    the maxima of all blocks take a tenth of the time of a topk over the vocabulary.
    """
    rows, vocabulary = logits.shape
    count, whole = min(count, vocabulary), vocabulary // BLOCK
    ids = torch.arange(vocabulary).expand(rows, -1)
    if whole > 2 * count:
        maxima = torch.unflatten(logits[:, : whole * BLOCK], 1, (whole, BLOCK)).amax(-1)
        blocks = _ordered(maxima, torch.arange(whole)).topk(count).indices
        inside = ids[0, : whole * BLOCK].view(whole, BLOCK)[blocks].flatten(1)
        ids = torch.cat([inside, ids[:, whole * BLOCK :]], dim=1)
    values = logits.gather(1, ids)
    places = _ordered(values, ids).topk(count).indices
    return values.gather(1, places), ids.gather(1, places)


def _ordered(values: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """int64 that sort as the float32 `values` do, and of equal ones the lower id higher."""
    bits = (values + 0.0).view(torch.int32)  # adding zero: -0.0 equals 0.0
    return ((bits ^ ((bits >> 31) & 0x7FFFFFFF)).long() << 32) - ids


def cap_of(loaded: LoadedModel) -> float | None:
    """The bound that some models put on their logits."""
    cap: float | None = getattr(loaded.model.config, "final_logit_softcapping", None)
    return cap


def capped(loaded: LoadedModel, logits: torch.Tensor) -> torch.Tensor:
    cap = cap_of(loaded)
    return torch.tanh(logits / cap) * cap if cap else logits


def rows(loaded: LoadedModel, hidden: torch.Tensor) -> Iterator[tuple[slice, Rows]]:
    """All of `hidden`, (rows, hidden size), in order: (which rows, what they say).

    An invariant model's come in multiples of ROWS, and never one at once: threads share the sum over a single row,
    which then rounds differently from that over one of several.
    """
    vocabulary, wanted = loaded.model.config.vocab_size, len(hidden)
    chunk, few = max(1, CHUNK // vocabulary), max(1, CACHED // vocabulary)
    if loaded.invariant:
        hidden = pad(hidden, (0, 0, 0, -wanted % ROWS))
        chunk, few = max(1, chunk // ROWS) * ROWS, 1 << max(1, few.bit_length() - 1)
    for start in range(0, len(hidden), chunk):
        block = capped(loaded, loaded.head(hidden[start : start + chunk]))
        for place in range(0, len(block), few):
            first = start + place
            if first < wanted:
                found = Rows(block[place : place + few], wanted - first)
                yield slice(first, first + len(found)), found


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
