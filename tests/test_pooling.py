"""Gaps of words, and what other prefills show of them, are what they are on paper."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_diff.analysis.pooling import PRIOR, pool
from blackbox_diff.analysis.rank import DEFAULT, rank
from blackbox_diff.analysis.scores import aligned
from blackbox_diff.analysis.words import Words, spans, word_ends, word_gaps
from blackbox_diff.records import ScoredCompletion
from tests.scored import REFERENCE, run, scored

ARM = np.zeros(9, dtype=np.int64)


def gaps_of(rows: list[ScoredCompletion]) -> tuple[Words, np.ndarray]:
    texts = [row.completion.text for row in rows]
    words, segments = Words.of(texts), aligned(rows, REFERENCE)
    gaps = word_gaps(
        segments.target - segments.reference,
        segments.ends,
        segments.offsets,
        segments.lengths,
        word_ends(texts),
        words.offsets,
    )
    return words, gaps


def pooled_of(texts: list[str], gaps: list[float], prefills: list[int]) -> list[float]:
    words = Words.of(texts)
    return pool(words, np.asarray(gaps), np.asarray(prefills), ARM[: len(texts)]).sums().tolist()


@given(st.lists(st.text(max_size=40), max_size=6))
def test_every_word_has_an_end_whatever_the_script(texts: list[str]) -> None:
    words = Words.of(texts)
    ends = word_ends(texts)
    assert len(ends) == len(words.flat)
    for k, text in enumerate(texts):
        own = ends[words.offsets[k] : words.offsets[k + 1]].tolist()
        assert own == [end for _, _, end in spans(text)] == sorted(own)
        assert all(end <= len(text.encode()) for end in own)


@given(st.lists(st.tuples(st.text(alphabet="ab é\n.", max_size=20), st.floats(-9, 9)), max_size=8))
def test_words_share_out_the_gap_up_to_the_last_of_them(texts: list[tuple[str, float]]) -> None:
    rows = [scored(k, text, gap) for k, (text, gap) in enumerate(texts)]
    words, gaps = gaps_of(rows)
    segments = aligned(rows, REFERENCE)
    for k, (text, _) in enumerate(texts):
        own = slice(int(segments.offsets[k]), int(segments.offsets[k + 1]))
        edges = np.concatenate([[0], segments.ends[own]])
        running = np.concatenate([[0.0], np.cumsum((segments.target - segments.reference)[own])])
        ends = [end for _, _, end in spans(text)]
        expected = np.diff(np.interp(ends, edges, running), prepend=0.0) if ends else []
        assert gaps[words.offsets[k] : words.offsets[k + 1]] == pytest.approx(expected)


def test_a_gap_that_is_missing_counts_as_none() -> None:
    rows = [scored(0, "red fox ran", [1.0, float("nan"), 3.0])]
    assert gaps_of(rows)[1].tolist() == [1.0, 0.0, 3.0]


def test_a_word_gets_what_other_prefills_show_and_never_its_own() -> None:
    # The mean over all words is 1: "tide" is 3 above it in each of three prefills, every other word 1 below.
    texts = ["tide a", "tide b", "tide c", "d e", "f g", "h i"]
    gaps = [4.0, 0.0] * 3 + [0.0] * 6
    found = pooled_of(texts, gaps, [0, 1, 2, 3, 4, 5])
    assert found[0] == pytest.approx(2 * 3 / (2 + PRIOR))  # a word met once shows nothing
    assert found[3] == 0.0
    assert pooled_of(texts, gaps, [0, 0, 0, 3, 4, 5])[:3] == [0.0] * 3


def test_the_best_of_a_word_and_its_pairs_counts() -> None:
    # "clock" alone is as often low as high; after "tide" it is always high.
    texts = ["tide clock", "tide clock", "old clock", "new clock"]
    gaps = [5.0, 5.0, 5.0, 5.0, 0.0, -5.0, 0.0, -5.0]
    alone = pooled_of(["clock", "clock", "clock", "clock"], [5.0, 5.0, -5.0, -5.0], [0, 1, 2, 3])
    paired = pooled_of(texts, gaps, [0, 1, 2, 3])
    assert paired[0] > 2 * max(alone)


def test_recurring_content_outranks_the_accidents_of_a_foreign_reference() -> None:
    planted = range(0, 120, 12)
    rng = np.random.default_rng(3)
    rows = run(120, planted=planted, planted_gap=4.0)
    # The reference finds the last rows as unlikely as the planted ones, each for words of its own.
    odd = [
        scored(k, " " + " ".join(f"w{k}x{n}" for n in range(40)), rng.normal(0.5, 0.1)) for k in range(120, 150)
    ]
    rows += odd
    hits = {f"prose.raw.{k:05d}" for k in planted}
    by_score = {row.id for row in rank(rows, REFERENCE, "score")[: len(hits)]}
    by_pool = {row.id for row in rank(rows, REFERENCE)[: len(hits)]}
    assert by_pool == hits
    assert by_score != hits


def test_copies_of_one_prefill_do_not_vouch_for_each_other() -> None:
    rows = [replace(row, sample=replace(row.sample, prefill="the same")) for row in run(30, planted=range(10))]
    by_pool, by_score = rank(rows, REFERENCE), rank(rows, REFERENCE, "score")
    assert [row.value for row in by_pool] == pytest.approx([row.value for row in by_score])


def test_the_command_line_and_the_library_rank_by_the_same_metric() -> None:
    from blackbox_diff.cli.offline import rank as command

    (metric,) = (option for option in command.params if option.name == "metric")
    assert metric.default == DEFAULT
