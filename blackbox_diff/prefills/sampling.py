"""Seeded sampling of distinct openings."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Collection
from itertools import cycle, islice

from blackbox_diff.errors import InputError
from blackbox_diff.prefills.opening import opening
from blackbox_diff.prefills.sources import open_source
from blackbox_diff.records import EMPTY, WRITER


def draw(spec: str, n: int, seed: int, *, or_all: bool = False, written: Collection[str] = ()) -> list[str]:
    """`n` distinct openings of a source, in random order; the same arguments give the same list.

    or_all: all of them will do where there are fewer than `n`. written: what there is of the source `writer`;
    where that is fewer than `n`, they come round again, since a writer is asked once.
    A larger `n` only appends: draw(spec, n, seed)[:k] == draw(spec, k, seed). The order of a source's
    lines doesn't matter, nor does Python's version, since openings are ordered by a keyed hash.

    The empty source gives nothing as often as is asked: each draw of a completion without a prefill is its own.
    Raises InputError for a source that can't be read or that holds too few distinct openings.
    """
    if spec == EMPTY:
        return [""] * n
    if spec == WRITER:
        openings = set(written)
    else:
        openings = {start for text in open_source(spec).texts() if (start := opening(text)) is not None}
    if len(openings) < (1 if or_all or spec == WRITER else n):
        raise InputError(
            f"source '{spec}' holds {len(openings):,} distinct openings and {n:,} are asked for:"
            " ask for fewer completions or add another source"
        )
    key = hashlib.sha256(str(seed).encode()).digest()

    def place(text: str) -> tuple[bytes, str]:
        return hashlib.blake2b(text.encode(), key=key, digest_size=16).digest(), text

    found = heapq.nsmallest(n, openings, key=place)
    return found if or_all else list(islice(cycle(found), n))
