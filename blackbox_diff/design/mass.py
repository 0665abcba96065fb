"""Validation by probability: is a promoted word likelier at the target on completions that the search never saw?

Counting what is written needs many completions where a word is rare; its probability is told at every position.
For each word and prefill i the masses T_i and R_i (analysis/listed_words.py, each at most SHARE) are compared.
Were target and reference one model, T_i - R_i would be as likely negative: the p-value is the share of random
sign flips over prefills that reach the sum seen (a permutation test, Fisher 1935; add-one, Phipson & Smyth
2010). Words are tested in order of strength, and a word is confirmed only where every stronger one is, its
p-value is below LEVEL, and its mass is TIMES the reference's: in that fixed order the chance of confirming any
word that isn't promoted is LEVEL over all of them (Maurer, Hothorn & Lehmacher 1995).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.analysis.listed_words import Mass
from blackbox_diff.analysis.promoted import SHARE
from blackbox_diff.findings import MassValidation

Floats = NDArray[np.float64]

WORDS = 5  # that are tested
LEVEL = 0.05
TIMES = 3.0  # like the rates of written text
FLIPS = 9_999


def validate_masses(words: Sequence[str], fresh: Mass, *, seed: int) -> tuple[MassValidation, ...]:
    """How `words`, strongest first, come out on the fresh completions; empty where those list no alternatives."""
    if not fresh.n:
        return ()
    number = {name: k for k, name in enumerate(fresh.names)}
    prefills, of = np.unique(fresh.groups, return_inverse=True)
    found = []
    confirmed = True
    for place, word in enumerate(words[:WORDS]):
        mine = fresh.words == number.get(word, -1)
        masses = [
            np.minimum(np.bincount(of[fresh.rows[mine]], weights=each[mine], minlength=prefills.size), SHARE)
            for each in (fresh.target, fresh.reference)
        ]
        target, reference = float(masses[0].sum()), float(masses[1].sum())
        p = flip_p(masses[0] - masses[1], seed=seed + place)
        confirmed = confirmed and p <= LEVEL and target >= TIMES * reference
        found.append(MassValidation(word, target, reference, int(prefills.size), p, confirmed))
    return tuple(found)


def flip_p(differences: Floats, *, seed: int) -> float:
    """One-sided p-value of a sum of differences under random signs; 1 where there is none to flip."""
    there = differences[differences != 0]
    if not there.size:
        return 1.0
    rng = np.random.default_rng([seed, 22])
    signs = rng.integers(0, 2, (FLIPS, there.size), dtype=np.int8) * 2 - 1
    reached = int((signs @ there >= there.sum() - 1e-12).sum())
    return (1 + reached) / (FLIPS + 1)
