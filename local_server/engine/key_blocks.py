"""Attention over blocks of KEYS keys, one after the other, so that a token's is the same bits in every pass.

A call over all keys at once would round by their number, which is that of the longest text beside it. A block of
which a token sees nothing changes none of its bits. The blocks are joined as in FlashAttention (Dao et al., arXiv
2205.14135).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

KEYS = 64
NOTHING = (
    -1e30
)  # the log-sum of a block of which a token sees nothing: finite, or the difference of two were no number

_attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # the one that tells its log-sums, too


@dataclass(frozen=True, slots=True)
class Block:
    """Who sees what of the keys from `start` on. Rows before `first` see nothing.

    added: (..., rows, KEYS) or what broadcasts to it, 0 where a row sees, else -inf. blind: (..., rows), who sees
    nothing at all.
    """

    start: int
    first: int
    added: torch.Tensor
    blind: torch.Tensor


def block(start: int, first: int, seen: torch.Tensor) -> Block:
    """seen: (..., rows, KEYS)."""
    added = torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)
    return Block(start, first, added, ~seen.any(-1))


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: Sequence[Block], scale: float
) -> torch.Tensor:
    """query (texts, kv_heads, rows, head_dim), key and value (texts, kv_heads, places, head_dim): like `query`.

    Rows are a multiple of products.ROWS from each block's first on; places are a multiple of KEYS.
    """
    if len(blocks) == 1 and not blocks[0].first:
        return _one(query, key, value, blocks[0], scale)[0]
    found = torch.zeros_like(query)
    top = query.new_full((*query.shape[:-1], 1), NOTHING)  # the largest log-sum so far
    total = torch.zeros_like(top)  # of the exponentials, as parts of the largest
    for one in blocks:
        out, log_sum = _one(query, key, value, one, scale)
        now = log_sum.masked_fill(one.blind, NOTHING)[..., None]
        before = top[:, :, one.first :]
        larger = torch.maximum(before, now)
        kept, new = torch.exp(before - larger), torch.exp(now - larger)
        found[:, :, one.first :] = found[:, :, one.first :] * kept + out * new
        total[:, :, one.first :] = total[:, :, one.first :] * kept + new
        top[:, :, one.first :] = larger
    return found / total


def _one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, one: Block, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """What attention over one block's keys gives, and the log of the sum of its exponentials."""
    places = slice(one.start, one.start + KEYS)
    out, log_sum = _attention(
        query[:, :, one.first :], key[:, :, places], value[:, :, places], attn_mask=one.added, scale=scale
    )
    return out, log_sum
