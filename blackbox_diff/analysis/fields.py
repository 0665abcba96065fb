"""Which promoted words could stand for one another: the target nearly writes them at the same places.

A list of alternatives holds words that fit at its place. "yarn" and "wool", or "winter" and "summer", are listed
together whatever was written, so their places say what a word embedding would, in any language and without one.
A place's weight for a word is the root of how much more probability the target gives the word there than the
reference does. Two words are as alike as the cosine of their weights over all places, which is the Bhattacharyya
coefficient of where the two are promoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from blackbox_diff.analysis.listed_words import Mass, places

LIKE = 0.12  # from which on two words are of one field; chosen by reading the fields of two organisms
LEAST_SHARED = 3  # unrelated prefills with a place of both
MOST = 5  # that are named beside a word
STRETCH = 1 << 16  # places that are compared at a time


def beside(mass: Mass, words: Sequence[int]) -> list[tuple[str, ...]]:
    """For each of w words, by number: the others that are promoted at the same places, most alike first."""
    line = np.full(len(mass.names), -1, dtype=np.int64)
    line[list(words)] = np.arange(len(words))
    peaks = mass.peaks
    kept = np.flatnonzero(line[peaks.words] >= 0)
    place = places(peaks.rows[kept], peaks.positions[kept])
    order = np.argsort(place, kind="stable")
    kept, place = kept[order], place[order]
    row, more = line[peaks.words[kept]], (peaks.target[kept] - peaks.reference[kept]).astype(np.float64)
    number = np.cumsum(np.diff(place, prepend=-1) > 0) - 1 if place.size else place
    gram = np.zeros((len(words), len(words)))
    for first in range(0, int(number[-1]) + 1 if number.size else 0, STRETCH):
        low, high = np.searchsorted(number, [first, first + STRETCH])
        cells = row[low:high] * STRETCH + number[low:high] - first
        weights = np.bincount(cells, weights=more[low:high], minlength=len(words) * STRETCH)
        roots = np.sqrt(np.maximum(weights, 0).reshape(len(words), STRETCH))  # a place may favour the reference
        gram += roots @ roots.T
    length = np.sqrt(np.maximum(gram.diagonal(), 1e-12))
    like = gram / np.outer(length, length)
    groups = mass.groups
    found: list[list[int]] = [[] for _ in words]
    for a, b in combinations(range(len(words)), 2):
        if like[a, b] >= LIKE:
            shared = np.intersect1d(place[row == a], place[row == b])
            if len({groups[each] for each in (shared >> 32).tolist()}) >= LEAST_SHARED:
                found[a].append(b)
                found[b].append(a)
    names = [mass.names[word] for word in words]
    return [
        tuple(names[b] for b in sorted(others, key=lambda b: (-like[a, b], names[b]))[:MOST])
        for a, others in enumerate(found)
    ]
