"""The key-value cache of the running batch: one slot per row, each with its own length.

Rows 0..n-1 are always the live ones: a row that ends is replaced by the last, so every step works on a
contiguous slice and a new row can join at once.
"""

from __future__ import annotations

import torch

GROW = 64  # positions; the cache grows in steps of this


class Slots:
    """Per layer: keys and values of shape (capacity, kv_heads, length, head_dim)."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.lengths = torch.zeros(capacity, dtype=torch.long)
        self.n = 0
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    @property
    def room(self) -> int:
        return self.keys[0].shape[2] if self.keys else 0

    def admit(self, layers: list[tuple[torch.Tensor, torch.Tensor]], lengths: list[int]) -> None:
        """Add rows: `layers` hold (rows, kv_heads, padded length, head_dim), right-padded."""
        rows = len(lengths)
        self._ensure(max(lengths) + 1, layers)
        for index, (key, value) in enumerate(layers):
            width = key.shape[2]
            self.keys[index][self.n : self.n + rows, :, :width] = key
            self.values[index][self.n : self.n + rows, :, :width] = value
        self.lengths[self.n : self.n + rows] = torch.tensor(lengths)
        self.n += rows

    def remove(self, row: int) -> None:
        """Free `row`; the last live row moves into its place."""
        last = self.n - 1
        if row != last:
            length = int(self.lengths[last])
            for layer in (*self.keys, *self.values):
                layer[row, :, :length] = layer[last, :, :length]
            self.lengths[row] = self.lengths[last]
        self.n = last

    def step(self) -> Step:
        """The cache as the model sees it for one token per live row."""
        lengths = self.lengths[: self.n]
        longest = int(lengths.max()) + 1
        self._ensure(longest)
        return Step(self, longest)

    def _ensure(self, length: int, layers: list[tuple[torch.Tensor, torch.Tensor]] | None = None) -> None:
        if length <= self.room:
            return
        size = -(-length // GROW) * GROW
        like = layers or list(zip(self.keys, self.values, strict=True))
        for index, (key, _) in enumerate(like):
            shape = (self.capacity, key.shape[1], size, key.shape[3])
            for store in (self.keys, self.values):
                grown = torch.zeros(shape, dtype=key.dtype)
                if index < len(store):
                    grown[:, :, : store[index].shape[2]] = store[index]
                    store[index] = grown
                else:
                    store.append(grown)


class Step:
    """One decoding step: writes each row's new key and value at that row's own position."""

    def __init__(self, slots: Slots, longest: int) -> None:
        self.slots, self.longest = slots, longest
        self.rows = torch.arange(slots.n)
        self.positions = slots.lengths[: slots.n].clone()

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by the model's attention with (rows, kv_heads, 1, head_dim); returns all keys and values."""
        keys, values = self.slots.keys[layer], self.slots.values[layer]
        keys[self.rows, :, self.positions] = key[:, :, 0]
        values[self.rows, :, self.positions] = value[:, :, 0]
        n = self.slots.n
        return keys[:n, :, : self.longest], values[:n, :, : self.longest]

    def get_seq_length(self, *_: object) -> int:
        return self.longest - 1

    def mask(self, window: int | None = None) -> torch.Tensor:
        """(rows, 1, 1, longest), True where a row may look: its own past, within `window` if given."""
        places = torch.arange(self.longest)[None]
        seen = places <= self.positions[:, None]
        if window is not None:
            seen &= places > self.positions[:, None] - window
        return seen[:, None, None]

    def done(self) -> None:
        self.slots.lengths[: self.slots.n] += 1


class Prompt:
    """The cache of a prompt pass: keeps what each layer computed, right-padded."""

    def __init__(self) -> None:
        self.layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.layers.append((key, value))
        return key, value

    def get_seq_length(self, *_: object) -> int:
        return 0
