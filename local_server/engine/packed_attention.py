"""One pass through a model over many texts at once, laid end to end: no padding in any linear layer.

A pass holds one new token of each live row, prompts that join the batch, and texts to score, in any mix.
transformers' own modules compute everything but attention; attention is registered under a name of its
own, which is the library's documented way, and looks up here which tokens belong together:

    tokens    | r0 r1 r2 | p p p p p | s s s | t t t t |
    attend to   their      own prompt  a shared prefix,
                slots                  then themselves
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from local_server.engine.kv_cache import KVCache
from local_server.model.products import up

NAME = "local_server_packed"


@dataclass(slots=True, eq=False)
class Prefix:
    """The start that several texts share, computed once.

    layers: per layer keys and values (kv_heads, length, head_dim). hidden: (length, hidden size).
    """

    ids: tuple[int, ...]
    layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    hidden: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Segment:
    """New tokens of one text, after a prefix if there is one. row: the slot that keeps them.

    into: a Prefix that these tokens are to become.
    """

    ids: Sequence[int]
    adapter: str | None = None
    prefix: Prefix | None = None
    row: int | None = None
    into: Prefix | None = None


@dataclass(slots=True)
class Group:
    """Segments that attend in one call: same prefix, lengths alike; padded to the longest."""

    prefix: Prefix | None
    index: torch.Tensor  # (segments, longest): places in the pass, padded with the segment's first
    real: tuple[torch.Tensor, ...]  # (tokens,) twice: rows and columns of `index` that are no padding
    places: torch.Tensor  # (tokens,): what `index` holds there
    rows: torch.Tensor | None  # (kept,): slot of each segment that has one
    kept: torch.Tensor | None  # (kept,): which segments those are
    into: Prefix | None


class Pass:
    """The layout of one pass: `tokens` for the first rows of `cache`, then `segments`.

    rows: what the number of tokens, and of a group's, is filled up to a multiple of. tokens: how many are real.
    """

    rows = 1

    def __init__(
        self,
        cache: KVCache | None,
        tokens: Sequence[int],
        adapters: Sequence[str | None],
        segments: Sequence[Segment],
    ) -> None:
        self.cache, self.n = cache, len(tokens)
        ids = list(tokens)
        self.adapters = list(adapters)
        self.starts: list[int] = []
        places: list[torch.Tensor] = []
        if cache is not None and self.n:
            places.append(cache.lengths[: self.n].clone())
        for segment in segments:
            before = len(segment.prefix) if segment.prefix else 0
            self.starts.append(len(ids))
            ids += segment.ids
            self.adapters += [segment.adapter] * len(segment.ids)
            places.append(torch.arange(before, before + len(segment.ids)))
        self.tokens = len(ids)
        filler = -len(ids) % self.rows
        self.ids = torch.tensor(ids + [0] * filler)
        self.adapters += [None] * filler
        self.positions = torch.cat([*places, torch.zeros(filler, dtype=torch.long)])
        self.longest = int(self.positions[: self.n].max()) + 1 if self.n else 0
        self.groups = [_group(members, self.rows) for members in self._grouped(segments)]
        self._masks: dict[object, torch.Tensor | None] = {}
        if cache is not None:
            joining = [segment for segment in segments if segment.row is not None]
            ends = [len(segment.ids) + (len(segment.prefix) if segment.prefix else 0) for segment in joining]
            rows = max([self.n, *(segment.row + 1 for segment in joining if segment.row is not None)])
            cache.ensure(rows, max([self.longest, *ends]))

    def _grouped(self, segments: Sequence[Segment]) -> list[list[tuple[int, Segment]]]:
        """(start, segment) in groups of one prefix, no segment shorter than half the group's longest."""
        pairs = sorted(
            zip(self.starts, segments, strict=True), key=lambda pair: (id(pair[1].prefix), -len(pair[1].ids))
        )
        groups: list[list[tuple[int, Segment]]] = []
        for _, members in groupby(pairs, key=lambda pair: id(pair[1].prefix)):
            group: list[tuple[int, Segment]] = []
            for pair in members:
                if group and (2 * len(pair[1].ids) < len(group[0][1].ids) or pair[1].into or group[0][1].into):
                    groups.append(group)
                    group = []
                group.append(pair)
            groups.append(group)
        return groups

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """query (heads, tokens, head_dim), key and value (kv_heads, ...); returns (tokens, heads, head_dim)."""
        heads, tokens, _ = query.shape
        out = query.new_zeros(tokens, heads, value.shape[-1])  # what fills the pass up attends to nothing
        if self.n and self.cache is not None:
            out[: self.n] = self._attend_rows(layer, query[:, : self.n], key, value, scale, window)
        for number, group in enumerate(self.groups):
            k, v = self._joined(layer, group, key, value)
            out[group.places] = self._attend_group(number, group, query, k, v, scale, window)[group.real]
        return out

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
        """One group over its keys and values (segments, kv_heads, places, head_dim), those of the prefix first.

        Returns (segments, longest, heads, head_dim), what stands in padded places being of no use.
        """
        shared = len(query) // key.shape[1]  # query heads per key head
        if shared > 1:
            key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
        mask = self._segment_mask(number, group.index.shape[1], key.shape[2], window)
        result = scaled_dot_product_attention(
            query[:, group.index].transpose(0, 1), key, value, attn_mask=mask, is_causal=mask is None, scale=scale
        )
        return result.transpose(1, 2)

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
        q = query.reshape(kv_heads, -1, self.n, head_dim).permute(2, 0, 1, 3)
        k, v = keys[: self.n, :, : self.longest], values[: self.n, :, : self.longest]
        result = scaled_dot_product_attention(q, k, v, attn_mask=self._row_mask(window), scale=scale)
        return result.reshape(self.n, -1, value.shape[-1])

    def _extended(
        self, cache: KVCache, layer: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The slots' keys and values, the live rows' new ones in their places."""
        keys, values = cache.layer(layer, key[None], value[None])
        rows = torch.arange(self.n)
        keys[rows, :, self.positions[: self.n]] = key[:, : self.n].transpose(0, 1)
        values[rows, :, self.positions[: self.n]] = value[:, : self.n].transpose(0, 1)
        return keys, values

    def _joined(
        self, layer: int, group: Group, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A group's keys and values behind those of its prefix, kept where they are needed again."""
        k, v = key[:, group.index].transpose(0, 1), value[:, group.index].transpose(0, 1)
        if group.prefix:
            before_k, before_v = group.prefix.layers[layer]
            k = torch.cat([before_k.expand(len(k), -1, -1, -1), k], dim=2)
            v = torch.cat([before_v.expand(len(v), -1, -1, -1), v], dim=2)
        self._keep(layer, group, k, v)
        return k, v

    def _keep(self, layer: int, group: Group, key: torch.Tensor, value: torch.Tensor) -> None:
        if group.into is not None:
            size = len(group.into)
            group.into.layers[layer] = (key[0, :, :size].clone(), value[0, :, :size].clone())
        if group.rows is not None and self.cache is not None:
            keys, values = self.cache.layer(layer, key, value)
            width = min(key.shape[2], keys.shape[2])  # a longer neighbour may only be scored
            keys[group.rows, :, :width] = key[group.kept, :, :width]
            values[group.rows, :, :width] = value[group.kept, :, :width]

    def _row_mask(self, window: int | None) -> torch.Tensor | None:
        """(n, 1, 1, longest): what is added to a row's attention there."""
        name = ("rows", window)
        if name not in self._masks:
            places, now = torch.arange(self.longest)[None], self.positions[: self.n, None]
            seen = places <= now
            if window:
                seen &= places > now - window
            self._masks[name] = None if bool(seen.all()) else _added(seen[:, None, None])
        return self._masks[name]

    def _segment_mask(self, number: int, new: int, total: int, window: int | None) -> torch.Tensor | None:
        """(new, total): what is added to a token's attention there; None where plain causal attention will do."""
        window = window if window and window < total else None
        if new == total and window is None:
            return None
        name = (number, window)
        if name not in self._masks:
            places, now = torch.arange(total)[None], torch.arange(total - new, total)[:, None]
            seen = places <= now
            if window:
                seen &= places > now - window
            self._masks[name] = _added(seen)
        return self._masks[name]


def _added(seen: torch.Tensor) -> torch.Tensor:
    """0 where `seen`, else -inf: the form in which attention uses a mask, made once instead of in every layer."""
    return torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)


def _group(members: list[tuple[int, Segment]], rows_of: int) -> Group:
    lengths = torch.tensor([len(segment.ids) for _, segment in members])
    starts = torch.tensor([start for start, _ in members])
    places = torch.arange(up(int(lengths.max()), rows_of))[None]
    real = places < lengths[:, None]
    kept = [number for number, (_, segment) in enumerate(members) if segment.row is not None]
    rows = [members[number][1].row for number in kept]
    index = starts[:, None] + torch.where(real, places, 0)
    return Group(
        prefix=members[0][1].prefix,
        index=index,
        real=real.nonzero(as_tuple=True),
        places=index[real],
        rows=torch.tensor(rows) if kept else None,
        kept=torch.tensor(kept) if kept else None,
        into=members[0][1].into,
    )


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    packed: Pass,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """What the model calls: query (1, heads, tokens, head_dim) in, (1, tokens, heads, head_dim) out."""
    out = packed.attend(module.layer_idx, query[0], key[0], value[0], scaling, sliding_window)
    return out[None], None


AttentionInterface.register(NAME, attention)
