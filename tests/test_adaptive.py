"""The controller: a pure function from what the arms gave to the next round."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_diff.design.allocation import (
    FLOOR,
    ArmRecord,
    allocate,
    next_round,
    order,
    probabilities,
    rewards,
    round_size,
)

scores = st.lists(st.floats(-1, 5), max_size=30).map(tuple)


@st.composite
def arm(draw: st.DrawFn) -> ArmRecord:
    mine = draw(scores)
    tried = len(mine) + draw(st.integers(0, 10))
    capacity = draw(st.none() | st.integers(tried, tried + 50))
    return ArmRecord(tried, mine, draw(scores), capacity)


arms = st.lists(arm(), min_size=1, max_size=6).map(lambda found: {f"a{k}": each for k, each in enumerate(found)})


@given(arms, st.integers(0, 2000))
def test_a_round_never_passes_the_cap_nor_an_arms_end(records: dict[str, ArmRecord], cap: int) -> None:
    given = next_round(records, cap)
    bought = sum(record.tried for record in records.values())
    assert sum(given.values()) <= max(0, cap - bought)
    assert all(0 <= given[name] <= record.left for name, record in records.items())


@given(arms, st.integers(0, 2000))
def test_a_round_is_as_large_as_cap_and_arms_allow(records: dict[str, ArmRecord], cap: int) -> None:
    bought = sum(record.tried for record in records.values())
    left = sum(record.left for record in records.values())
    expected = min(round_size(bought, len(records)), max(0, cap - bought), left)
    assert sum(next_round(records, cap).values()) == expected


@given(arms, st.integers(0, 2000))
def test_the_same_replies_give_the_same_round(records: dict[str, ArmRecord], cap: int) -> None:
    assert next_round(records, cap) == next_round(dict(records), cap)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(1, 500))
def test_no_arm_starves(weights: list[float], size: int) -> None:
    total = math.fsum(weights) or 1.0
    wanted = {f"a{k}": weight / total for k, weight in enumerate(weights)}
    given = allocate(wanted, dict.fromkeys(wanted, math.inf), size)
    assert min(given.values()) >= math.floor(FLOOR / len(weights) * size) - 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(0, 60), st.integers(0, 60))
def test_a_larger_round_only_adds(weights: list[float], small: int, more: int) -> None:
    total = math.fsum(weights) or 1.0
    wanted = {f"a{k}": weight / total for k, weight in enumerate(weights)}
    left = dict.fromkeys(wanted, 25.0)
    first, second = allocate(wanted, left, small), allocate(wanted, left, small + more)
    assert all(first[name] <= second[name] for name in wanted)


@given(arms)
def test_probabilities_add_up_to_one(records: dict[str, ArmRecord]) -> None:
    assert math.fsum(probabilities(records).values()) == pytest.approx(1)
    assert all(0 <= reward <= len(records[name].scores) for name, reward in rewards(records).items())


def test_the_first_round_is_equal_shares() -> None:
    empty = {name: ArmRecord(0, ()) for name in "abcd"}
    assert next_round(empty, 1000) == dict.fromkeys("abcd", 8)


def test_calls_go_where_the_high_scores_are() -> None:
    dull = ArmRecord(20, (0.1,) * 20)
    leaky = ArmRecord(20, (0.1,) * 15 + (2.0,) * 5)
    given = next_round({"dull": dull, "leaky": leaky}, 1000)
    assert given["leaky"] >= 3 * given["dull"] > 0


def test_a_score_counts_above_its_arms_control() -> None:
    noisy = ArmRecord(20, (2.0,) * 20, control=(2.0,) * 20)
    leaky = ArmRecord(20, tuple(k / 20 for k in range(20)), control=(0.0,) * 20)
    given = next_round({"noisy": noisy, "leaky": leaky}, 1000)
    assert given["leaky"] > given["noisy"]


def test_refusals_are_tries_without_reward() -> None:
    high = tuple([0.1] * 5 + [2.0] * 5)
    given = next_round({"refusing": ArmRecord(60, high), "writing": ArmRecord(10, high)}, 1000)
    assert given["writing"] > given["refusing"]


def test_equal_arms_get_equal_shares() -> None:
    same = ArmRecord(30, tuple(k / 30 for k in range(30)))
    assert probabilities({"a": same, "b": same}) == pytest.approx({"a": 0.5, "b": 0.5})


@given(st.lists(st.integers(0, 20), min_size=1, max_size=5))
def test_a_round_is_spread_evenly(counts: list[int]) -> None:
    given = {f"a{k}": count for k, count in enumerate(counts)}
    names = order(given, list(given))
    assert {name: names.count(name) for name in given} == given
    half = names[: len(names) // 2]
    assert all(abs(half.count(name) - count / 2) <= 1 + len(counts) / 2 for name, count in given.items())
