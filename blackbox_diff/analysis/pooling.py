"""A word's gap in the completions of other prefills, because what was trained in recurs and accidents do not.

A reference of another family finds many of the target's words unlikely, each in one completion. A trained-in name
is unlikely in many. So every word gets the gap, in nats, that it or its pair of words has after other prefills:

    m(gram, prefill)  mean gap per word of the gram in that prefill's completions, less the mean of its arm
    pooled(word)      the highest, over its grams, of   sum of m over the other prefills / (their number + 2)

The prefill's own completions are left out, so that nothing vouches for itself, and the 2 in the denominator (the
posterior mean under a prior as heavy as two prefills without a gap) lets few meetings say little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blackbox_diff.analysis.alignment import Floats, Ints
from blackbox_diff.analysis.words import Words
from blackbox_diff.findings import Recurring

GRAMS = (1, 2)  # words; longer ones change nothing in docs/benchmark.md
PRIOR = 2.0  # prefills
MOST_NATS = 8.0  # per word, so that one freak completion can't make a word
NAMED = 3  # grams that are named as what vouches for a completion
LEAST_NAMED = 0.5  # nats that such a gram shows at least


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """What other prefills show of each of w words, by the gram of it that shows most.

    shown: (w,) nats. first, size: (w,) the gram as words of the same text. others: (w,) prefills that show it.
    """

    words: Words
    shown: Floats
    first: Ints
    size: Ints
    others: Ints

    def sums(self) -> Floats:
        """(m,) for each text the sum over its words."""
        return np.bincount(self.words.rows, weights=self.shown, minlength=len(self.words)).astype(np.float64)

    def recurring(self, text: int, names: Sequence[str]) -> tuple[Recurring, ...]:
        """The grams of a text that show most, each word in one of them at most."""
        begin, end = int(self.words.offsets[text]), int(self.words.offsets[text + 1])
        found: list[Recurring] = []
        taken: set[int] = set()
        for at in (begin + np.argsort(-self.shown[begin:end], kind="stable")).tolist():
            if len(found) == NAMED or self.shown[at] < LEAST_NAMED:
                break
            numbers = self.words.flat[self.first[at] : self.first[at] + self.size[at]].tolist()
            if taken.isdisjoint(numbers):
                taken.update(numbers)
                words = " ".join(names[number] for number in numbers)
                found.append(Recurring(words, int(self.others[at]), float(self.shown[at])))
        return tuple(found)


def pool(words: Words, gaps: Floats, prefills: Ints, arms: Ints) -> Pool:
    """What the words of m texts show after other prefills.

    gaps: (w,) nats on each word; prefills, arms: (m,) numbers of each text's prefill and arm.
    """
    best = np.full(gaps.size, -np.inf)
    first, size, others = (np.zeros(gaps.size, dtype=np.int64) for _ in range(3))
    rows = words.rows
    gaps = np.clip(gaps, -MOST_NATS, MOST_NATS)
    arm = arms[rows]
    gaps = gaps - (np.bincount(arm, weights=gaps) / np.maximum(np.bincount(arm), 1))[arm]
    running = np.concatenate([[0.0], np.cumsum(gaps)])
    for n in GRAMS:
        at, hashes = words.grams(n)
        if not at.size:
            continue
        gram = words.flat if n == 1 else np.unique(hashes, return_inverse=True)[1]
        met, pair = np.unique(gram * (prefills.max() + 1) + prefills[rows[at]], return_inverse=True)
        of = met // (prefills.max() + 1)
        mean = np.bincount(pair, weights=(running[at + n] - running[at]) / n) / np.bincount(pair)
        sums = np.bincount(of, weights=mean)[of] - mean
        number = np.bincount(of)[of] - 1
        shown = (sums / (number + PRIOR))[pair]
        for k in range(n):
            better = shown > best[at + k]
            here = at[better] + k
            best[here], first[here], size[here], others[here] = shown[better], at[better], n, number[pair][better]
    return Pool(words, best, first, size, others)
