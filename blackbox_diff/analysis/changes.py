"""What differs between two sets of completions: words that became commoner or rarer, and the gap to a reference.

Both tests relabel completions at random within their arm, which is exact where both sets come from one model: of
two audits of one model at most `level` are said to differ, whatever the words are and however many. The words'
test is the maximum-T procedure of Westfall & Young (1993): a word counts as changed where its statistic passes the
level's quantile of the largest statistic over all words under relabelling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.analysis.words import Words

Floats = NDArray[np.float64]

RELABELLINGS = 499
LEAST_COMPLETIONS = 3  # that hold a word, in both sets together
MOST_WORDS = 20_000
LEVEL = 0.02


@dataclass(frozen=True, slots=True)
class WordChange:
    """A word's completions in both sets. z: standardised difference of its rates, new less old."""

    word: str
    old: int
    new: int
    z: float
    p_value: float  # adjusted for looking at every word


@dataclass(frozen=True, slots=True)
class WordTest:
    """The words that changed, most changed first, and the smallest adjusted p-value of all words."""

    changed: tuple[WordChange, ...]
    p_value: float


def word_changes(
    old: Sequence[str],
    new: Sequence[str],
    old_arms: Sequence[str],
    new_arms: Sequence[str],
    *,
    seed: int,
    level: float = LEVEL,
) -> WordTest:
    """Words whose share of completions differs between `old` and `new` texts, at a family-wise error of `level`.

    old_arms, new_arms: which arm each text is of; only texts of arms that both sets have are compared.
    """
    common = set(old_arms) & set(new_arms)
    kept_old = [text for text, arm in zip(old, old_arms, strict=True) if arm in common]
    kept_new = [text for text, arm in zip(new, new_arms, strict=True) if arm in common]
    arms = [arm for arm in (*old_arms, *new_arms) if arm in common]
    if not kept_old or not kept_new:
        return WordTest((), 1.0)
    labels = np.r_[np.zeros(len(kept_old)), np.ones(len(kept_new))]
    holds, names = _presence([*kept_old, *kept_new])
    if not names:
        return WordTest((), 1.0)
    strata = np.unique(arms, return_inverse=True)[1]
    observed = _z(holds, labels[None, :])[0]
    highest = np.concatenate([np.abs(_z(holds, block)).max(axis=1) for block in _relabelled(labels, strata, seed)])
    p = (1 + (highest[None, :] >= np.abs(observed)[:, None] - 1e-12).sum(axis=1)) / (len(highest) + 1)
    counts = np.c_[holds @ (1 - labels), holds @ labels].astype(int)
    order = np.lexsort((np.arange(len(names)), -np.abs(observed)))
    changed = tuple(
        WordChange(names[k], int(counts[k, 0]), int(counts[k, 1]), float(observed[k]), float(p[k]))
        for k in order
        if p[k] <= level
    )
    return WordTest(changed, float(p.min()))


def _presence(texts: Sequence[str]) -> tuple[Floats, list[str]]:
    """(words, texts) of 0 and 1: which of the words that a few texts hold each text holds."""
    words = Words.of(texts)
    pairs = np.unique(np.c_[words.flat, words.rows], axis=0) if words.flat.size else np.zeros((0, 2), dtype=int)
    counts = np.bincount(pairs[:, 0], minlength=len(words.vocabulary))
    shared = np.flatnonzero((counts >= LEAST_COMPLETIONS) & (counts < len(texts)))
    shared = shared[np.argsort(-counts[shared], kind="stable")][:MOST_WORDS]
    place = np.full(len(words.vocabulary), -1)
    place[shared] = np.arange(len(shared))
    holds = np.zeros((len(shared), len(texts)), dtype=np.float32)
    inside = place[pairs[:, 0]] >= 0
    holds[place[pairs[inside, 0]], pairs[inside, 1]] = 1.0
    names = list(words.vocabulary)
    return holds.astype(np.float64), [names[k] for k in shared.tolist()]


def _z(holds: Floats, labels: Floats) -> Floats:
    """(labellings, words): difference of rates over its standard deviation under random labels."""
    n = labels.shape[1]
    new = labels.sum(axis=1, keepdims=True)
    rate = holds.mean(axis=1)[None, :]
    difference = labels @ holds.T / new - (1 - labels) @ holds.T / (n - new)
    spread = np.sqrt(rate * (1 - rate) * (1 / new + 1 / (n - new)))
    return np.asarray(difference / spread)


def _relabelled(labels: Floats, strata: NDArray[np.int64], seed: int, block: int = 50) -> list[Floats]:
    """RELABELLINGS random labellings in blocks, each with as many of either label in every stratum."""
    rng = np.random.default_rng([seed, 5])
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    rows = np.empty((RELABELLINGS, labels.size))
    for row in rows:
        for places in members:
            row[places] = labels[rng.permutation(places)]
    return [rows[start : start + block] for start in range(0, RELABELLINGS, block)]


def shift_p_value(
    old: Floats, new: Floats, old_arms: Sequence[str], new_arms: Sequence[str], *, seed: int
) -> float:
    """Two-sided permutation p-value, within arms, that two sets of gaps have one mean; NaN gaps are left out."""
    values = np.r_[old, new]
    arms = np.asarray([*old_arms, *new_arms])
    labels = np.r_[np.zeros(len(old)), np.ones(len(new))]
    there = ~np.isnan(values) & np.isin(arms, sorted(set(old_arms) & set(new_arms)))
    values, labels, arms = values[there], labels[there], arms[there]
    if not labels.any() or labels.all():
        return 1.0
    strata = np.unique(arms, return_inverse=True)[1]

    def difference(given: Floats) -> Floats:
        new_n = given.sum(axis=1)
        return np.asarray(given @ values / new_n - (1 - given) @ values / (given.shape[1] - new_n))

    observed = abs(difference(labels[None, :])[0])
    drawn = np.concatenate([np.abs(difference(block)) for block in _relabelled(labels, strata, seed)])
    return float((1 + (drawn >= observed - 1e-12).sum()) / (len(drawn) + 1))
