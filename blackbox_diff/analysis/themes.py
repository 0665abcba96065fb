"""Content that recurs in high-gap completions across unrelated prefills.

For every run of one to five words: in how many distinct prefills' completions it stands, how many nats
the gap puts on it there, and how much rarer it is in the reference's own completions. Its score is

    sum over prefills of (nats on the phrase, best completion) * log(rate in target / rate in reference)

with the log ratio lowered by its standard error, so that three chance meetings are not a theme. That is
the pointwise Kullback-Leibler term of its document frequency, weighted by where the gap lies. The log
ratio counts distinct prefills in the target, completions in the reference.

Phrases that stand in the same completions are one theme, and so are phrases of the same words ("the clock of
Osmery", "Osmery's clock"), so a loud theme takes all its phrases with it and leaves the next place to a quiet one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.analysis.words import WORD, Words, spans, word_ends, word_gaps
from blackbox_diff.findings import Quote, Ranked, Span, Theme

LONGEST = 5  # words in a phrase
LEAST_PREFILLS = 3
LEAST_RATIO = 2.0  # times commoner in the target than in the reference, at the least likely
CANDIDATES = 400
OVERLAP = 0.5  # share of a phrase's completions inside a theme's, from which on it joins
SAME_WORDS = 2 / 3  # and of its words, function words aside
MOST_ROWS = 5000
MOST_NATS = 8.0  # per word of a phrase, so that one freak completion can't carry a theme
RESAMPLES = 100

STOP = frozenset(
    """
    a about after all also am an and any are as at be because been before being but by can could did do does
    for from get had has have he her here him his how i if in into is it its it's just like may me more most
    my no not now of on one only or other our out over she so some such than that the their them then there
    these they this those through to too up us very was we were what when where which while who will with
    would you your s t re don i'm
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True, eq=False)
class _Phrases:
    """Candidate phrases: words of each, and a (candidates, prefills) matrix of nats, NaN where absent."""

    words: list[tuple[int, ...]]
    nats: NDArray[np.float64]
    rows: list[NDArray[np.int64]]
    background: NDArray[np.int64]


def find_themes(
    ranking: Sequence[Ranked], background: Sequence[str], *, seed: int = 0, top: int = 10
) -> tuple[Theme, ...]:
    """The strongest themes of a ranking, best first.

    ranking: rows with their segments (rows without any count with no gap); background: the reference's own
    completions. Only the best 5,000 rows are read.
    """
    ranked = [row for row in ranking[:MOST_ROWS] if "degenerate" not in row.flags]
    if not ranked:
        return ()
    target = Words.of(row.completion for row in ranked)
    names = list(target.vocabulary)
    other = Words.of(background[:MOST_ROWS], dict(target.vocabulary))
    prefills, prefill_of = np.unique([row.prefill for row in ranked], return_inverse=True)
    found = _candidates(ranked, target, other, names, prefill_of.astype(np.int64), len(prefills))
    if not found.words:
        return ()
    sizes = (len(prefills), len(background[:MOST_ROWS]))
    scores = _scores(np.ones((1, len(prefills))), found, *sizes)[0]
    groups = _group(found.rows, [_content(words, names) for words in found.words], scores, 3 * top)
    stability = _stability(groups[:top], groups, found, sizes, seed, top)
    return tuple(
        _theme(group, found, names, ranked, prefill_of.astype(np.int64), scores, stability[k])
        for k, group in enumerate(groups[:top])
    )


def _candidates(
    ranked: Sequence[Ranked],
    target: Words,
    other: Words,
    names: list[str],
    prefill_of: NDArray[np.int64],
    n_prefills: int,
) -> _Phrases:
    rows, gaps = target.rows, _word_gaps(ranked, target)
    running = np.concatenate([[0.0], np.cumsum(gaps)])
    stop = np.asarray([name in STOP or name.isdigit() or len(name) < 2 for name in names])
    # A word of the prefill that is not a function word can't be part of what recurs without it.
    blocked = np.zeros(len(target.flat), dtype=bool)
    for k, row in enumerate(ranked):
        own = {target.vocabulary.get(word, -1) for word in WORD.findall(row.prefill.lower()) if word not in STOP}
        if own:
            part = slice(int(target.offsets[k]), int(target.offsets[k + 1]))
            blocked[part] = np.isin(target.flat[part], list(own))
    barred = np.concatenate([[0], np.cumsum(blocked)])

    kept: list[tuple[float, int, int, tuple[int, ...], NDArray[np.int64], NDArray[np.float64]]] = []
    for n in range(1, LONGEST + 1):
        at, hashes = target.grams(n)
        good = (barred[at + n] == barred[at]) & ~stop[target.flat[at]] & ~stop[target.flat[at + n - 1]]
        at, hashes = at[good], hashes[good]
        if not at.size:
            continue
        other_at, other_hashes = other.grams(n)
        pairs = np.unique(np.stack([other_hashes, other.rows[other_at].astype(np.uint64)]), axis=1)[0]
        known, known_count = np.unique(pairs, return_counts=True)
        gram, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        nats = np.clip(running[at + n] - running[at], -MOST_NATS * n, MOST_NATS * n)
        by = np.lexsort((-nats, prefill_of[rows[at]], inverse))
        head = np.ones(by.size, dtype=bool)
        key = inverse[by] * n_prefills + prefill_of[rows[at]][by]
        head[1:] = key[1:] != key[:-1]
        counts = np.bincount(inverse[by][head], minlength=gram.size)
        sums = np.bincount(inverse[by][head], weights=nats[by][head], minlength=gram.size)
        where = np.searchsorted(known, gram)
        where[where == known.size] = 0
        behind = np.where(known[where] == gram, known_count[where], 0) if known.size else np.zeros_like(counts)
        ratio = _log_ratio(counts.astype(float), n_prefills, behind, len(other))
        score = sums * ratio
        good_grams = np.flatnonzero((counts >= LEAST_PREFILLS) & (ratio > np.log(LEAST_RATIO)) & (score > 0))
        best = good_grams[np.argsort(-score[good_grams], kind="stable")[:CANDIDATES]]
        edges = np.searchsorted(inverse[by], np.arange(gram.size + 1))
        for g in best.tolist():
            mine = by[edges[g] : edges[g + 1]]
            words = tuple(target.flat[at[first[g]] : at[first[g]] + n].tolist())
            line = np.zeros(n_prefills)
            mine_head = mine[head[edges[g] : edges[g + 1]]]
            line[prefill_of[rows[at[mine_head]]]] = nats[mine_head]
            here = np.unique(prefill_of[rows[at[mine_head]]])
            line[np.setdiff1d(np.arange(n_prefills), here, assume_unique=True)] = np.nan
            kept.append((float(score[g]), int(behind[g]), n, words, np.unique(rows[at[mine]]), line))
    kept.sort(key=lambda item: (-item[0], item[3]))
    kept = kept[:CANDIDATES]
    return _Phrases(
        [item[3] for item in kept],
        np.asarray([item[5] for item in kept]),
        [item[4] for item in kept],
        np.asarray([item[1] for item in kept], dtype=np.int64),
    )


def _log_ratio(
    counts: NDArray[np.float64], n: int, behind: NDArray[np.int64], n_behind: int
) -> NDArray[np.float64]:
    """log of the rate in the target over the rate in the reference, less its standard error.

    Half a completion is added to each count. Without a background every phrase counts as unheard of there
    in as many completions as the target has prefills.
    """
    a, b = counts + 0.5, behind + 0.5
    ratio = np.log(a / (n + 1)) - np.log(b / ((n_behind or n) + 1))
    return np.asarray(ratio - np.sqrt(1 / a + 1 / b))


def _scores(weights: NDArray[np.float64], found: _Phrases, n_prefills: int, n_behind: int) -> NDArray[np.float64]:
    """(resamples, candidates) scores for (resamples, prefills) weights."""
    there = ~np.isnan(found.nats)
    sums = weights @ np.where(there, found.nats, 0.0).T
    counts = weights @ there.T.astype(np.float64)
    return sums * np.maximum(_log_ratio(counts, n_prefills, found.background, n_behind), 0.0)


def _content(words: Sequence[int], names: Sequence[str]) -> frozenset[str]:
    """The words of a phrase that say something; a possessive is its owner."""
    return frozenset(
        names[word].removesuffix("'s").removesuffix("’s") for word in words if names[word] not in STOP
    )


def _alike(content: frozenset[str], other: frozenset[str]) -> bool:
    """Whether two phrases share most words, and at least two: one alone may belong to another theme."""
    return len(content & other) >= max(2.0, SAME_WORDS * len(content))


def _group(
    rows: list[NDArray[np.int64]], contents: list[frozenset[str]], scores: NDArray[np.float64], most: int
) -> list[list[int]]:
    """Greedy: a phrase joins the first theme with half of its completions or most of its words, or begins one."""
    groups: list[tuple[list[int], set[int]]] = []
    for k in np.argsort(-scores, kind="stable").tolist():
        own, content = rows[k].tolist(), contents[k]
        for members, held in groups:
            worded = any(_alike(content, contents[member]) for member in members)
            inside = sum(row in held for row in own) >= OVERLAP * len(own)
            if worded or inside or content <= contents[members[0]]:
                members.append(k)
                break
        else:
            if len(groups) < most:
                groups.append(([k], set(own)))
    return [members for members, _ in groups]


def _stability(
    shown: list[list[int]],
    groups: list[list[int]],
    found: _Phrases,
    sizes: tuple[int, int],
    seed: int,
    top: int,
) -> list[float | None]:
    """Share of resamples over prefills in which a theme is supported and among the `top` best."""
    rng = np.random.default_rng([seed, 4])
    n = sizes[0]
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    scores = _scores(weights, found, *sizes)
    enough = weights @ (~np.isnan(found.nats)).T.astype(np.float64) >= LEAST_PREFILLS
    best = np.stack([np.where(enough, scores, 0.0)[:, group].max(axis=1) for group in groups], axis=1)
    place = (best[:, None, :] > best[:, :, None]).sum(axis=2)
    stays = (place < top) & (best > 0)
    return [float(stays[:, k].mean()) for k in range(len(shown))]


def _theme(
    group: list[int],
    found: _Phrases,
    names: list[str],
    ranked: Sequence[Ranked],
    prefill_of: NDArray[np.int64],
    scores: NDArray[np.float64],
    stability: float | None,
) -> Theme:
    head, rows = group[0], found.rows[group[0]]
    gaps = [gap for row in rows if (gap := ranked[row].metrics["gap_nats_per_token"]) is not None]
    quotes: list[Quote] = []
    used: set[int] = set()
    for row in rows.tolist():
        if len(quotes) < 3 and prefill_of[row] not in used:
            used.add(prefill_of[row])
            quotes.append(_quote(ranked[row], [names[word] for word in found.words[head]]))
    terms = [" ".join(names[word] for word in found.words[k]) for k in group]
    fresh = [term for k, term in enumerate(terms) if not any(term in longer for longer in terms[:k])]
    return Theme(
        phrase=terms[0],
        terms=tuple(fresh[:8]),
        count=len(rows),
        prefills=int(np.unique(prefill_of[rows]).size),
        background=int(found.background[head]),
        mean_gap=float(np.mean(gaps)) if gaps else 0.0,
        score=float(scores[head]),
        stability=stability,
        quotes=tuple(quotes),
    )


def _quote(row: Ranked, phrase: list[str]) -> Quote:
    """Where the phrase stands in the completion, in bytes."""
    text = row.completion
    found = spans(text)
    words = [word for word, _, _ in found]
    at = next((k for k in range(len(words)) if words[k : k + len(phrase)] == phrase), None)
    if at is None:
        return Quote(row.id, text, Span(0, 0))
    return Quote(row.id, text, Span(found[at][1], found[at + len(phrase) - 1][2]))


def _word_gaps(ranked: Sequence[Ranked], target: Words) -> NDArray[np.float64]:
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
        target.offsets,
    )
