"""Texts as arrays of word numbers: what near-duplicates and themes are counted on.

A word is a run of letters, digits and marks, with apostrophes inside. Where a script puts no spaces between words
(Chinese, Japanese but for katakana, Thai, Lao, Khmer, Burmese), every character with its marks counts as a word,
so that runs of words are the character n-grams of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import regex
from numpy.typing import NDArray

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER = rf"[[\w\p{{M}}]--[{_UNSPACED}]]"
WORD = regex.compile(rf"[{_UNSPACED}]\p{{M}}*|{_LETTER}+(?:['’]{_LETTER}+)*", regex.V1)
_ASCII_WORD = re.compile(r"\w+(?:'\w+)*")  # the same words, three times as fast
_UNSPACED_CHARACTER = regex.compile(rf"[{_UNSPACED}]")
_PRIME = np.uint64(0x9E3779B97F4A7C15)


def words_of(text: str) -> list[str]:
    """The words of a text in lower case."""
    if text.isascii():  # then a lower-case text has the same words
        found: list[str] = _ASCII_WORD.findall(text.lower())
        return found
    return [word.lower() for word in WORD.findall(text)]


def places(text: str) -> Iterator[tuple[int, int]]:
    """The characters at which each word of a text begins and ends."""
    pattern = _ASCII_WORD if text.isascii() else WORD
    return (match.span() for match in pattern.finditer(text))


def is_unspaced(word: str) -> bool:
    """Whether a word is one character of a script without spaces between words."""
    return not word.isascii() and _UNSPACED_CHARACTER.match(word) is not None


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
            flat.extend([known.setdefault(word, len(known)) for word in words_of(text)])
            offsets.append(len(flat))
        return cls(np.asarray(flat, dtype=np.int64), np.asarray(offsets, dtype=np.int64), known)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def rows(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def grams(self, n: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Positions in `flat` where n words of one text begin, and a 64-bit hash of those words."""
        return self.runs(self.flat.astype(np.uint64) + np.uint64(1), self.rows, n)

    @staticmethod
    def runs(
        words: NDArray[np.uint64], within: NDArray[np.int64], n: int
    ) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Where n `words` begin that share one number in `within`, which never falls; and a hash of each run."""
        size = max(len(words) - n + 1, 0)
        at = np.flatnonzero(within[:size] == within[n - 1 : n - 1 + size])
        hashes = np.full(at.size, n, dtype=np.uint64)
        for k in range(n):
            hashes = mix(hashes ^ words[at + k] * _PRIME)
        return at, hashes


def spans(text: str) -> list[tuple[str, int, int]]:
    """The words of a text in lower case, with their bytes in the text as it was written."""
    if text.isascii():  # then characters are bytes
        return [(match.group(), *match.span()) for match in _ASCII_WORD.finditer(text.lower())]
    found: list[tuple[str, int, int]] = []
    low, byte = 0, 0
    for start, end in places(text):
        begin = byte + len(text[low:start].encode("utf-8", "surrogatepass"))
        byte = begin + len(text[start:end].encode("utf-8", "surrogatepass"))
        found.append((text[start:end].lower(), begin, byte))
        low = end
    return found


def word_ends(texts: Iterable[str]) -> NDArray[np.int64]:
    """The bytes, within its own text, at which each word of `texts` ends; as many as Words.of counts."""
    ends: list[int] = []
    for text in texts:
        if text.isascii():  # then characters are bytes, and no text is encoded piece by piece
            ends.extend([end for _, end in places(text)])
        else:
            ends.extend([end for _, _, end in spans(text)])
    return np.asarray(ends, dtype=np.int64)


def word_gaps(
    gaps: NDArray[np.float64],
    segment_ends: NDArray[np.int64],
    segment_offsets: NDArray[np.int64],
    lengths: NDArray[np.int64],
    ends: NDArray[np.int64],
    offsets: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(w,) nats of gap on each word, spread evenly over a segment's bytes; a NaN gap counts as none.

    gaps, segment_ends: (s,) nats and end bytes of the segments, segment_offsets: (m+1,) where each text's begin.
    lengths: (m,) bytes of the texts.
    ends: (w,) word_ends of the texts, offsets: (m+1,) where each text's begin.
    The space before a word belongs to its first token, so a word runs from the end of the last one.
    """
    if not ends.size:
        return np.zeros(0)
    running = np.concatenate([[0.0], np.cumsum(np.nan_to_num(gaps))])
    begins = np.cumsum(lengths) - lengths  # the texts laid end to end
    before = running[segment_offsets[:-1]]
    edges = np.insert(np.repeat(begins, np.diff(segment_offsets)) + segment_ends, segment_offsets[:-1], begins)
    heights = np.insert(running[1:], segment_offsets[:-1], before)
    rows = np.repeat(np.arange(len(lengths)), np.diff(offsets))
    reached = np.interp(begins[rows] + ends, edges, heights)
    last = np.concatenate([[0.0], reached])[:-1]
    first = offsets[:-1][np.diff(offsets) > 0]
    last[first] = before[rows[first]]
    return np.asarray(reached - last)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser: a bijection of 64-bit numbers without visible structure."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
