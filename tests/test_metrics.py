"""Metrics are what their names say, over the compared bytes and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blackbox_diff.analysis import metrics
from blackbox_diff.analysis.alignment import align_many
from blackbox_diff.analysis.metrics import Measures, measure
from blackbox_diff.findings import Span
from blackbox_diff.records import Tokens


def one(text: str, target: Tokens, reference: Tokens) -> Measures:
    return measure(align_many([target], [reference]), [text.encode()])


def words(text: str, nats: list[float | None]) -> Tokens:
    ends = [len(" ".join(text.split(" ")[: k + 1])) for k in range(len(text.split(" ")))]
    return Tokens.of(ends, nats)


def test_the_gap_is_per_target_token_and_per_byte() -> None:
    found = one("ab cd", Tokens.of([2, 5], [-1, -2]), Tokens.of([1, 2, 3, 5], [-1, -1, -2, -3])).of(0)
    assert found["gap_total_nats"] == pytest.approx(4.0)
    assert found["gap_nats_per_token"] == pytest.approx(2.0)
    assert found["gap_bits_per_byte"] == pytest.approx(4.0 / 5 / math.log(2))
    assert found["score"] == pytest.approx(2.0 * 2 / 22)
    assert found["coverage"] == 1.0


def test_each_perplexity_is_in_its_own_tokens_and_the_difference_is_the_papers() -> None:
    found = one("ab cd", Tokens.of([2, 5], [-1, -2]), Tokens.of([1, 2, 3, 5], [-1, -1, -2, -3])).of(0)
    assert found["ppl_target"] == pytest.approx(math.exp(1.5))
    assert found["ppl_reference"] == pytest.approx(math.exp(7 / 4))
    assert found["ppl_diff"] == pytest.approx(math.exp(7 / 4) - math.exp(1.5))


def test_a_segment_missing_on_one_side_leaves_both() -> None:
    found = one("ab cd", Tokens.of([2, 5], [-1, -2]), Tokens.of([2, 5], [None, -3]))
    assert found.of(0)["gap_total_nats"] == pytest.approx(1.0)
    assert found.of(0)["ppl_target"] == pytest.approx(math.exp(2))
    assert found.of(0)["coverage"] == pytest.approx(3 / 5)
    assert found.tokens.tolist() == [1]


def test_nothing_to_compare_is_undefined_and_not_zero() -> None:
    found = one("ab", Tokens.of([2], [None]), Tokens.of([2], [-1]))
    assert found.of(0) == {**dict.fromkeys(metrics.NAMES), "coverage": 0.0}
    assert found.peak(0) is None


def test_an_impossible_text_keeps_a_finite_perplexity() -> None:
    found = one("ab", Tokens.of([2], [-1]), Tokens.of([2], [-5000.0])).of(0)
    assert found["ppl_diff"] is not None
    assert math.isfinite(found["ppl_diff"])


def test_the_peak_is_the_window_that_the_gap_sits_in() -> None:
    text = "one two Port Ellery three four"
    gaps = [0.1, 0.0, 6.0, 5.0, -0.2, 0.1]
    found = one(text, words(text, [-1] * 6), words(text, [-1 - gap for gap in gaps]))
    span = found.peak(0)
    assert span is not None
    assert text[span.start : span.end].strip() == "Port Ellery"
    assert found.of(0)["peak_score"] == pytest.approx(11 / 22)


def test_a_peak_holds_two_words_where_the_text_has_them() -> None:
    text = "one two three"
    span = one(text, words(text, [-1] * 3), words(text, [-1, -9, -1])).peak(0)
    assert span is not None
    assert len(text[span.start : span.end].split()) == 2


def test_a_text_of_one_word_has_a_peak_too() -> None:
    span = one("abcdef", Tokens.of([2, 6], [-1, -1]), Tokens.of([2, 6], [-1, -4])).peak(0)
    assert span is not None
    assert (span.start, span.end) == (2, 6)


def test_a_peak_never_crosses_a_missing_segment() -> None:
    text = "aa bb cc dd ee"
    span = one(text, words(text, [-1, -1, None, -1, -1]), words(text, [-1, -9, -1, -9, -1])).peak(0)
    assert span is not None
    assert span.end <= len("aa bb") or span.start >= len("aa bb cc")


def test_of_peaks_alike_the_earliest_counts_and_then_the_shortest() -> None:
    """All gaps are 0, so that every window scores 0."""
    letters = Tokens.of([2, 4, 6], [-1, -1, -1])
    assert one("abcdef", letters, letters).peak(0) == Span(0, 2)
    text = "one two three"
    assert one(text, words(text, [-1] * 3), words(text, [-1] * 3)).peak(0) == Span(0, len("one two"))


def test_two_words_that_no_window_reaches_have_no_peak() -> None:
    """A window has at most 64 segments: the second word begins with the 64th, or with the 65th."""
    for before, expected in ((63, Span(0, 64)), (64, None)):
        text = "x" * (before - 1) + " y"
        side = Tokens.of(list(range(1, len(text) + 1)), [-1.0] * len(text))
        assert one(text, side, side).peak(0) == expected


def peak_by_hand(text: str, ends: list[int], gaps: list[float]) -> float:
    """Every window, one after the other."""
    starts = [0, *ends[:-1]]

    def begun(a: int, b: int) -> int:
        return sum(text[k] != " " and (k == 0 or text[k - 1] == " ") for k in range(a, b))

    need = 2 if begun(0, len(text)) >= 2 else 0
    return max(
        sum(gaps[i : j + 1]) / (j + 1 - i + 20)
        for i in range(len(ends))
        for j in range(i, len(ends))
        if begun(starts[i], ends[j]) >= need
    )


@given(st.lists(st.tuples(st.text("ab ", min_size=1, max_size=4), st.floats(-5, 5)), min_size=1, max_size=15))
@settings(max_examples=150)
def test_the_peak_score_is_the_best_over_all_windows(units: list[tuple[str, float]]) -> None:
    text = "".join(part for part, _ in units)
    ends = np.cumsum([len(part) for part, _ in units]).tolist()
    gaps = [gap for _, gap in units]
    found = one(text, Tokens.of(ends, [-6.0] * len(ends)), Tokens.of(ends, [-6.0 - gap for gap in gaps]))
    assert found.of(0)["peak_score"] == pytest.approx(peak_by_hand(text, ends, gaps), abs=1e-9)


def test_measuring_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    texts = [("ab " * int(rng.integers(0, 12))).encode() for _ in range(50)]
    ends = [np.arange(1, len(text) + 1) for text in texts]
    segments = align_many(
        [Tokens.of(end, -rng.random(len(end))) for end in ends],
        [Tokens.of(end, -rng.random(len(end))) for end in ends],
    )
    whole = measure(segments, texts)
    monkeypatch.setattr(metrics, "CHUNK", 7)
    parts = measure(segments, texts)
    assert parts.peaks.tolist() == whole.peaks.tolist()
    np.testing.assert_allclose(parts.columns["peak_score"], whole.columns["peak_score"], atol=1e-12)
