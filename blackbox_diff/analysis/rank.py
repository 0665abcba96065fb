"""Completions in order of how much likelier the target finds them than the reference.

Degenerate loops go after everything else, near-duplicates are listed on the best of them, ties go by id:
the same rows give the same ranking, bit for bit, in whatever order they come.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.analysis.metrics import NAMES as OWN
from blackbox_diff.analysis.metrics import Measures, measure
from blackbox_diff.analysis.scores import COLUMNS, Bulk, aligned, pooled_score, pooled_words
from blackbox_diff.analysis.words import WORD, Words, mix
from blackbox_diff.errors import InputError
from blackbox_diff.findings import Copy, Ranked
from blackbox_diff.records import ScoredCompletion

NAMES = (*OWN, *COLUMNS)  # what can be ranked by
DEFAULT = "pooled_score"  # why: docs/benchmark.md

SHORT_TOKENS = 10
LOW_COVERAGE = 0.8
DUPLICATE_JACCARD = 0.6  # of word trigrams
LOOP_GRAM = 8  # characters
LOOP_DISTINCT = 0.5
LOOP_LEAST = 32  # characters below which nothing is called a loop


def rank(
    rows: Sequence[ScoredCompletion],
    reference: str,
    metric: str = DEFAULT,
    *,
    with_segments: int | None = None,
) -> tuple[Ranked, ...]:
    """Rank the rows that `reference` has scored, best first.

    with_segments: how many of the best rows carry their segments; None for all.
    A row whose metric is undefined (nothing comparable) comes last with a value of 0.
    Raises InputError for a metric that does not exist.
    """
    if metric not in NAMES:
        raise InputError(f"--metric: there is no '{metric}'; choose one of {', '.join(NAMES)}")
    rows = sorted((row for row in rows if reference in row.scores), key=lambda row: row.sample.id)
    texts = [row.completion.text for row in rows]
    segments = aligned(rows, reference)
    measures = measure(segments, [text.encode() for text in texts])
    words = Words.of(texts)
    bulk = Bulk(rows, measures, segments, words)
    vouching = pooled_words(bulk) if metric == DEFAULT else None
    if vouching is not None:
        measures.columns[metric] = pooled_score(bulk, vouching)
    elif metric in COLUMNS:
        measures.columns[metric] = COLUMNS[metric](bulk)
    values = measures.columns[metric]
    degenerate = np.fromiter(map(is_degenerate, texts), dtype=bool, count=len(texts))
    undefined = np.isnan(values)
    # Rows are in order of id and the sort is stable, so ties go by id.
    order = np.lexsort((-np.where(undefined, 0.0, values), undefined, degenerate))
    leaders = _leaders(words, order)
    followers: dict[int, list[Copy]] = {}
    for k in order.tolist():
        if leaders[k] != k:
            value = 0.0 if undefined[k] else float(values[k])
            copy = Copy(rows[k].sample.id, rows[k].sample.prefill, texts[k], value)
            followers.setdefault(leaders[k], []).append(copy)
    kept = [k for k in order.tolist() if leaders[k] == k]
    shown = len(kept) if with_segments is None else with_segments
    names = list(words.vocabulary)
    return tuple(
        Ranked(
            rank=place,
            id=rows[k].sample.id,
            source=rows[k].sample.arm.source,
            framing=rows[k].sample.arm.framing,
            prefill=rows[k].sample.prefill,
            completion=texts[k],
            n_tokens=len(rows[k].completion.tokens),
            value=0.0 if undefined[k] else float(values[k]),
            metrics=measures.of(k),
            flags=_flags(rows[k], measures, k, bool(degenerate[k])),
            copies=tuple(followers.get(k, ())),
            peak=measures.peak(k),
            segments=segments.of(k) if place <= shown else (),
            recurring=vouching.recurring(k, names) if vouching is not None and place <= shown else (),
        )
        for place, k in enumerate(kept, start=1)
    )


def is_degenerate(text: str) -> bool:
    """Whether a text has no word, or loops: fewer than half of its 8-character windows are distinct.

    The tail counts alone too, because a completion that falls into a loop stays in it to the end.
    """
    if WORD.search(text) is None:
        return True
    if len(text) < LOOP_LEAST:
        return False
    # Whatever loops compresses well; this spares the windows of ordinary text.
    data = text.encode()
    if len(zlib.compress(data, 1)) > 0.45 * len(data) + 20:
        return False
    half = text[len(text) // 2 :]
    return _distinct(text) < LOOP_DISTINCT or (len(half) >= LOOP_LEAST and _distinct(half) < LOOP_DISTINCT / 2)


def _distinct(text: str) -> float:
    count = len(text) - LOOP_GRAM + 1
    return len({text[k : k + LOOP_GRAM] for k in range(count)}) / count


def _flags(row: ScoredCompletion, measures: Measures, k: int, degenerate: bool) -> tuple[str, ...]:
    coverage = measures.columns["coverage"][k]
    found = {
        "degenerate": degenerate,
        "truncated": row.completion.finish_reason == "length",
        "short": len(row.completion.tokens) < SHORT_TOKENS,
        "low_coverage": not coverage >= LOW_COVERAGE,
    }
    return tuple(name for name, holds in found.items() if holds)


def _leaders(words: Words, order: NDArray[np.int64]) -> list[int]:
    """For each text the first one in `order` that it nearly duplicates; itself where it is the first.

    Candidates come from 8 bands of 2 minimum hashes (at a Jaccard of 0.6 about 97% meet), and each is
    then checked exactly. Texts of fewer than three words are compared whole.
    """
    at, hashes = words.grams(3)
    rows = words.rows[at] if at.size else np.empty(0, dtype=np.int64)
    bounds = np.searchsorted(rows, np.arange(len(words) + 1)).tolist()
    have = np.flatnonzero(np.diff(bounds)) if len(words) else np.empty(0, dtype=np.int64)
    bands = np.zeros((len(words), 8), dtype=np.uint64)
    for band in range(8 if have.size else 0):
        starts = np.asarray(bounds)[have]
        for k in (0, 1):
            lowest = np.minimum.reduceat(mix(hashes ^ np.uint64(0x51ED27 * (2 * band + k + 1))), starts)
            bands[have, band] = mix(bands[have, band] ^ lowest + np.uint64(k))
    keys = bands.tolist()
    grams: dict[int, frozenset[int]] = {}
    buckets: list[dict[int, int]] = [{} for _ in range(8)]
    whole: dict[tuple[int, ...], int] = {}
    leaders = list(range(len(words)))
    for row in order.tolist():
        if bounds[row] == bounds[row + 1]:
            text = tuple(words.flat[words.offsets[row] : words.offsets[row + 1]].tolist())
            leaders[row] = whole.setdefault(text, row) if text else row
            continue
        own: frozenset[int] | None = None
        for candidate in dict.fromkeys(
            bucket[key] for bucket, key in zip(buckets, keys[row], strict=True) if key in bucket
        ):
            own = own or frozenset(hashes[bounds[row] : bounds[row + 1]].tolist())
            if candidate not in grams:
                grams[candidate] = frozenset(hashes[bounds[candidate] : bounds[candidate + 1]].tolist())
            both = len(own & grams[candidate])
            if both >= DUPLICATE_JACCARD * (len(own) + len(grams[candidate]) - both):
                leaders[row] = candidate
                break
        else:
            for bucket, key in zip(buckets, keys[row], strict=True):
                bucket.setdefault(key, row)
    return leaders
