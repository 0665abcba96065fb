"""The key-value cache of the running batch: one slot per row, each with its own length.

Rows 0..n-1 are always the live ones: a row that ends is replaced by the last, so every step works on a
contiguous slice and a new row can join at once.
"""

from __future__ import annotations

import torch

from local_server.engine.key_blocks import KEYS

STEP = KEYS  # positions; the cache grows in steps of this, so that attention finds whole blocks
ROWS = 8  # and rows, in steps of this


class KVCache:
    """Per layer: keys and values of shape (rows, kv_heads, positions, head_dim), made when first written.

    lengths: (capacity,) positions filled. `budget`: bytes that a batch of several rows may take.
    """

    def __init__(self, capacity: int, bytes_per_position: int, budget: int = 1 << 30) -> None:
        self.capacity, self.bytes_per_position, self.budget = capacity, bytes_per_position, budget
        self.lengths = torch.zeros(capacity, dtype=torch.long)
        self.n = 0
        self.room = (0, 0)
        self.keys: dict[int, torch.Tensor] = {}
        self.values: dict[int, torch.Tensor] = {}

    def fits(self, rows: int, length: int) -> bool:
        """Whether `rows` more rows, the longest of any row being `length`, stay within capacity and budget."""
        total = self.n + rows
        longest = max(length, int(self.lengths[: self.n].max()) if self.n else 0)
        if total > self.capacity:
            return False
        return total == 1 or total * (longest + STEP) * self.bytes_per_position <= self.budget

    def open(self, lengths: list[int]) -> None:
        """Rows n.. become live with these lengths; the pass that follows fills them."""
        self.lengths[self.n : self.n + len(lengths)] = torch.tensor(lengths)
        self.n += len(lengths)

    def ensure(self, rows: int, length: int) -> None:
        """Make room for `rows` rows of `length` positions in every layer."""
        if rows <= self.room[0] and length <= self.room[1]:
            return
        self.room = (
            min(self.capacity, max(self.room[0], -(-rows // ROWS) * ROWS)),
            max(self.room[1], -(-length // STEP) * STEP),
        )
        for store in (self.keys, self.values):
            for layer, old in store.items():
                store[layer] = self._blank(old)
                store[layer][: old.shape[0], :, : old.shape[2]] = old

    def layer(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values of one layer, made on first use in the shape of `key` and `value`."""
        if layer not in self.keys:
            self.keys[layer], self.values[layer] = self._blank(key), self._blank(value)
        return self.keys[layer], self.values[layer]

    def remove(self, row: int) -> None:
        """Free `row`; the last live row moves into its place. The last one to leave gives the memory back."""
        last = self.n - 1
        if row != last:
            length = int(self.lengths[last])
            for store in (self.keys, self.values):
                for layer in store.values():
                    layer[row, :, :length] = layer[last, :, :length]
            self.lengths[row] = self.lengths[last]
        self.n = last
        if not last:
            self.keys, self.values, self.room = {}, {}, (0, 0)

    def _blank(self, like: torch.Tensor) -> torch.Tensor:
        return torch.zeros((self.room[0], like.shape[1], self.room[1], like.shape[3]), dtype=like.dtype)
