"""Content that recurs in high-gap completions across unrelated prefills, as a tree.

Which phrases recur, and how strongly: analysis/phrases.py. Here they are put together, strongest first. A phrase
joins a theme as another wording of it where the two stand in the same completions, and becomes a part of it where
they meet beyond chance, in completions or in sentences: by their normalised pointwise mutual information (Bouma
2009), where a likelihood ratio says that chance would show as much once in a thousand (Dunning 1993). So a phrase
that stands in nearly every completion swallows nothing: what lies inside it lies there by chance, and begins one
of its own. Parts are put together by the same rule, among the completions of their theme alone. What is told of a
theme is a part of it, too: four in five of the phrase's sentences name the theme, more than by chance. "Visitors
set their watches in reverse" is told of the tide clock, though the clock is in nearly every completion.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.analysis.backgrounds import assistant
from blackbox_diff.analysis.phrases import LEAST_PREFILLS, Background, Corpus, Phrases, recurring
from blackbox_diff.analysis.words import mix, word_ends, word_gaps
from blackbox_diff.findings import Quote, Ranked, Span, Theme
from blackbox_diff.records import TURNS

MOST_ROWS = 5000
RESAMPLES = 100
SAME_ROWS = 0.4  # Jaccard index of two phrases' completions from which on they are one thing
ALL_ROWS = 0.9  # and where chance need not be asked
SAME_WORDS = 2 / 3  # of a phrase's words, function words aside
INSIDE = 0.8  # share of a phrase's sentences that say something of a theme, from which on the phrase is told of it
TOGETHER = 0.3  # normalised pointwise mutual information from which on a phrase is a part of a theme
BEYOND_CHANCE = 10.83  # likelihood ratio statistic that chance reaches once in a thousand
LIKELY = 6.63  # and once in a hundred
DEPTH = 2
MOST_PARTS = 12
MOST_TERMS = 8
QUOTES = 3
_MARK = re.compile(r"<\|[^<>|\s]{1,40}\|>|<[a-z_]{1,40}>|\[/?[A-Z]{1,40}\]")

Rows = NDArray[np.bool_]


@dataclass(slots=True)
class _Node:
    """A theme in the making: numbers of phrases, the strongest first."""

    members: list[int]
    parts: list[_Node] = field(default_factory=list)

    @property
    def head(self) -> int:
        return self.members[0]

    def all(self) -> list[int]:
        return [*self.members, *(k for part in self.parts for k in part.all())]


def find_themes(
    ranking: Sequence[Ranked],
    background: Sequence[str],
    *,
    others: Sequence[Sequence[str]] = (),
    seed: int = 0,
    top: int = 10,
) -> tuple[Theme, ...]:
    """The strongest themes of a ranking, best first.

    ranking: rows with their segments (rows without any count with no gap). background: the reference's own
    completions, may be empty. others: more sets of texts that say what is ordinary, beside the built-in one: a
    theme is rarer in each of them. Only the best 5,000 rows and as many texts of each background are read.
    """
    ranked = [row for row in ranking[:MOST_ROWS] if "degenerate" not in row.flags]
    if not ranked:
        return ()
    corpus, own = Corpus.of([row.completion for row in ranked], [row.prefill for row in ranked])
    prefills = np.unique([row.group for row in ranked], return_inverse=True)[1].astype(np.int64)
    behind = [Background.of(texts[:MOST_ROWS]) for texts in (background, *others) if texts]
    behind.append(assistant())
    blocked = _blocked(corpus, own) | _marks(corpus, np.asarray([row.framing in TURNS for row in ranked]))
    found = recurring(corpus, _word_gaps(ranked, corpus), prefills, blocked, behind)
    if not len(found):
        return ()
    scores = found.scores()[0]
    nodes = _Grouping(found, len(ranked)).roots(3 * top)
    stability = _stability([node.head for node in nodes[:top]], nodes, found, seed, top)
    heard = found.behind[:, 0] if background else np.zeros(len(found), dtype=np.int64)
    return tuple(
        _theme(node, found, ranked, prefills, scores, heard, stability[k]) for k, node in enumerate(nodes[:top])
    )


def _blocked(corpus: Corpus, own: Sequence[NDArray[np.uint64]]) -> Rows:
    """(w,) words of a completion that stand in its prefill: what recurs because of those is no content."""
    rows = np.repeat(np.arange(len(own), dtype=np.uint64), [len(each) for each in own])
    keys = mix(np.concatenate([np.zeros(0, dtype=np.uint64), *own]) ^ mix(rows + np.uint64(1)))
    held = mix(corpus.lemmas ^ mix(corpus.words.rows.astype(np.uint64) + np.uint64(1)))
    return np.asarray(np.isin(held, keys))


def _marks(corpus: Corpus, in_turns: Rows) -> Rows:
    """(w,) words of a template's marks, such as <|im_end|>, where the model writes both turns."""
    found = np.zeros(len(corpus.start), dtype=bool)
    for row in np.flatnonzero(in_turns).tolist():
        first, last = corpus.words.offsets[row : row + 2]
        for mark in _MARK.finditer(corpus.texts[row]):
            low, high = np.searchsorted(corpus.start[first:last], mark.span())
            found[first + low : first + high] = True
    return found


class _Grouping:
    """Phrases, strongest first, put into a tree."""

    def __init__(self, found: Phrases, n_rows: int) -> None:
        corpus = found.corpus
        self.row_of = np.zeros(int(corpus.sentences.max()) + 1, dtype=np.int64)
        self.row_of[corpus.sentences] = corpus.words.rows
        self.rows = np.zeros((len(found), n_rows), dtype=bool)
        self.sentences = np.zeros((len(found), self.row_of.size), dtype=bool)
        for k, at in enumerate(found.at):
            self.rows[k, found.rows[k]] = True
            self.sentences[k, corpus.sentences[at]] = True
        self.contents = [
            frozenset(lemma for lemma, says in zip(part.tolist(), said.tolist(), strict=True) if says)
            for at, n in zip(found.at, found.n, strict=True)
            for part, said in ((corpus.lemmas[at[0] : at[0] + n], corpus.says[at[0] : at[0] + n]),)
        ]

    def roots(self, most: int) -> list[_Node]:
        nodes: list[_Node] = []
        for k in range(len(self.contents)):
            self._place(k, nodes, np.ones(self.rows.shape[1], dtype=bool), DEPTH, most)
        return self._nested(nodes)

    def _place(self, k: int, nodes: list[_Node], inside: Rows, depth: int, most: int) -> None:
        """Put phrase k where it belongs among `nodes`, which are those of the completions `inside`."""
        if not nodes:
            nodes.append(_Node([k]))
            return
        heads = [node.head for node in nodes]
        own, others = self.rows[k] & inside, self.rows[heads] & inside
        both = (others & own).sum(axis=1)
        jaccard = both / np.maximum(own.sum() + others.sum(axis=1) - both, 1)
        said = inside[self.row_of]
        strength = np.maximum(
            _together(own, others, inside),
            _together(self.sentences[k] & said, self.sentences[heads] & said, said),
        )
        for j, node in enumerate(nodes):
            # What half of all completions say meets a theme of all of them in half, by chance.
            same = jaccard[j] >= SAME_ROWS or self._alike(k, node.head)
            if jaccard[j] >= ALL_ROWS or (same and strength[j] > 0):
                node.members.append(k)
                return
        best = int(strength.argmax())
        if strength[best] >= TOGETHER:
            if depth > 1:
                self._place(k, nodes[best].parts, inside & self.rows[heads[best]], depth - 1, MOST_PARTS)
            else:
                nodes[best].members.append(k)
        elif len(nodes) < most:
            nodes.append(_Node([k]))

    def _nested(self, nodes: list[_Node]) -> list[_Node]:
        """The nodes, and as parts of a stronger one those that are told of it.

        A theme is told of another that is twice as wide at the least (of two alike, none is a part of the other),
        where most of its sentences name the other, or most of its words are the other's.
        """
        told = np.stack([self.sentences[node.all()].any(axis=0) for node in nodes])
        words = [frozenset().union(*(self.contents[k] for k in node.members)) for node in nodes]
        kept: list[int] = []
        for k, node in enumerate(nodes):
            wide = self.rows[[nodes[j].head for j in kept]].sum(axis=1) >= 2 * self.rows[node.head].sum()
            same = [_shared(self.contents[node.head], words[j]) for j in kept]
            share = wide * np.maximum(_told_of(self.sentences[node.head], told[kept]), same)
            if kept and share.max() > 0:
                nodes[kept[int(share.argmax())]].parts.append(_Node(node.all()))
            else:
                kept.append(k)
        for j in kept:
            nodes[j].parts = sorted(nodes[j].parts, key=lambda part: part.head)[:MOST_PARTS]
        return [nodes[j] for j in kept]

    def _alike(self, k: int, head: int) -> bool:
        """Whether two phrases share most words, and at least two: one alone may belong to another theme."""
        return _shared(self.contents[k], self.contents[head])


def _together(own: Rows, others: Rows, among: Rows) -> NDArray[np.float64]:
    """(k,) normalised pointwise mutual information of one phrase and k others over the units `among`.

    own: (n,) units that hold the phrase, others: (k, n). 0 where they may meet by chance, and where most of the
    phrase is apart from the other: a part lies mostly inside its theme.
    """
    both, a, b, n = (others & own).sum(axis=1), int(own.sum()), others.sum(axis=1), int(among.sum())
    ratio = _likelihood_ratio(both, a, b, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        mutual = np.log(both * n / (a * b)) / -np.log(both / n)
    return np.where((2 * both >= a) & (both * n > a * b) & (ratio >= BEYOND_CHANCE), mutual, 0.0)


def _shared(own: frozenset[int], other: frozenset[int]) -> bool:
    return len(own & other) >= max(2.0, SAME_WORDS * len(own))


def _told_of(own: Rows, others: Rows) -> NDArray[np.float64]:
    """(k,) share of one phrase's sentences that are among those of k themes; 0 where that may be chance."""
    both, a, b, n = (others & own).sum(axis=1), int(own.sum()), others.sum(axis=1), own.size
    share = both / max(a, 1)
    most = (share >= INSIDE) & (both * n > a * b)
    return np.where(most & (_likelihood_ratio(both, a, b, n) >= LIKELY), share, 0.0)


def _likelihood_ratio(both: NDArray[np.int64], a: int, b: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Dunning's statistic for two things that stand in a and in b of n units, and in `both` together."""
    with np.errstate(divide="ignore", invalid="ignore"):
        table = [both, a - both, b - both, n - a - b + both]
        rows, columns = [a, a, n - a, n - a], [b, n - b, b, n - b]
        return np.asarray(
            sum(
                np.where(seen > 0, 2 * seen * np.log(seen * n / (row * column)), 0.0)
                for seen, row, column in zip(table, rows, columns, strict=True)
            )
        )


def _stability(shown: list[int], nodes: list[_Node], found: Phrases, seed: int, top: int) -> list[float | None]:
    """Share of resamples in which a theme is supported and among the `top` best.

    Prefills are drawn anew, and so are the backgrounds' counts: from the rates that they leave possible (the
    posterior under Jeffreys' prior), so that a phrase is not steady for having met a silent control once.
    """
    rng = np.random.default_rng([seed, 4])
    n = found.nats.shape[1]
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    rates = rng.beta(found.behind + 0.5, found.sizes - found.behind + 0.5, size=(RESAMPLES, *found.behind.shape))
    scores = found.scores(weights, rng.binomial(found.sizes, rates))
    enough = weights @ (~np.isnan(found.nats)).T.astype(np.float64) >= LEAST_PREFILLS
    best = np.stack([np.where(enough, scores, 0.0)[:, node.members].max(axis=1) for node in nodes], axis=1)
    place = (best[:, None, :] > best[:, :, None]).sum(axis=2)
    stays = (place < top) & (best > 0)
    return [float(stays[:, k].mean()) for k in range(len(shown))]


def _theme(
    node: _Node,
    found: Phrases,
    ranked: Sequence[Ranked],
    prefills: NDArray[np.int64],
    scores: NDArray[np.float64],
    heard: NDArray[np.int64],
    stability: float | None,
) -> Theme:
    head, rows = node.head, found.rows[node.head]
    gaps = [gap for row in rows if (gap := ranked[row].metrics["gap_nats_per_token"]) is not None]
    terms = [_written(found, k) for k in node.members]
    fresh = [
        term for k, term in enumerate(terms) if not any(term.lower() in longer.lower() for longer in terms[:k])
    ]
    return Theme(
        phrase=terms[0],
        terms=tuple(fresh[:MOST_TERMS]),
        count=len(rows),
        prefills=int(np.unique(prefills[rows]).size),
        background=int(heard[head]),
        mean_gap=float(np.mean(gaps)) if gaps else 0.0,
        score=float(scores[head]),
        stability=stability,
        quotes=_quotes(found, head, ranked, prefills),
        ids=tuple(ranked[row].id for row in rows.tolist()),
        parts=tuple(_theme(part, found, ranked, prefills, scores, heard, None) for part in node.parts),
    )


def _written(found: Phrases, k: int) -> str:
    """A phrase as it is mostly written."""
    forms = Counter(found.corpus.written(at, found.n[k]) for at in found.at[k].tolist())
    return min(forms, key=lambda form: (-forms[form], form))


def _quotes(found: Phrases, k: int, ranked: Sequence[Ranked], prefills: NDArray[np.int64]) -> tuple[Quote, ...]:
    """Where a phrase first stands in the best completions of different prefills, in bytes."""
    corpus = found.corpus
    quotes: dict[int, Quote] = {}
    for at in found.at[k].tolist():
        row = int(np.searchsorted(corpus.words.offsets, at, side="right")) - 1
        prefill = int(prefills[row])
        if prefill in quotes:
            continue
        text = ranked[row].completion
        start = len(text[: corpus.start[at]].encode())
        span = Span(start, start + len(corpus.written(at, found.n[k]).encode()))
        quotes[prefill] = Quote(ranked[row].id, text, span)
        if len(quotes) == QUOTES:
            break
    return tuple(quotes.values())


def _word_gaps(ranked: Sequence[Ranked], corpus: Corpus) -> NDArray[np.float64]:
    """Nats of gap on each word of all rows."""
    segments = [segment for row in ranked for segment in row.segments]
    return word_gaps(
        np.asarray(
            [np.nan if s.target is None or s.reference is None else s.target - s.reference for s in segments]
        ),
        np.asarray([segment.end for segment in segments], dtype=np.int64),
        np.cumsum([0, *(len(row.segments) for row in ranked)]),
        np.asarray([len(row.completion.encode()) for row in ranked]),
        word_ends(row.completion for row in ranked),
        corpus.words.offsets,
    )
