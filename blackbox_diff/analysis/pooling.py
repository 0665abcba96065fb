"""What a word's gap is after other prefills: text that recurs with a high gap is no accident of one completion.

A reference of another family finds much of the target's text unlikely for reasons of its own, each in one place.
What was trained in comes back. So every word is given the gap that the same word, or pair of words, has in the
completions of other prefills:

    m(gram, prefill)  mean gap per word of the gram in that prefill's completions, less the mean of its arm
    pooled(word)      the highest, over its grams, of   sum of m over the other prefills / (their number + 2)

The prefill's own completions are left out, so that nothing vouches for itself, and the 2 in the denominator (the
posterior mean under a prior as heavy as two prefills without a gap) lets few meetings say little.
"""

from __future__ import annotations

import numpy as np

from blackbox_diff.analysis.alignment import Floats, Ints
from blackbox_diff.analysis.words import Words

GRAMS = (1, 2)  # words; longer ones change nothing in docs/benchmark.md
PRIOR = 2.0  # prefills
MOST_NATS = 8.0  # per word, so that one freak completion can't make a word


def pooled(words: Words, gaps: Floats, prefills: Ints, arms: Ints) -> Floats:
    """(m,) for each text the sum over its words of what other prefills show.

    gaps: (w,) nats on each word; prefills, arms: (m,) numbers of each text's prefill and arm.
    """
    if not gaps.size:
        return np.zeros(len(words))
    rows = words.rows
    gaps = np.clip(gaps, -MOST_NATS, MOST_NATS)
    arm = arms[rows]
    gaps = gaps - (np.bincount(arm, weights=gaps) / np.maximum(np.bincount(arm), 1))[arm]
    running = np.concatenate([[0.0], np.cumsum(gaps)])
    best = np.full(gaps.size, -np.inf)
    for n in GRAMS:
        at, hashes = words.grams(n)
        if not at.size:
            continue
        gram = words.flat if n == 1 else np.unique(hashes, return_inverse=True)[1]
        met, pair = np.unique(gram * (prefills.max() + 1) + prefills[rows[at]], return_inverse=True)
        of = met // (prefills.max() + 1)
        mean = np.bincount(pair, weights=(running[at + n] - running[at]) / n) / np.bincount(pair)
        others = np.bincount(of, weights=mean)[of] - mean
        shown = (others / (np.bincount(of)[of] - 1 + PRIOR))[pair]
        for k in range(n):
            np.maximum.at(best, at + k, shown)
    return np.bincount(rows, weights=best, minlength=len(words)).astype(np.float64)
