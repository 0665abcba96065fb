"""Passes in which a token's numbers are the same bits whatever else is there: `--batch-invariant`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import pad

from local_server.engine.key_blocks import KEYS, Block, attend, block
from local_server.engine.kv_cache import KVCache
from local_server.engine.packed_attention import Group, Pass, Segment
from local_server.model.products import ROWS, up


class InvariantPass(Pass):
    """A pass of a multiple of ROWS tokens, which attend to one block of keys after the other."""

    rows = ROWS

    def __init__(
        self,
        cache: KVCache | None,
        tokens: Sequence[int],
        adapters: Sequence[str | None],
        segments: Sequence[Segment],
    ) -> None:
        super().__init__(cache, tokens, adapters, segments)
        self._blocks: dict[object, list[Block]] = {}

    def _attend_group(
        self,
        number: int,
        group: Group,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        heads, tokens, head_dim = query.shape
        count, longest = group.index.shape
        kv_heads, places = key.shape[1], key.shape[2]
        # (count, kv_heads, longest x heads of a key head, head_dim)
        q = query.reshape(kv_heads, -1, tokens, head_dim)[:, :, group.index].permute(2, 0, 3, 1, 4).flatten(2, 3)
        blocks = self._segment_blocks(number, places - longest, longest, heads // kv_heads, window)
        room = (0, 0, 0, -places % KEYS)
        result = attend(q, pad(key, room), pad(value, room), blocks, scale)
        return result.reshape(count, kv_heads, longest, -1, head_dim).transpose(1, 2).flatten(2, 3)

    def _attend_rows(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """One new token per live row over its slot; the query heads of a key head stand in for positions."""
        assert self.cache is not None
        keys, values = self._extended(self.cache, layer, key, value)
        kv_heads, head_dim = key.shape[0], key.shape[2]
        shared = len(query) // kv_heads
        q = query.new_zeros(self.n, kv_heads, up(shared), head_dim)
        q[:, :, :shared] = query.reshape(kv_heads, shared, self.n, head_dim).permute(2, 0, 1, 3)
        result = attend(q, keys[: self.n], values[: self.n], self._row_blocks(window), scale)
        return result[:, :, :shared].flatten(1, 2)

    def _row_blocks(self, window: int | None) -> list[Block]:
        """What the live rows see, (n, 1, 1, KEYS) each."""
        name = ("rows", window)
        if name not in self._blocks:
            now = self.positions[: self.n, None, None, None]
            seen = [_seen(start, now, window) for start in range(0, self.longest, KEYS)]
            self._blocks[name] = [block(KEYS * j, 0, one) for j, one in enumerate(seen) if bool(one.any())]
        return self._blocks[name]

    def _segment_blocks(self, number: int, before: int, new: int, shared: int, window: int | None) -> list[Block]:
        """What a group's tokens see, (tokens x heads of a key head, KEYS) each; `before` tokens are a prefix."""
        name = (number, window)
        if name not in self._blocks:
            blocks = []
            for start in range(0, before + new, KEYS):
                first = max(0, start - before) // ROWS * ROWS
                now = torch.arange(before + first, before + new)[:, None]
                seen = _seen(start, now, window)
                if bool(seen.any()):
                    blocks.append(block(start, first * shared, seen.repeat_interleave(shared, 0)))
            self._blocks[name] = blocks
        return self._blocks[name]


def _seen(start: int, now: torch.Tensor, window: int | None) -> torch.Tensor:
    """Whether tokens at the positions `now`, (..., 1), see each of the KEYS places from `start` on."""
    places = torch.arange(start, start + KEYS)
    seen = places <= now
    return seen & (places > now - window) if window else seen
