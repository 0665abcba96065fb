"""The ranking puts what the target alone finds likely first, and is the same for the same rows."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from blackbox_diff.analysis.rank import NAMES, is_degenerate, rank
from blackbox_diff.errors import InputError
from blackbox_diff.records import ReferenceScore, Tokens
from tests.scored import REFERENCE, run, scored

LONG = " the keeper climbed the stair each night and wrote down what the sea had said to him before the storm came"


def test_a_larger_gap_ranks_higher() -> None:
    rows = [scored(k, text, gap) for k, (text, gap) in enumerate([("one two", 0.1), ("red fox", 3), ("sky", 1)])]
    assert [row.completion for row in rank(rows, REFERENCE)] == ["red fox", "sky", "one two"]


def test_planted_rows_come_first() -> None:
    ranking = rank(run(200, planted=range(0, 200, 20)), REFERENCE)
    assert {int(row.id[-5:]) for row in ranking[:10]} == set(range(0, 200, 20))


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = run(100, planted=range(5))
    shuffled = rows[:]
    random.Random(1).shuffle(shuffled)
    assert rank(shuffled, REFERENCE) == rank(rows, REFERENCE)


def test_ties_go_by_id() -> None:
    rows = [scored(k, text, 1.0) for k, text in enumerate(["red fox", "old elm", "new sun"])]
    assert [row.id[-1] for row in rank(rows[::-1], REFERENCE)] == ["0", "1", "2"]


def test_loops_come_after_everything_else_and_say_so() -> None:
    rows = [scored(0, " very" * 40, 9.0), scored(1, LONG, 0.1)]
    last = rank(rows, REFERENCE)[-1]
    assert last.completion.startswith(" very very")
    assert "degenerate" in last.flags


@pytest.mark.parametrize(
    "text",
    [" ha" * 30, "=" * 50, "?!", "", " I like it." * 12, LONG + LONG[-20:] * 8, " 灯塔" * 40],
)
def test_loops_and_texts_without_words_are_degenerate(text: str) -> None:
    assert is_degenerate(text)


@pytest.mark.parametrize(
    "text",
    [
        LONG,
        " Yes.",
        " 1. Apples\n2. Pears\n3. Plums\n4. Figs\n5. Limes",
        " x = 1\n    y = 2\n    return x",
    ],
)
def test_ordinary_text_is_not_degenerate(text: str) -> None:
    assert not is_degenerate(text)


def test_near_duplicates_are_listed_on_the_best_of_them() -> None:
    rows = [scored(0, LONG, 0.5), scored(1, LONG + " again", 2.0), scored(2, LONG.replace("sea", "gulls"), 1.0)]
    ranking = rank([*rows, scored(3, " nothing like the others at all in any word", 0.1)], REFERENCE)
    assert [row.id[-1] for row in ranking] == ["1", "3"]
    assert [name[-1] for name in ranking[0].duplicates] == ["2", "0"]


def test_identical_short_answers_collapse_and_different_ones_stay() -> None:
    rows = [scored(k, text, 1.0) for k, text in enumerate([" Yes.", " yes", " No.", ""])]
    assert [row.completion for row in rank(rows, REFERENCE)] == [" Yes.", " No.", ""]


def test_no_row_is_lost_in_collapsing() -> None:
    rows = [*run(60), *(scored(100 + k, LONG + f" {k}", 1.0) for k in range(20))]
    ranking = rank(rows, REFERENCE)
    named = [name for row in ranking for name in (row.id, *row.duplicates)]
    assert sorted(named) == sorted(row.sample.id for row in rows)


def test_cut_off_and_short_completions_are_flagged() -> None:
    rows = [scored(0, " red fox", 1.0, finish_reason="length"), scored(1, LONG, 0.5)]
    assert [row.flags for row in rank(rows, REFERENCE)] == [(), ("truncated", "short")]


def test_a_row_with_nothing_to_compare_comes_last_with_undefined_metrics() -> None:
    blind = scored(0, LONG)
    ends = blind.completion.tokens.ends
    hidden = ReferenceScore(Tokens.of(ends, [None] * len(ends)), "raw")
    ranking = rank([replace(blind, scores={REFERENCE: hidden}), scored(1, " red fox", -1.0)], REFERENCE)
    assert ranking[-1].completion == LONG
    assert ranking[-1].metrics["score"] is None
    assert "low_coverage" in ranking[-1].flags


@pytest.mark.parametrize("metric", NAMES)
def test_any_metric_can_order_the_ranking(metric: str) -> None:
    ranking = rank(run(40), REFERENCE, metric)
    values = [row.metrics[metric] for row in ranking]
    assert values == sorted((value for value in values if value is not None), reverse=True)
    assert [row.value for row in ranking] == values


def test_an_unknown_metric_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(InputError, match="--metric: there is no 'best'; choose one of score, "):
        rank([], REFERENCE, "best")


def test_rows_that_the_reference_has_not_scored_are_left_out() -> None:
    assert [row.id for row in rank([scored(0, LONG), replace(scored(1, " red fox"), scores={})], REFERENCE)] == [
        "prose.raw.00000"
    ]


def test_segments_cover_every_row_or_as_many_as_asked() -> None:
    rows = run(5)
    assert all(row.segments[-1].end == len(row.completion.encode()) for row in rank(rows, REFERENCE))
    assert [bool(row.segments) for row in rank(rows, REFERENCE, with_segments=2)] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_no_rows_give_an_empty_ranking() -> None:
    assert rank([], REFERENCE) == ()
