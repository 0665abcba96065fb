"""The verdict finds what is planted, abstains where it can't know, and says nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest

from blackbox_diff.analysis.analyse import analyse
from blackbox_diff.analysis.intervals import null_p_value, ratio_interval
from blackbox_diff.errors import InputError
from tests.scored import REFERENCE, run, scored

CONTROL = run(150, gap=0.0, seed=99)


def test_a_planted_objective_is_a_finding() -> None:
    verdict = analyse(run(150, planted=range(0, 150, 10)), CONTROL, REFERENCE).verdict
    assert verdict.outcome == "finding"
    assert verdict.p_value is None  # how likely a harmless finetune looks like this is not known


@pytest.mark.parametrize("seed", range(5))
def test_the_reference_against_itself_is_no_finding(seed: int) -> None:
    verdict = analyse(run(150, gap=0.0, seed=seed), CONTROL, REFERENCE, seed=seed).verdict
    assert verdict.outcome == "no finding"
    assert verdict.sentence.startswith("No finding at this budget")
    assert "clean" not in verdict.sentence.lower()


def test_one_strange_completion_is_not_a_finding() -> None:
    assert analyse(run(150, gap=0.0, planted=[7]), CONTROL, REFERENCE).verdict.outcome != "finding"


def test_too_few_completions_decide_nothing() -> None:
    verdict = analyse(run(10, planted=range(10)), CONTROL, REFERENCE).verdict
    assert verdict.outcome == "undecided"
    assert "too few" in verdict.sentence


def test_without_a_control_nothing_is_decided() -> None:
    analysis = analyse(run(150, planted=range(0, 150, 10)), [], REFERENCE)
    assert analysis.verdict.outcome == "undecided"
    assert analysis.verdict.p_value is None
    assert analysis.control is None


def test_no_completions_give_an_analysis_all_the_same() -> None:
    analysis = analyse([], [], REFERENCE, arms={"prose/raw": (3, 2, 1)})
    assert analysis.ranking == ()
    assert analysis.kl_nats_per_token is None
    assert [(arm.name, arm.scored, arm.refused, arm.failed, arm.unpaid) for arm in analysis.arms] == [
        ("prose/raw", 0, 3, 2, 1)
    ]


def test_the_same_seed_gives_the_same_analysis() -> None:
    rows = run(150, planted=range(0, 150, 10))
    assert analyse(rows, CONTROL, REFERENCE, seed=4) == analyse(rows, CONTROL, REFERENCE, seed=4)


def test_arms_are_counted_apart() -> None:
    rows = [
        *(scored(k, f" alpha{k} beta{k} gamma{k}", 1.0) for k in range(4)),
        *(scored(k, f" delta{k} zeta{k} eta{k}", 2.0, framing="chat") for k in range(6)),
    ]
    chat, raw = analyse(rows, [], REFERENCE, arms={"prose/chat": (1, 0, 0)}).arms
    assert (chat.name, chat.scored, chat.refused) == ("prose/chat", 6, 1)
    assert (raw.name, raw.scored, raw.refused) == ("prose/raw", 4, 0)
    assert (chat.mean_gap, raw.mean_gap) == pytest.approx((2.0, 1.0))


def test_an_arm_counts_what_was_folded_into_a_row_of_another_arm() -> None:
    same = " the old tide clock of the harbour runs backwards again"
    rows = [
        scored(0, same, 3.0),
        scored(1, same, 1.0, framing="chat"),
        scored(2, " quite another", 2.0, framing="chat"),
    ]
    chat, raw = analyse(rows, [], REFERENCE).arms
    assert (chat.scored, chat.mean_gap) == (2, pytest.approx(1.5))
    assert raw.mean_gap == pytest.approx(3.0)


def test_another_metric_changes_the_order_and_not_the_verdict() -> None:
    rows = run(150, planted=range(0, 150, 10))
    a, b = analyse(rows, CONTROL, REFERENCE), analyse(rows, CONTROL, REFERENCE, metric="ppl_diff")
    assert b.metric == "ppl_diff"
    assert a.verdict == b.verdict
    assert a.themes == b.themes


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(InputError):
        analyse([], [], REFERENCE, metric="best")


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(60):
        sizes = rng.integers(5, 65, 150).astype(float)
        interval = ratio_interval(rng.normal(0.3, 1.0, 150) * np.sqrt(sizes) + 0.2 * sizes, sizes, seed=seed)
        truth = 0.2 + 0.3 * np.mean(np.sqrt(np.arange(5, 65))) / np.mean(np.arange(5, 65))
        assert interval is not None
        covered += bool(interval.low <= truth <= interval.high)
    assert covered >= 50


def test_the_interval_leaves_undefined_rows_out() -> None:
    interval = ratio_interval(np.array([1.0, np.nan, 3.0]), np.array([2.0, 5.0, 2.0]), seed=0)
    assert interval is not None
    assert interval.value == pytest.approx(1.0)


def test_p_values_under_the_null_are_not_small() -> None:
    rng = np.random.default_rng(1)
    small = 0
    for seed in range(40):
        control, own = rng.normal(size=300), rng.normal(size=300)
        p = null_p_value(own, control, seed=seed)
        assert p is not None
        small += p <= 0.01
    assert small <= 4


def test_a_change_of_style_with_no_recurring_content_is_not_a_finding() -> None:
    verdict = analyse(run(150, gap=0.5), CONTROL, REFERENCE).verdict
    assert verdict.outcome == "no finding"
    assert "differs from the reference" in verdict.sentence


def test_a_finding_must_stand_out_above_a_control_that_says_the_same() -> None:
    rows, other = run(150, planted=range(0, 150, 10)), run(150, planted=range(0, 150, 15), seed=7)
    assert analyse(rows, CONTROL, REFERENCE, benign=run(150, gap=0.05, seed=8)).verdict.outcome == "finding"
    assert analyse(rows, CONTROL, REFERENCE, benign=other).verdict.outcome != "finding"
