"""Numbers per completion, from its segments. Columns over all completions at once; NaN is undefined.

For a completion whose compared segments (both sides present) hold n target units, r reference units and
B bytes, with sums T and R of target and reference logprobs in nats:

    gap_total_nats      T - R
    gap_nats_per_token  (T - R) / n                   per target token: log p_target - log p_reference
    gap_bits_per_byte   (T - R) / (B ln 2)            independent of either tokenizer
    score               gap_nats_per_token * n/(n+20) the mean gap shrunk by length
    peak_score          the highest (sum of gaps)/(tokens + 20) over windows of whole segments
    ppl_target          exp(-T/n)      ppl_reference  exp(-R/r)
    ppl_diff            ppl_reference - ppl_target    (arXiv 2605.00994), each in its own tokens
    coverage            B / bytes of the completion
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.analysis.alignment import Floats, Ints, Segments
from blackbox_diff.findings import Span

SHRINK = 20.0  # tokens; flat optimum between 20 and 40 on 50 published organisms
LONGEST_PEAK = 64  # segments in a peak's window at most
CHUNK = 1 << 17  # segments handled at once: working arrays stay near the cache

NAMES = (
    "score",
    "gap_nats_per_token",
    "gap_bits_per_byte",
    "gap_total_nats",
    "peak_score",
    "ppl_target",
    "ppl_reference",
    "ppl_diff",
    "coverage",
)

_SPACE = np.zeros(256, dtype=bool)
_SPACE[[9, 10, 11, 12, 13, 32]] = True


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """Columns over m completions.

    columns: name -> (m,) float64, NaN where undefined.
    tokens, compared: (m,) target units and bytes inside compared segments.
    peaks: (m, 2) byte span of the peak; (-1, -1) where there is none.
    """

    columns: dict[str, Floats]
    tokens: Ints
    compared: Ints
    peaks: Ints

    def of(self, row: int) -> dict[str, float | None]:
        values = {name: float(column[row]) for name, column in self.columns.items()}
        return {name: None if value != value else value for name, value in values.items()}

    def peak(self, row: int) -> Span | None:
        start, end = self.peaks[row].tolist()
        return None if start < 0 else Span(start, end)


def measure(segments: Segments, texts: Sequence[bytes]) -> Measures:
    """All metrics of m completions; `texts` are their UTF-8 bytes."""
    rows, m = segments.rows, len(segments.lengths)
    there = ~np.isnan(segments.target + segments.reference)
    kept = rows[there]

    def total(values: NDArray[np.float64] | Ints) -> Floats:
        return np.bincount(kept, weights=values[there], minlength=m).astype(np.float64)

    target, reference = total(segments.target), total(segments.reference)
    n, r = total(segments.target_units), total(segments.reference_units)
    compared = total(segments.ends - segments.starts)
    gap = total(segments.target - segments.reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        per_token = np.where(n > 0, gap / n, np.nan)
        ppl_target = np.where(n > 0, _exp(-target / n), np.nan)
        ppl_reference = np.where(r > 0, _exp(-reference / r), np.nan)
        per_byte = np.where(compared > 0, gap / (compared * np.log(2.0)), np.nan)
        coverage = np.where(segments.lengths > 0, compared / segments.lengths, np.nan)
    peak_score, peaks = _peaks(segments, there, rows, texts)
    columns = {
        "score": per_token * n / (n + SHRINK),
        "gap_nats_per_token": per_token,
        "gap_bits_per_byte": per_byte,
        "gap_total_nats": np.where(n > 0, gap, np.nan),
        "peak_score": peak_score,
        "ppl_target": ppl_target,
        "ppl_reference": ppl_reference,
        "ppl_diff": ppl_reference - ppl_target,
        "coverage": coverage,
    }
    return Measures(columns, n.astype(np.int64), compared.astype(np.int64), peaks)


def _exp(values: Floats) -> Floats:
    return np.exp(np.minimum(values, 700.0))


def _peaks(
    segments: Segments, there: NDArray[np.bool_], rows: Ints, texts: Sequence[bytes]
) -> tuple[Floats, Ints]:
    m = len(segments.lengths)
    scores, spans = np.full(m, np.nan), np.full((m, 2), -1, dtype=np.int64)
    gaps = segments.target - segments.reference
    words = _words(segments, rows, texts)
    low = 0
    while low < m:
        high = int(np.searchsorted(segments.offsets, segments.offsets[low] + CHUNK, side="right")) - 1
        high = min(max(high, low + 1), m)
        part = slice(int(segments.offsets[low]), int(segments.offsets[high]))
        found, best, first, last = _windows(
            gaps[part], segments.target_units[part], there[part], words[part], rows[part]
        )
        scores[found] = best
        spans[found, 0] = segments.starts[part][first]
        spans[found, 1] = segments.ends[part][last]
        low = high
    return scores, spans


def _words(segments: Segments, rows: Ints, texts: Sequence[bytes]) -> Ints:
    """(s,) words that begin inside each segment; words are split at ASCII white space."""
    space = _SPACE[np.frombuffer(b" ".join(texts) + b" ", dtype=np.uint8)]
    begins = ~space & np.concatenate([[True], space[:-1]])
    before = np.concatenate([[0], np.cumsum(begins, dtype=np.int32)])
    bases = (np.cumsum(segments.lengths + 1) - (segments.lengths + 1))[rows]
    return np.asarray(before[bases + segments.ends] - before[bases + segments.starts], dtype=np.int64)


def _windows(
    gaps: Floats, tokens: Ints, there: NDArray[np.bool_], words: Ints, rows: Ints
) -> tuple[Ints, Floats, Ints, Ints]:
    """Best window of each row that has a compared segment: rows, score, first and last segment.

    Windows never cross a segment that is not compared, and hold two words where a window can.
    Ties go to the earliest, then to the shortest.

        rows         0 0 0 0 0 | 1 1 1
        there        x x . x x | x x x      . is not compared
        at           0 1   3 4 | 5 6 7      places of the compared segments
        run          0 0   1 1 | 2 2 2      a run ends where a segment is missing, and with its row
        stop         2 2   4 4 | 7 7 7      where in `at` the run of each ends, and every window in it
        width 1      # #   # # | # # #      live: the windows of this width, all of them scored at once,
        width 2      #     #   | # #        as differences of the running sums `gap`, `token` and `word`
        width 3                | #
    """
    at = np.flatnonzero(there)
    if not at.size:
        none = np.empty(0, dtype=np.int64)
        return none, np.empty(0), none, none
    fresh = np.concatenate([[True], (np.diff(at) > 1) | (np.diff(rows[at]) > 0)])
    run = np.cumsum(fresh) - 1
    stop = np.append(np.flatnonzero(fresh)[1:], at.size)[run]
    gap, token, word = (np.concatenate([[0], np.cumsum(x[at])]) for x in (gaps, tokens, words))
    starts = np.flatnonzero(np.diff(rows[at], prepend=-1))
    in_run = (word[stop] - word[np.flatnonzero(fresh)[run]]).astype(np.int64)
    most = np.maximum.reduceat(in_run, starts)
    row_of = np.cumsum(np.diff(rows[at], prepend=-1) > 0) - 1
    need = np.where(most >= 2, 2, 0)[row_of]

    best, length = np.full(at.size, -np.inf), np.ones(at.size, dtype=np.int64)
    live = np.arange(at.size)
    for width in range(1, LONGEST_PEAK + 1):
        live = live[live + width <= stop[live]]
        if not live.size:
            break
        after = live + width
        value = (gap[after] - gap[live]) / (token[after] - token[live] + SHRINK)
        value[word[after] - word[live] < need[live]] = -np.inf
        better = value > best[live]
        best[live[better]] = value[better]
        length[live[better]] = width
    top = np.maximum.reduceat(best, starts)
    hits = np.flatnonzero(best == top[row_of])
    first = hits[np.searchsorted(hits, starts)]
    good = np.isfinite(top)
    return (
        rows[at][starts][good],
        top[good],
        at[first[good]],
        at[(first + length[first] - 1)[good]],
    )
