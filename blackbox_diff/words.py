"""Texts as arrays of word numbers: what near-duplicates and themes are counted on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"\w+(?:['’]\w+)*")
_PRIME = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """m texts: `flat` numbers of their lower-case words, text k at offsets[k]:offsets[k+1]."""

    flat: NDArray[np.int64]
    offsets: NDArray[np.int64]
    vocabulary: dict[str, int]

    @classmethod
    def of(cls, texts: Iterable[str], vocabulary: dict[str, int] | None = None) -> Words:
        """Number the words of `texts`; a given vocabulary is extended in place."""
        known = {} if vocabulary is None else vocabulary
        flat: list[int] = []
        offsets = [0]
        for text in texts:
            flat.extend([known.setdefault(word, len(known)) for word in WORD.findall(text.lower())])
            offsets.append(len(flat))
        return cls(np.asarray(flat, dtype=np.int64), np.asarray(offsets, dtype=np.int64), known)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def rows(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def grams(self, n: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Positions in `flat` where n words of one text begin, and a 64-bit hash of those words."""
        size = max(len(self.flat) - n + 1, 0)
        rows = self.rows
        at = np.flatnonzero(rows[:size] == rows[n - 1 : n - 1 + size])
        hashes = np.full(at.size, n, dtype=np.uint64)
        for k in range(n):
            hashes = mix(hashes ^ (self.flat[at + k].astype(np.uint64) + np.uint64(1)) * _PRIME)
        return at, hashes


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser: a bijection of 64-bit numbers without visible structure."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
