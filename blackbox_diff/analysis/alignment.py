"""Two segmentations of one text -> the segments that both share.

    text        t h e   l i g h t h o u s e
    target     |the|     |light|   |house|          ends 3 4 9 14     (" " is a token of its own)
    reference  |the| l i g h t |h  o u s e|         ends 3 9 14       (" light" is one token)
    cuts           ^            ^          ^        3 9 14: ends of both
    segments   |the| light      |house    |         logprobs are summed inside each, per side

A cut is a byte offset at which a unit of either side ends. Segments run from cut to cut, so they
partition the text, none can be split further, and each side's total is conserved. A zero-length unit
belongs to the segment that follows it, trailing ones to the last. A NaN unit makes its segment's sum on
that side missing, and the segment then leaves every statistic on both sides.

Everything is done on many texts at once: text k's offsets are shifted past text k-1's, so that one sorted
intersection aligns a whole run in linear time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.findings import Segment
from blackbox_diff.records import Tokens

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """The segments of m texts, flat and in order; s segments in all.

    offsets: (m+1,) segments of text k are offsets[k]:offsets[k+1].
    starts, ends: (s,) bytes within their own text.
    target, reference: (s,) sums of logprobs in nats; NaN where missing.
    target_units, reference_units: (s,) units of each side inside.
    lengths: (m,) bytes of each text.
    """

    offsets: Ints
    starts: Ints
    ends: Ints
    target: Floats
    reference: Floats
    target_units: Ints
    reference_units: Ints
    lengths: Ints

    @property
    def rows(self) -> Ints:
        """(s,) the text that each segment belongs to."""
        return np.repeat(np.arange(len(self.lengths)), np.diff(self.offsets))

    def of(self, row: int) -> tuple[Segment, ...]:
        """Text `row`'s segments as records."""
        part = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return tuple(
            map(
                Segment,
                self.starts[part].tolist(),
                self.ends[part].tolist(),
                _or_none(self.target[part]),
                _or_none(self.reference[part]),
            )
        )


def align(target: Tokens, reference: Tokens) -> tuple[Segment, ...]:
    """The shared segments of one text. Raises ValueError where the two do not cover the same bytes."""
    return align_many([target], [reference]).of(0)


def align_many(
    targets: Sequence[Tokens], references: Sequence[Tokens], names: Sequence[str] | None = None
) -> Segments:
    """Align text by text.

    Raises ValueError, naming the first text concerned by its entry in `names`, where the two sides do not
    cover the same bytes, a side has not one logprob per unit, or its ends go back.
    """
    if len(targets) != len(references):
        raise ValueError(f"{len(targets)} target segmentations against {len(references)} of the reference")

    def text(k: int) -> str:
        return names[k] if names is not None else f"text {k}"

    lengths, others = _lengths(targets), _lengths(references)
    if (bad := np.flatnonzero(lengths != others)).size:
        k = int(bad[0])
        raise ValueError(f"{text(k)}: the target covers {lengths[k]} bytes, the reference {others[k]}")
    # One byte of room between texts keeps the end of one apart from offset 0 of the next.
    bases = np.concatenate([[0], np.cumsum(lengths + 1)]).astype(np.int64)
    a, b = _flatten(targets, bases, text), _flatten(references, bases, text)

    cuts = _common(a.ends[a.inside], b.ends[b.inside])
    empty = np.flatnonzero((lengths == 0) & (a.counts + b.counts > 0))
    if empty.size:
        cuts = np.sort(np.concatenate([cuts, bases[empty]]))
    rows = np.searchsorted(bases, cuts, side="right") - 1
    offsets = np.searchsorted(cuts, bases).astype(np.int64)
    ends = cuts - bases[rows]
    starts = np.zeros_like(ends)
    starts[1:] = np.where(rows[1:] == rows[:-1], ends[:-1], 0)
    target, target_units = a.gather(cuts)
    reference, reference_units = b.gather(cuts)
    return Segments(offsets, starts, ends, target, reference, target_units, reference_units, lengths)


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """One side of all texts: shifted ends, and where a unit is empty, trailing or ends past offset 0."""

    ends: Ints
    logprobs: Floats
    empty: NDArray[np.bool_]
    trailing: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    counts: Ints

    def gather(self, cuts: Ints) -> tuple[Floats, Ints]:
        """(s,) sums and unit counts per segment; a segment is named by the cut it ends at."""
        at = np.searchsorted(cuts, self.ends, side="left")
        moved = np.flatnonzero(self.empty & ~self.trailing)
        at[moved] = np.searchsorted(cuts, self.ends[moved], side="right")
        sums = np.bincount(at, weights=self.logprobs, minlength=len(cuts))
        return sums.astype(np.float64), np.bincount(at, minlength=len(cuts)).astype(np.int64)


def _flatten(sides: Sequence[Tokens], bases: Ints, text: Callable[[int], str]) -> _Side:
    counts = np.fromiter((len(side) for side in sides), dtype=np.int64, count=len(sides))
    values = np.fromiter((len(side.logprobs) for side in sides), dtype=np.int64, count=len(sides))
    if (bad := np.flatnonzero(counts != values)).size:
        k = int(bad[0])
        raise ValueError(f"{text(k)}: {counts[k]} unit ends against {values[k]} logprobs")
    ends = _concatenate([side.ends for side in sides], np.dtype(np.int64))
    logprobs = _concatenate([side.logprobs for side in sides], np.dtype(np.float64))
    rows = np.repeat(np.arange(len(sides)), counts)
    firsts = (np.cumsum(counts) - counts)[counts > 0]
    before = np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(ends)]
    before[firsts] = 0
    if np.any(ends < before):
        raise ValueError(f"{text(int(rows[np.argmax(ends < before)]))}: unit ends must not decrease")
    shifted = ends + bases[rows]
    trailing = shifted == bases[rows + 1] - 1
    return _Side(shifted, logprobs, ends == before, trailing, ends > 0, counts)


def _lengths(sides: Sequence[Tokens]) -> Ints:
    return np.fromiter((side.ends[-1] if len(side) else 0 for side in sides), dtype=np.int64, count=len(sides))


def _common(a: Ints, b: Ints) -> Ints:
    """Values of two sorted arrays that are in both, once each."""
    a = a[np.flatnonzero(np.diff(a, prepend=-1))]
    at = np.searchsorted(b, a)
    found = at < len(b)
    found[found] = b[at[found]] == a[found]
    return a[found]


def _concatenate(arrays: list[NDArray[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=dtype)


def _or_none(values: Floats) -> list[float | None]:
    plain: list[float | None] = values.tolist()
    return [None if value != value else value for value in plain] if np.isnan(values).any() else plain
