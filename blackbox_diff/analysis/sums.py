"""Sums over equal numbers, in millions: what numpy's `unique` does with a slower sort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.signedinteger[Any]]
Floats = NDArray[np.floating[Any]]

DIGIT = 16  # bits: numpy sorts numbers of so many by counting them


def stable_order(keys: Ints) -> NDArray[np.int64]:
    """(k,) what sorts `keys`, which are not negative; equal ones stay in their order."""
    bits = max(1, int(keys.max(initial=0)).bit_length())
    return np.lexsort([(keys >> shift).astype(np.uint16) for shift in range(0, bits, DIGIT)])


def summed(keys: Ints, columns: Sequence[Floats]) -> tuple[Ints, list[NDArray[np.float64]]]:
    """The distinct `keys`, which are not negative, rising; and each column's sums over the entries of each."""
    order = stable_order(keys)
    ordered = keys[order]
    fresh = np.diff(ordered, prepend=-1) > 0
    where = np.cumsum(fresh) - 1
    kept = ordered[fresh]
    sums = [np.bincount(where, weights=each[order], minlength=kept.size).astype(np.float64) for each in columns]
    return kept, sums
