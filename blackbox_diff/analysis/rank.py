"""Completions in order of how much likelier the target finds them than the reference.

Degenerate loops go after everything else, near-duplicates are listed on the best of them, ties go by id:
the same rows give the same ranking, bit for bit, in whatever order they come.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from blackbox_diff.analysis.duplicates import leaders
from blackbox_diff.analysis.metrics import NAMES as OWN
from blackbox_diff.analysis.metrics import Measures, measure
from blackbox_diff.analysis.scores import COLUMNS, Bulk, aligned, pooled_score, pooled_words
from blackbox_diff.analysis.words import WORD, Words
from blackbox_diff.errors import InputError
from blackbox_diff.findings import Copy, Ranked
from blackbox_diff.records import ScoredCompletion

NAMES = (*OWN, *COLUMNS)  # what can be ranked by
DEFAULT = "pooled_score"  # why: docs/benchmark.md

SHORT_TOKENS = 10
LOW_COVERAGE = 0.8
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
    leader = leaders(words, order)
    followers: dict[int, list[Copy]] = {}
    for k in order.tolist():
        if leader[k] != k:
            value = 0.0 if undefined[k] else float(values[k])
            own = measures.of(k)
            copy = Copy(
                rows[k].sample.id,
                rows[k].sample.prefill,
                texts[k],
                value,
                arm=rows[k].sample.arm.name,
                gap=own["gap_nats_per_token"],
                score=None if degenerate[k] else own["score"],
            )
            followers.setdefault(leader[k], []).append(copy)
    kept = [k for k in order.tolist() if leader[k] == k]
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
    if text.isascii():  # then a window is eight bytes, and is compared as one number
        windows = np.sort(np.ndarray((count,), np.uint64, text.encode(), strides=(1,)))
        return (1 + int(np.count_nonzero(windows[1:] != windows[:-1]))) / count
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
