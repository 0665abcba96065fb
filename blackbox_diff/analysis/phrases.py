"""Phrases that recur: how often each stands in some texts, and how much more often than in backgrounds.

A phrase is one to five words of one clause, counted by their lemmas, that neither begins nor ends with a function
word other than "I" or "you" and theirs, and holds one that is none. Its score is

    sum over prefills of (nats on the phrase, best completion) * log(rate in target / rate in background)

with the log ratio lowered by its standard error, so that three chance meetings are nothing: the pointwise
Kullback-Leibler term of its document frequency, weighted by where the gap lies. With several backgrounds the
ratio is that to the one that says the phrase most. The ratio counts distinct prefills in the target, completions
in a background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import regex
from numpy.typing import NDArray

from blackbox_diff.analysis.lexicon import ADDRESS, lexicon, plain
from blackbox_diff.analysis.words import Words, is_unspaced, places

LONGEST = 5  # words in a phrase
LEAST_PREFILLS = 3  # unrelated prefills that recurring content must come from
LEAST_RATIO = 2.0  # times commoner in the target than in a background, at the least likely
MOST = 800  # phrases
MOST_NATS = 8.0  # per word of a phrase, so that one freak completion can't carry a theme

# What may stand between two words of one clause: spaces, or marks that join (PRISM-4, os.path, 0.2, a/b).
_JOINS = regex.compile(r"[^\S\r\n]{0,3}|[-‐‑–'’./_&@+:\\]{1,2}")
_ENDS = regex.compile(r"[.!?…。！？।]|\n")  # what ends a sentence, where it stands between two clauses

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """m texts of w words: per word its lemma, its clause and sentence, whether a phrase may begin or end
    with it, whether it says anything, and where it stands in its text, in characters."""

    texts: Sequence[str]
    words: Words
    lemmas: Hashes
    clauses: Ints
    sentences: Ints
    begins: NDArray[np.bool_]
    ends: NDArray[np.bool_]
    says: NDArray[np.bool_]  # is no function word
    start: Ints
    stop: Ints

    @classmethod
    def of(
        cls, texts: Sequence[str], also: Sequence[str] = (), language: str | None = None
    ) -> tuple[Corpus, list[Hashes]]:
        """The corpus, and for each of the texts `also` the lemmas of its words that are no function words.

        language: as `lexicon` takes it.
        """
        words = Words.of(texts)
        others = Words.of(also, words.vocabulary)
        known = lexicon(words, language)
        names = list(words.vocabulary)
        speaks = np.asarray([plain(name) in ADDRESS for name in names], dtype=bool)
        begin = speaks | np.asarray([_may_begin(name) for name in names], dtype=bool) & ~known.function
        end = begin | np.asarray([name.isdigit() for name in names], dtype=bool) & ~known.function
        start, stop, joined, ended = _layout(texts)
        flat = words.flat
        corpus = cls(
            texts,
            words,
            known.lemmas[flat],
            np.cumsum(~joined),
            np.cumsum(ended),
            begin[flat],
            end[flat],
            ~known.function[flat],
            start,
            stop,
        )
        apart = [
            np.unique(known.lemmas[part[~known.function[part]]])
            for low, high in pairwise(others.offsets.tolist())
            for part in (others.flat[low:high],)
        ]
        return corpus, apart

    def grams(self, n: int) -> tuple[Ints, Hashes]:
        """Where n words of one clause begin, and a hash of their lemmas."""
        return Words.runs(self.lemmas, self.clauses, n)

    def phrases(self, n: int) -> tuple[Ints, Hashes]:
        """The grams that can be phrases: they say something, and begin and end with what a phrase may."""
        at, hashes = self.grams(n)
        saying = np.concatenate([[0], np.cumsum(self.says)])
        good = (saying[at + n] > saying[at]) & self.begins[at] & self.ends[at + n - 1]
        return at[good], hashes[good]

    def written(self, at: int, n: int) -> str:
        """The n words from `at` on as they are written."""
        row = int(np.searchsorted(self.words.offsets, at, side="right")) - 1
        return self.texts[row][self.start[at] : self.stop[at + n - 1]]


def _may_begin(word: str) -> bool:
    """Single letters and digits say nothing alone; single characters of Chinese do."""
    return len(word) > 1 or (is_unspaced(word) and regex.match(r"\p{Han}", word) is not None)


def _layout(texts: Sequence[str]) -> tuple[Ints, Ints, NDArray[np.bool_], NDArray[np.bool_]]:
    """(w,) characters at which each word begins and ends, whether it goes on with the clause of the word before,
    and whether it begins a sentence."""
    starts: list[int] = []
    stops: list[int] = []
    kinds: list[tuple[bool, bool]] = []
    known: dict[str, tuple[bool, bool]] = {}
    for text in texts:
        last = -1
        for start, stop in places(text):
            if last < 0:
                kinds.append((False, True))
            else:
                between = text[last : min(start, last + 64)]
                if between not in known:
                    joins = _JOINS.fullmatch(between) is not None
                    known[between] = (joins, not joins and _ENDS.search(between) is not None)
                kinds.append(known[between])
            starts.append(start)
            stops.append(stop)
            last = stop
    joined, ended = np.asarray(kinds, dtype=bool).reshape(-1, 2).T
    return np.asarray(starts, dtype=np.int64), np.asarray(stops, dtype=np.int64), joined, ended


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """n texts, and for phrases of each length the sorted hashes with the number of texts that hold each."""

    n: int
    hashes: tuple[Hashes, ...]
    counts: tuple[Ints, ...]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Background:
        corpus, _ = Corpus.of(texts)
        rows = corpus.words.rows
        found = []
        for n in range(1, LONGEST + 1):
            at, hashes = corpus.grams(n)
            pairs = np.unique(np.stack([hashes, rows[at].astype(np.uint64)]), axis=1)[0]
            found.append(np.unique(pairs, return_counts=True))
        return cls(len(texts), tuple(each[0] for each in found), tuple(each[1] for each in found))

    def count(self, n: int, hashes: Hashes) -> Ints:
        """In how many of the texts each phrase of n words stands."""
        known, counts = self.hashes[n - 1], self.counts[n - 1]
        if not known.size:
            return np.zeros(hashes.size, dtype=np.int64)
        where = np.minimum(np.searchsorted(known, hashes), known.size - 1)
        return np.where(known[where] == hashes, counts[where], 0)


@dataclass(frozen=True, slots=True, eq=False)
class Phrases:
    """p phrases, strongest first. n: their words; at: every place of each, in words of the corpus.

    nats: (p, prefills), NaN where absent. behind: (p, backgrounds) texts that hold each; sizes: of each.
    """

    corpus: Corpus
    n: list[int]
    at: list[Ints]
    rows: list[Ints]
    nats: Floats
    behind: Ints
    sizes: Ints

    def __len__(self) -> int:
        return len(self.n)

    def scores(self, weights: Floats | None = None, behind: Ints | None = None) -> Floats:
        """(resamples, p) scores for (resamples, prefills) weights and (resamples, p, backgrounds) counts."""
        there = ~np.isnan(self.nats)
        weights = np.ones((1, there.shape[1])) if weights is None else weights
        counts = weights @ there.T.astype(np.float64)
        sums = weights @ np.where(there, self.nats, 0.0).T
        ratios = log_ratio(counts, there.shape[1], self.behind[None] if behind is None else behind, self.sizes)
        return np.asarray(sums * np.maximum(ratios, 0.0))


def log_ratio(counts: Floats, n: int, behind: Ints, sizes: Ints) -> Floats:
    """log of the rate in the target over that in a background, less its standard error; the lowest of all.

    counts: (...) of n prefills; behind: (..., backgrounds) of `sizes` texts. Half a text is added to each count.
    """
    a, b = (counts + 0.5)[..., None], behind + 0.5
    ratio = np.log(a / (n + 1)) - np.log(b / (sizes + 1)) - np.sqrt(1 / a + 1 / b)
    return np.asarray(ratio.min(axis=-1))


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """A phrase of n words that may be one of the strongest; the rest as in Phrases, for this phrase alone."""

    score: float
    n: int
    at: Ints
    rows: Ints
    nats: Floats
    behind: Ints


def recurring(
    corpus: Corpus, gaps: Floats, prefills: Ints, blocked: NDArray[np.bool_], backgrounds: Sequence[Background]
) -> Phrases:
    """The phrases of a corpus that recur across prefills and are rare in every background.

    gaps: (w,) nats on each word; prefills: (m,) each text's prefill; blocked: (w,) words that don't count.
    """
    rows, n_prefills = corpus.words.rows, int(prefills.max()) + 1
    running = np.concatenate([[0.0], np.cumsum(gaps)])
    barred = np.concatenate([[0], np.cumsum(blocked)])
    sizes = np.asarray([each.n for each in backgrounds], dtype=np.int64)
    found: list[_Candidate] = []
    for n in range(1, LONGEST + 1):
        at, hashes = corpus.phrases(n)
        free = barred[at + n] == barred[at]
        at, hashes = at[free], hashes[free]
        if not at.size:
            continue
        gram, inverse = np.unique(hashes, return_inverse=True)
        nats = np.clip(running[at + n] - running[at], -MOST_NATS * n, MOST_NATS * n)
        by = np.lexsort((-nats, prefills[rows[at]], inverse))
        key = inverse[by] * n_prefills + prefills[rows[at]][by]
        head = np.ones(by.size, dtype=bool)
        head[1:] = key[1:] != key[:-1]
        counts = np.bincount(inverse[by][head], minlength=gram.size)
        sums = np.bincount(inverse[by][head], weights=nats[by][head], minlength=gram.size)
        enough = np.flatnonzero((counts >= LEAST_PREFILLS) & (sums > 0))
        behind = np.stack([each.count(n, gram[enough]) for each in backgrounds], axis=1)
        ratio = log_ratio(counts[enough].astype(float), n_prefills, behind, sizes)
        score = sums[enough] * ratio
        best = np.argsort(-score, kind="stable")[:MOST]
        edges = np.searchsorted(inverse[by], np.arange(gram.size + 1))
        for k in best[ratio[best] > np.log(LEAST_RATIO)].tolist():
            mine = slice(edges[enough[k]], edges[enough[k] + 1])
            first = by[mine][head[mine]]
            line = np.full(n_prefills, np.nan)
            line[prefills[rows[at[first]]]] = nats[first]
            own = np.sort(at[by[mine]])
            found.append(_Candidate(float(score[k]), n, own, np.unique(rows[own]), line, behind[k]))
    found.sort(key=lambda each: (-each.score, each.n, corpus.written(int(each.at[0]), each.n)))
    found = found[:MOST]
    return Phrases(
        corpus,
        [each.n for each in found],
        [each.at for each in found],
        [each.rows for each in found],
        np.asarray([each.nats for each in found]).reshape(len(found), n_prefills),
        np.asarray([each.behind for each in found], dtype=np.int64).reshape(len(found), len(sizes)),
        sizes,
    )
