"""Scores of a completion that need more than its own gap: the rest of the run, several references, or no model.

Each is a column over all completions; NaN where it is undefined. With T, n, R and B as in metrics.py (logprob sums
in nats, target tokens and bytes of the compared segments):

    pooled_score        ((T - R) + 2 * sum of pooled(word)) / (n + 20), nats per token. pooled(word) is the word's
                        gap after other prefills (pooling.py): recurring content counts more. The default
    z_score             (score - median of the arm) / (1.4826 * median absolute deviation of the arm), no unit: for
                        arms whose gaps differ because the two models differ there, and not because of training
    residual_score      r * B / (n + 20), nats per token; r is what is left of -R/B, nats per byte, after a line in
                        -T/B fitted to the arm (Huber 1964): for a reference that finds a kind of text harder
    mean_of_references  mean over the run's references of their z_scores, no unit
    min_of_references   the least of those z_scores: unlikely under every reference
    zlib_gap            (bits of the zlib-compressed text * ln 2 + T) / (n + 20), nats per token: compression in
                        the place of a reference (Carlini et al. 2021)
    recurrence          sum over words of log2(prefills whose completions hold the same three words in a row), over
                        (words + 20), bits per word: no model at all

All of them can be asked for by name; docs/benchmark.md compares them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from blackbox_diff.analysis.alignment import Floats, Ints, Segments, align_many
from blackbox_diff.analysis.metrics import SHRINK, Measures, measure
from blackbox_diff.analysis.pooling import Pool, pool
from blackbox_diff.analysis.words import Words, word_ends, word_gaps
from blackbox_diff.records import ScoredCompletion

LEAST_ROWS = 20  # an arm with fewer has no spread of its own, and is standardised with the whole run
HUBER = 1.345  # in units of the residuals' spread; 95% efficient where they are normal
FITS = 20  # reweighted least squares fits of a line
GRAM_WORDS = 3  # of `recurrence`
POOLED = 2.0  # times what other prefills show, beside a completion's own gap


@dataclass(frozen=True, slots=True, eq=False)
class Bulk:
    """The rows of a run that one reference has scored, with their measures under it; the words of their texts."""

    rows: Sequence[ScoredCompletion]
    measures: Measures
    segments: Segments
    words: Words

    @property
    def arms(self) -> Ints:
        """(m,) number of each row's arm; small arms share one."""
        arms = numbered(row.sample.arm.name for row in self.rows)
        sizes = np.bincount(arms)
        return np.where(sizes[arms] >= LEAST_ROWS, arms, len(sizes)) if arms.size else arms

    @property
    def references(self) -> tuple[str, ...]:
        """References that have scored any of the rows."""
        return tuple(sorted({label for row in self.rows for label in row.scores}))


def numbered(names: Iterable[str]) -> Ints:
    """Each name's number, in order of first sight."""
    known: dict[str, int] = {}
    return np.asarray([known.setdefault(name, len(known)) for name in names], dtype=np.int64)


def aligned(rows: Sequence[ScoredCompletion], reference: str) -> Segments:
    """The segments of rows that `reference` has scored. Raises ValueError naming a row whose sides disagree."""
    return align_many(
        [row.completion.tokens for row in rows],
        [row.scores[reference].tokens for row in rows],
        [row.sample.id for row in rows],
    )


def standardised(values: Floats, groups: Ints) -> Floats:
    """Each group's values less their median, over 1.4826 times their median absolute deviation."""
    found = np.full(values.shape, np.nan)
    for group in np.unique(groups):
        at = (groups == group) & ~np.isnan(values)
        if at.any():
            centred = values[at] - np.median(values[at])
            spread = 1.4826 * float(np.median(np.abs(centred)))
            found[at] = centred / spread if spread > 0 else centred
    return found


def residuals(x: Floats, y: Floats, groups: Ints) -> Floats:
    """y less a line in x fitted to each group by Huber's iteratively reweighted least squares."""
    found = np.full(y.shape, np.nan)
    for group in np.unique(groups):
        at = (groups == group) & ~np.isnan(x) & ~np.isnan(y)
        if not at.any():
            continue
        design = np.stack([np.ones(at.sum()), x[at]], axis=1)
        weights = np.ones(at.sum())
        left = y[at] - np.median(y[at])
        for _ in range(FITS):
            root = np.sqrt(weights)
            line = np.linalg.lstsq(design * root[:, None], y[at] * root, rcond=None)[0]
            left = y[at] - design @ line
            spread = 1.4826 * float(np.median(np.abs(left)))
            if spread == 0:
                break
            weights = np.minimum(1.0, HUBER * spread / np.maximum(np.abs(left), 1e-12))
        found[at] = left
    return found


def pooled_words(bulk: Bulk) -> Pool:
    """What the words of each row show after other prefills."""
    words, segments = bulk.words, bulk.segments
    gaps = word_gaps(
        segments.target - segments.reference,
        segments.ends,
        segments.offsets,
        segments.lengths,
        word_ends(row.completion.text for row in bulk.rows),
        words.offsets,
    )
    return pool(words, gaps, numbered(row.sample.group for row in bulk.rows), bulk.arms)


def pooled_score(bulk: Bulk, words: Pool | None = None) -> Floats:
    """The score of each row with what its words show after other prefills added; `words` where it is known."""
    shown = (words or pooled_words(bulk)).sums()
    total = bulk.measures.columns["gap_total_nats"] + POOLED * shown
    return np.asarray(total / (bulk.measures.tokens + SHRINK))


def z_score(bulk: Bulk) -> Floats:
    return standardised(bulk.measures.columns["score"], bulk.arms)


def residual_score(bulk: Bulk) -> Floats:
    columns, tokens, size = bulk.measures.columns, bulk.measures.tokens, bulk.measures.compared
    with np.errstate(divide="ignore", invalid="ignore"):
        target = np.log(columns["ppl_target"]) * tokens / size  # nats per byte
        left = residuals(target, target + columns["gap_total_nats"] / size, bulk.arms)
        return np.asarray(left * size / (tokens + SHRINK))


def of_references(bulk: Bulk) -> Floats:
    """(references, rows) z_scores, NaN where a reference has not scored a row."""
    found = []
    for label in bulk.references:
        at = [k for k, row in enumerate(bulk.rows) if label in row.scores]
        part = [bulk.rows[k] for k in at]
        line = np.full(len(bulk.rows), np.nan)
        texts = [row.completion.text for row in part]
        segments = aligned(part, label)
        measures = measure(segments, [text.encode() for text in texts])
        line[at] = z_score(Bulk(part, measures, segments, Words.of(texts)))
        found.append(line)
    return np.stack(found) if found else np.empty((0, len(bulk.rows)))


def mean_of_references(bulk: Bulk) -> Floats:
    return np.asarray(of_references(bulk).mean(axis=0)) if bulk.references else np.empty(0)


def min_of_references(bulk: Bulk) -> Floats:
    return np.asarray(of_references(bulk).min(axis=0)) if bulk.references else np.empty(0)


def zlib_gap(bulk: Bulk) -> Floats:
    tokens = bulk.measures.tokens
    packed = np.asarray([8.0 * len(zlib.compress(row.completion.text.encode(), 9)) for row in bulk.rows])
    with np.errstate(divide="ignore", invalid="ignore"):
        per_token = packed * np.log(2.0) / tokens - np.log(bulk.measures.columns["ppl_target"])
    return np.where(tokens > 0, per_token * tokens / (tokens + SHRINK), np.nan)


def recurrence(bulk: Bulk) -> Floats:
    words = bulk.words
    at, hashes = words.grams(GRAM_WORDS)
    sizes = np.diff(words.offsets)
    if not at.size:
        return np.zeros(len(bulk.rows))
    rows = words.rows
    prefills = numbered(row.sample.group for row in bulk.rows)
    gram = np.unique(hashes, return_inverse=True)[1]
    met = np.unique(np.stack([gram, prefills[rows[at]]]), axis=1)[0]
    spread = np.log2(np.bincount(met, minlength=gram.max() + 1).astype(np.float64))
    best = np.zeros(len(words.flat))
    for k in range(GRAM_WORDS):
        np.maximum.at(best, at + k, spread[gram])
    totals = np.bincount(rows, weights=best, minlength=len(bulk.rows))
    return np.asarray(totals / (sizes + SHRINK))


COLUMNS: dict[str, Callable[[Bulk], Floats]] = {
    column.__name__: column
    for column in (
        pooled_score,
        z_score,
        residual_score,
        mean_of_references,
        min_of_references,
        zlib_gap,
        recurrence,
    )
}
