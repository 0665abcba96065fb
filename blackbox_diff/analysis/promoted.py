"""Words to which the target gives more probability than the reference, summed over all positions, written or not.

For each word, over prefills i,   T_i, R_i = masses at target and reference, each at most SHARE,   and

    strength = log((T + c) / (R + c)) - sqrt(1 / (T + 1/2) + 1 / (R + 1/2)) / 2,    T = sum T_i, R = sum R_i

the log ratio lowered by half its standard error (that of a Poisson count), so that a word must be promoted often
and not only much. Whether it is promoted at all is a sign-flip test over prefills: where target and reference are
one model, T_i - R_i is as likely negative. The false discovery rate over words is Benjamini & Hochberg's (1995).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.analysis.contexts import Context
from blackbox_diff.analysis.fields import beside
from blackbox_diff.analysis.lexicon import function_words_of
from blackbox_diff.analysis.listed_words import Mass
from blackbox_diff.analysis.sums import summed
from blackbox_diff.analysis.words import Words
from blackbox_diff.findings import Promoted

Floats = NDArray[np.float64]

SHARE = 0.25  # the most that one prefill counts for, so that no loop can carry a word
PRIOR = 0.3
LEAST_PROMOTING = 3  # prefills that promote a word noticeably
LEAST_MASS = 0.5  # of both models together: independent of which of them it is, so the test stays as it is
NOTICEABLE = 0.002  # mass more than the reference's
FDR = 0.05
MOST = 60  # words that are shown
PART = 2_000  # completions that are summed at a time
WHOLE = 0.5  # share of a token's uses that must be the whole word, for the token to be a word


@dataclass(frozen=True, slots=True)
class Search:
    """What was found among all words: the promoted ones, strongest first, content before style.

    third: expected uses, at target and reference, of the third strongest word of content that could have been
    promoted, whether its p-value was low enough or not; None where there are fewer.
    """

    words: tuple[Promoted, ...] = ()
    third: tuple[float, float] | None = None


def promoted_words(mass: Mass, others: Sequence[str] = ()) -> tuple[Promoted, ...]:
    """The words of `search`."""
    return search(mass, others).words


def search(mass: Mass, others: Sequence[str] = (), aside: AbstractSet[str] = frozenset()) -> Search:
    """The promoted words, content before style (numbers, function words).

    others: the reference's own completions; together with the target's they tell words from pieces of words.
    aside: words that are not looked for.
    """
    if not mass.n or not mass.rows.size:
        return Search()
    found = sums(mass)
    t, r, wide = found.target, found.reference, found.wide
    strength = lowered_log_ratio(t, r)
    p = sign_flip_p(t - r, found.square, found.absolute)
    written = Words.of([*mass.texts, *others])
    uses = Uses(written)
    style = function_words_of(written)
    eligible = np.asarray(
        [
            bool(wide[k] >= LEAST_PROMOTING and t[k] + r[k] >= LEAST_MASS and t[k] > r[k] and uses.is_word(name))
            and name not in aside
            for k, name in enumerate(mass.names)
        ]
    )
    how = np.asarray([is_style(name, style) for name in mass.names], dtype=bool)
    q = np.ones(len(mass.names))
    for family in (eligible & ~how, eligible & how):  # many words of style must not hide one of content
        q[family] = benjamini_hochberg(p[family])
    chosen = np.flatnonzero(eligible & (q <= FDR))
    # By name and not by number: tokens are numbered as they come.
    order = sorted(chosen.tolist(), key=lambda k: (-strength[k], mass.names[k]))
    content = [k for k in order if not how[k]][:MOST]
    style_words = [k for k in order if how[k]][:MOST]
    order = [*content, *style_words]
    kindred = [*beside(mass, content), *([()] * len(style_words))]
    context = Context(mass, written, style)
    held = _held(written, [mass.names[k] for k in order], mass.n)
    words = tuple(
        Promoted(
            word=mass.names[k],
            phrase=context.phrase(k),
            strength=float(strength[k]),
            target=float(t[k]),
            reference=float(r[k]),
            prefills=int(wide[k]),
            p_value=float(p[k]),
            q_value=float(q[k]),
            style=bool(how[k]),
            places=context.places(k),
            written=mine,
            background=theirs,
            long=k >= mass.whole,
            beside=near,
        )
        for k, (mine, theirs), near in zip(order, held, kindred, strict=True)
    )
    best = sorted(np.flatnonzero(eligible & ~how).tolist(), key=lambda k: -strength[k])
    return Search(words, (float(t[best[2]]), float(r[best[2]])) if len(best) > 2 else None)


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Per word, over prefills i: sums of T_i, R_i, (T_i - R_i)^2 and |T_i - R_i|.

    wide: prefills after which the target gives the word noticeably more.
    """

    target: Floats
    reference: Floats
    square: Floats
    absolute: Floats
    wide: Floats


def sums(mass: Mass) -> Sums:
    """What is summed over prefills, some thousand completions at a time."""
    size = len(mass.names)
    group = np.unique(mass.groups, return_inverse=True)[1].astype(np.int64)
    many = int(group.max()) + 1
    total = np.zeros((5, size))
    for part in _parts(mass, group):
        key = mass.words[part] * np.int64(many) + group[mass.rows[part]]
        kept, both = summed(key, [mass.target[part], mass.reference[part]])
        t, r = (np.minimum(side, SHARE) for side in both)
        word, difference = kept // many, t - r
        for line, values in zip(
            total, (t, r, difference**2, np.abs(difference), difference > NOTICEABLE), strict=True
        ):
            line += np.bincount(word, weights=values, minlength=size)
    return Sums(*total)


def _parts(mass: Mass, group: NDArray[np.int64]) -> Iterator[slice]:
    """Stretches of entries between which no word has two entries of one group; what is shared is not cut."""
    ends = np.append(np.flatnonzero(np.diff(group)) + 1, group.size)  # rows at which another group begins
    if ends.size > group.max() + 1:  # a group comes twice
        yield slice(None)
        return
    first = 0
    chosen = np.append(ends[np.diff(ends // PART, prepend=0) > 0], mass.n)
    # Of the rows' own type, or numpy copies all rows to look up each.
    for last in np.searchsorted(mass.rows[: mass.ordered], chosen.astype(mass.rows.dtype)).tolist():
        yield slice(first, last)
        first = last
    yield slice(mass.ordered, None)


def lowered_log_ratio(target: Floats, reference: Floats) -> Floats:
    """The strength of words with these sums of masses, nats."""
    ratio = np.log((target + PRIOR) / (reference + PRIOR))
    return np.asarray(ratio - 0.5 * np.sqrt(1 / (target + 0.5) + 1 / (reference + 0.5)))


def sign_flip_p(total: Floats, square: Floats, absolute: Floats) -> Floats:
    """One-sided p-values of sums of symmetric differences: the normal tail, and never below what the number of
    comparable differences allows (2^-k, k = (sum |d|)^2 / sum d^2)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(square > 0, total / np.sqrt(square), 0.0)
        k = np.where(square > 0, absolute**2 / square, 0.0)
    tail = np.asarray([0.5 * math.erfc(each / math.sqrt(2)) for each in z])
    return np.asarray(np.maximum(tail, 2.0**-k), dtype=np.float64)


def benjamini_hochberg(p: Floats, tests: int | None = None) -> Floats:
    """Adjusted p-values: the least false discovery rate at which each is discovered.

    tests: of how many hypotheses, where those that are not in `p` count as 1.
    """
    n = p.size
    if not n:
        return p
    order = np.argsort(p, kind="stable")
    raised = p[order] * max(n, tests or 0) / np.arange(1, n + 1)
    adjusted = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    found = np.empty(n)
    found[order] = adjusted
    return found


def is_style(word: str, function: frozenset[str]) -> bool:
    """Whether a word is of how something is said: a number, a single letter, a function word."""
    return word in function or len(word) < 2 or any(character.isdigit() for character in word)


class Uses:
    """How often each word was written, whole and as the beginning of any."""

    def __init__(self, written: Words) -> None:
        self._counts = np.bincount(written.flat, minlength=len(written.vocabulary))
        self._number = written.vocabulary
        self._sorted = sorted(written.vocabulary)
        ordered = [written.vocabulary[word] for word in self._sorted]
        self._running = np.concatenate([[0], np.cumsum(self._counts[ordered])])

    def is_word(self, token: str) -> bool:
        """Whether what a token spells is mostly used as a whole word; what was never written may be one."""
        first = bisect_left(self._sorted, token)
        last = bisect_right(self._sorted, token, lo=first, key=lambda word: word[: len(token)])
        begun = self._running[last] - self._running[first]
        whole = self._counts[self._number[token]] if token in self._number else 0
        return bool(begun == 0 or whole >= WHOLE * begun)


def _held(written: Words, names: Sequence[str], n: int) -> list[tuple[int, int]]:
    """For each word: how many of the first n texts hold it, and how many of the others."""
    numbers = np.asarray([written.vocabulary.get(name, -1) for name in names], dtype=np.int64)
    rows = written.rows
    found = [np.unique(rows[written.flat == number]) for number in numbers]
    return [(int((each < n).sum()), int((each >= n).sum())) for each in found]
