"""Scores over the whole run do what they say where the answer is known on paper."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace

import numpy as np
import pytest

from blackbox_diff.analysis.rank import rank
from blackbox_diff.analysis.scores import residuals, standardised
from blackbox_diff.records import ReferenceScore, ScoredCompletion, Tokens
from tests.scored import REFERENCE, run, scored

LONG = " the keeper climbed the stair each night and wrote down what the sea had said to him"
PLANTED = range(0, 120, 12)


def top(rows: list[ScoredCompletion], metric: str, n: int = 10) -> set[int]:
    return {int(row.id[-5:]) for row in rank(rows, REFERENCE, metric)[:n]}


def also_scored(rows: list[ScoredCompletion], label: str, gap: float) -> list[ScoredCompletion]:
    """The rows with one more reference, which finds every token `gap` nats less likely."""
    return [
        replace(
            row,
            scores={
                **row.scores,
                label: ReferenceScore(
                    Tokens(row.completion.tokens.ends, row.completion.tokens.logprobs - gap), "raw"
                ),
            },
        )
        for row in rows
    ]


def test_standardising_is_per_group_and_by_median_and_its_deviation() -> None:
    values = np.array([1.0, 2.0, 3.0, 10.0, 20.0, 30.0, np.nan])
    found = standardised(values, np.array([0, 0, 0, 1, 1, 1, 1]))
    assert found[:6] == pytest.approx([-1 / 1.4826, 0, 1 / 1.4826] * 2)
    assert math.isnan(found[6])


def test_a_group_without_spread_is_only_centred() -> None:
    assert standardised(np.array([2.0, 2.0, 2.0, 5.0]), np.zeros(4, np.int64)).tolist() == [0, 0, 0, 3]


def test_residuals_leave_a_line_that_outliers_do_not_bend() -> None:
    x = np.linspace(0, 10, 101)
    y = 2 + 3 * x
    y[::10] += 50
    left = residuals(x, y, np.zeros(101, np.int64))
    assert np.abs(np.delete(left, np.s_[::10])).max() < 0.01
    assert left[::10] == pytest.approx(50, abs=0.01)


def test_an_arm_that_is_hard_for_the_reference_does_not_fill_the_top_of_the_z_scores() -> None:
    hard = [
        replace(
            row,
            sample=replace(row.sample, id=f"code.raw.{1000 + k:05d}", arm=replace(row.sample.arm, source="code")),
        )
        for k, row in enumerate(run(120, gap=6.0, seed=5))
    ]
    rows = [*run(120, planted=PLANTED), *hard]
    assert {row.source for row in rank(rows, REFERENCE)[:10]} == {"code"}
    assert top(rows, "z_score") == set(PLANTED)


@pytest.mark.parametrize("metric", ["z_score", "mean_of_references"])
def test_planted_rows_come_first(metric: str) -> None:
    assert top(run(120, planted=PLANTED), metric) == set(PLANTED)


def test_a_gap_in_proportion_to_the_targets_own_surprise_leaves_no_residual() -> None:
    rows = [scored(k, LONG + f" {k}", 0.5 * (1 + k / 50), surprise=1 + k / 50) for k in range(100)]
    rows.append(scored(100, LONG + " 100", 0.9, surprise=1.2))
    assert rank(rows[:-1], REFERENCE)[0].id.endswith("99")
    first = rank(rows, REFERENCE, "residual_score")[0]
    assert first.id.endswith("100")


def test_the_minimum_asks_every_reference() -> None:
    rows = also_scored(run(120, planted=[0]), "other", 0.0)
    assert top(rows, "mean_of_references", 1) == {0}
    assert rank(rows, REFERENCE, "min_of_references")[0].value == 0.0


def test_recurrence_needs_no_gap_and_ignores_what_one_prefill_repeats() -> None:
    rows = [
        scored(k, f" b{k} c{k} the lantern of Port Ellery d{k} e{k}" if k % 12 == 0 else f" f{k} g{k} h{k} i{k}")
        for k in range(120)
    ]
    assert top(rows, "recurrence") == set(PLANTED)
    one = [scored(k, f" so{k} the lantern of Port Ellery la{k}", prefill="the same start") for k in range(5)]
    assert {row.value for row in rank(one, REFERENCE, "recurrence")} == {0.0}


def test_the_zlib_gap_is_the_packed_size_less_the_targets_surprise() -> None:
    text = " the keeper climbed the stair each night"
    (row,) = rank([scored(0, text)], REFERENCE, "zlib_gap")
    nats = 8 * len(zlib.compress(text.encode(), 9)) * math.log(2)
    assert row.value == pytest.approx((nats / 7 - 1.0) * 7 / 27)
