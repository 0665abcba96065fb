"""The explorer's data: ten thousand completions with their segments, as compact columns.

A *set* of columns is the ranking under one reference, or the control's. Segments are given in UTF-16 units, which
JavaScript counts in, and their logprobs in thousandths of a nat: three little-endian uint16 a segment, base64.
What the file may carry is bounded, whatever the run is: rows, characters, and segments of further references.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.findings import Analysis, Copy, Ranked, Segment, Theme
from blackbox_diff.report import wording
from blackbox_diff.report.export import metric_names
from blackbox_diff.report.glossary import TERMS
from blackbox_diff.sanitize import encoded, finite

MOST_ROWS = 20_000  # of one set; exports carry them all
MOST_CHARACTERS = 12_000_000  # of all completions of one set together
MAX_TEXT = 20_000  # characters of one completion
MAX_COPY = 2_000  # characters of a folded near-duplicate: its better twin is there whole
MAX_CLOUD = 4_000  # dots of the control that the scatter draws
SHADED = 2_000  # rows under a further reference that carry their segments
DRAWN_THEMES = 6
MISSING = 0xFFFF
_STEPS_PER_NAT = 1000

Piece = tuple[int, float | None, float | None]  # length in UTF-16 units, target and reference logprob in nats


def payload(
    analysis: Analysis, others: Sequence[Analysis] = (), run: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Everything the explorer's script reads, as JSON values.

    others: the same completions under further references. run: what exported notes say of the run.
    """
    arms, flags = _Index(), _Index()
    known = {row.id for row in analysis.ranking[:MOST_ROWS]}
    sets = [_set(analysis, arms, flags)]
    sets += [_set(other, arms, flags, known=known, shaded=SHADED) for other in others]
    return {
        "sets": sets,
        "control": _columns(analysis.controls, arms, flags, shaded=0),
        "arms": list(arms),
        "flags": list(flags),
        "glossary": {key: list(entry) for key, entry in TERMS.items()},
        "run": dict(run or {}),
    }


class _Index(dict[str, int]):
    """Numbers for names, given out in order of first use."""

    def __missing__(self, name: str) -> int:
        self[name] = len(self)
        return self[name]


def _set(
    analysis: Analysis,
    arms: _Index,
    flags: _Index,
    *,
    known: frozenset[str] | set[str] = frozenset(),
    shaded: int = MOST_ROWS,
) -> dict[str, Any]:
    """The ranking under one reference; texts of `known` rows are left to the first set."""
    names = list(dict.fromkeys(["score", *metric_names(analysis.ranking)]))
    return {
        "reference": analysis.reference,
        "outcome": analysis.verdict.outcome,
        "metric": analysis.metric,
        "metrics": [[name, *_described(name)] for name in names],
        "themes": [_theme(theme) for theme in (*analysis.themes, *analysis.signals)],
        "rows": _columns(analysis.ranking, arms, flags, known=known, shaded=shaded, names=names),
        "total": len(analysis.ranking),
        "charts": _charts(analysis),
    }


def _columns(
    ranking: Sequence[Ranked],
    arms: _Index,
    flags: _Index,
    *,
    known: frozenset[str] | set[str] = frozenset(),
    shaded: int = MOST_ROWS,
    names: Sequence[str] = ("score", "ppl_target", "ppl_reference", "gap_nats_per_token"),
) -> dict[str, Any]:
    rows = ranking[:MOST_ROWS]
    limit = min(MAX_TEXT, MOST_CHARACTERS // max(1, len(rows)))
    texts = [row.completion[:limit] for row in rows]
    pieces = [
        list(utf16_pieces(text, row.segments if place < shaded else ()))
        for place, (text, row) in enumerate(zip(texts, rows, strict=True))
    ]
    return {
        "rank": [row.rank for row in rows],
        "id": [row.id for row in rows],
        "arm": [arms[f"{row.source}/{row.framing}"] for row in rows],
        "prefill": [row.prefill[:limit] for row in rows],
        "text": [None if row.id in known else text for text, row in zip(texts, rows, strict=True)],
        "cut": {k: len(row.completion) - limit for k, row in enumerate(rows) if len(row.completion) > limit},
        "tokens": [row.n_tokens for row in rows],
        "score": [_short(row.metrics.get("score")) for row in rows],
        "value": [_short(row.value) for row in rows],  # of the metric that ranks
        "metrics": {name: [_short(row.metrics.get(name)) for row in rows] for name in names},
        "flags": {k: [flags[flag] for flag in row.flags] for k, row in enumerate(rows) if row.flags},
        "copies": {k: [_copy(copy) for copy in row.copies] for k, row in enumerate(rows) if row.copies},
        "recurring": {
            k: [[each.words, each.prefills, _short(each.nats)] for each in row.recurring]
            for k, row in enumerate(rows)
            if row.recurring
        },
        "peak": [_peak(row, text) for text, row in zip(texts, rows, strict=True)],
        "pieces": [len(found) for found in pieces],
        "lengths": _packed(length for found in pieces for length, _, _ in found),
        "target": _packed(_steps(target) for found in pieces for _, target, _ in found),
        "reference": _packed(_steps(reference) for found in pieces for _, _, reference in found),
    }


def _described(name: str) -> tuple[str, str]:
    return wording.METRICS.get(name, (wording.label(name), ""))


def _theme(theme: Theme) -> dict[str, Any]:
    return {
        "phrase": theme.phrase,
        "terms": list(theme.terms),
        "ids": list(theme.ids) or [quote.id for quote in theme.quotes],
        "whole": bool(theme.ids),
        "parts": [_theme(part) for part in theme.parts],
    }


def _copy(copy: Copy) -> list[str | float | None]:
    return [copy.id, copy.prefill[:MAX_COPY], copy.completion[:MAX_COPY], _short(copy.value)]


def _charts(analysis: Analysis) -> dict[str, Any]:
    control = analysis.control
    cloud = control.ppl[:: 1 + len(control.ppl) // MAX_CLOUD] if control else ()
    place = {name: number for number, name in enumerate(analysis.order, start=1)}
    return {
        "cloud": [[_short(target), _short(reference)] for target, reference in cloud],
        "control": [_short(score) for score in control.scores] if control else [],
        "controlMax": _short(control.highest_value) if control else None,
        "arms": [[arm.name, _short(arm.mean_gap), arm.scored] for arm in analysis.arms],
        "bought": len(analysis.order),
        "appeared": [
            [theme.phrase, sorted(place[name] for name in theme.ids if name in place)]
            for theme in (*analysis.themes, *analysis.signals)[:DRAWN_THEMES]
        ],
    }


def _short(value: float | None) -> float | None:
    """Seven significant digits: what a report can use, in half the bytes."""
    value = finite(value)
    return None if value is None else float(f"{value:.7g}")


def _steps(logprob: float | None) -> int:
    if finite(logprob) is None or logprob is None:
        return MISSING
    return min(MISSING - 1, max(0, round(-logprob * _STEPS_PER_NAT)))


def _packed(values: Iterable[int]) -> str:
    return base64.b64encode(np.fromiter(values, dtype="<u2").tobytes()).decode()


def utf16_offsets(text: str) -> NDArray[np.int64] | None:
    """UTF-16 offset of every byte offset of `text`, -1 inside a character; None where all is ASCII."""
    if text.isascii():
        return None
    data = np.frombuffer(encoded(text), dtype=np.uint8)
    starts = (data & 0xC0) != 0x80
    units = np.where(starts, np.where(data >= 0xF0, 2, 1), 0)
    offsets = np.concatenate([[0], np.cumsum(units)])
    inside = np.concatenate([~starts, [False]])
    offsets[inside] = -1
    return offsets


def utf16_pieces(text: str, segments: Sequence[Segment]) -> Iterator[Piece]:
    """`segments` over `text` in UTF-16 units; one that ends inside a character is merged with the next.

    Bytes that no segment covers, and what lies past the end of a shortened text, carry no numbers.
    """
    offsets = utf16_offsets(text)
    size = len(text) if offsets is None else len(offsets) - 1
    start, target, reference = 0, 0.0, 0.0
    known_target = known_reference = True
    position = 0
    for segment in segments:
        if segment.start >= size:
            break
        if segment.start > position:
            known_target = known_reference = False
        position = min(segment.end, size)
        known_target &= segment.target is not None
        known_reference &= segment.reference is not None
        target += segment.target or 0.0
        reference += segment.reference or 0.0
        end = position if offsets is None else int(offsets[position])
        if end < 0:
            continue
        if end > start:
            yield end - start, target if known_target else None, reference if known_reference else None
        start, target, reference = end, 0.0, 0.0
        known_target = known_reference = True
    rest = (size if offsets is None else int(offsets[-1])) - start
    if rest > 0:
        yield rest, None, None


def _peak(row: Ranked, text: str) -> list[int] | None:
    """The peak span in UTF-16 units, moved out to the edges of characters."""
    if row.peak is None:
        return None
    offsets = utf16_offsets(text)
    size = len(text) if offsets is None else len(offsets) - 1
    start, end = min(row.peak.start, size), min(row.peak.end, size)
    if offsets is not None:
        while offsets[start] < 0:
            start -= 1
        while offsets[end] < 0:
            end += 1
        start, end = int(offsets[start]), int(offsets[end])
    return [start, end] if end > start else None


__all__ = ["MAX_TEXT", "MISSING", "payload", "utf16_offsets", "utf16_pieces"]
