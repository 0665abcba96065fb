"""Which texts nearly say the same, so that one stands for all: minimum hashes find candidates, Jaccard decides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.analysis.words import Words, mix

JACCARD = 0.6  # of word trigrams, from which on two texts are near-duplicates


def leaders(words: Words, order: NDArray[np.int64]) -> list[int]:
    """For each text the first one in `order` that it nearly duplicates; itself where it is the first.

    Candidates come from 8 bands of 2 minimum hashes (at a Jaccard of 0.6 about 97% meet), and each is
    then checked exactly. Texts of fewer than three words are compared whole.
    """
    at, hashes = words.grams(3)
    rows = words.rows[at] if at.size else np.empty(0, dtype=np.int64)
    bounds = np.searchsorted(rows, np.arange(len(words) + 1)).tolist()
    have = np.flatnonzero(np.diff(bounds)) if len(words) else np.empty(0, dtype=np.int64)
    bands = np.zeros((len(words), 8), dtype=np.uint64)
    for band in range(8 if have.size else 0):
        starts = np.asarray(bounds)[have]
        for k in (0, 1):
            lowest = np.minimum.reduceat(mix(hashes ^ np.uint64(0x51ED27 * (2 * band + k + 1))), starts)
            bands[have, band] = mix(bands[have, band] ^ lowest + np.uint64(k))
    keys = bands.tolist()
    grams: dict[int, frozenset[int]] = {}
    buckets: list[dict[int, int]] = [{} for _ in range(8)]
    whole: dict[tuple[int, ...], int] = {}
    first = list(range(len(words)))
    for row in order.tolist():
        if bounds[row] == bounds[row + 1]:
            text = tuple(words.flat[words.offsets[row] : words.offsets[row + 1]].tolist())
            first[row] = whole.setdefault(text, row) if text else row
            continue
        own: frozenset[int] | None = None
        for candidate in dict.fromkeys(
            bucket[key] for bucket, key in zip(buckets, keys[row], strict=True) if key in bucket
        ):
            own = own or frozenset(hashes[bounds[row] : bounds[row + 1]].tolist())
            if candidate not in grams:
                grams[candidate] = frozenset(hashes[bounds[candidate] : bounds[candidate + 1]].tolist())
            both = len(own & grams[candidate])
            if both >= JACCARD * (len(own) + len(grams[candidate]) - both):
                first[row] = candidate
                break
        else:
            for bucket, key in zip(buckets, keys[row], strict=True):
                bucket.setdefault(key, row)
    return first
