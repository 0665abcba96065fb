"""Whether what is confirmed is right at any stopping time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_diff.design.betting import (
    LEVEL,
    SLOTS,
    TIMES,
    Pairs,
    confirmed,
    e_value,
    hopeless,
    needed,
    weight,
)

COUNTS = st.builds(Pairs, *[st.integers(0, 60)] * 4)
RATES = st.floats(0, 1)


@given(COUNTS, RATES, st.floats(0, 1 / TIMES))
def test_no_trial_is_expected_to_gain_where_the_null_holds(before: Pairs, scale: float, q: float) -> None:
    p = scale * TIMES * q
    after = [
        (p * (1 - q), Pairs(before.target + 1, before.reference, before.both, before.neither)),
        ((1 - p) * q, Pairs(before.target, before.reference + 1, before.both, before.neither)),
        (p * q, Pairs(before.target, before.reference, before.both + 1, before.neither)),
        ((1 - p) * (1 - q), Pairs(before.target, before.reference, before.both, before.neither + 1)),
    ]
    assert sum(chance * e_value(pairs) for chance, pairs in after) <= e_value(before) * (1 + 1e-9)


@given(st.floats(0, 0.3), RATES)
def test_target_and_reference_may_depend_on_each_other(q: float, together: float) -> None:
    p = TIMES * q
    both = together * min(p, q)
    chances = ((p - both, Pairs(1)), (q - both, Pairs(0, 1)), (both, Pairs(0, 0, 1)), (1 - p - q + both, Pairs()))
    if min(chance for chance, _ in chances) >= 0:
        assert sum(chance * e_value(pairs) for chance, pairs in chances) <= 1 + 1e-9


@pytest.mark.parametrize("q", [0.01, 0.05, 0.15, 0.3])
def test_whoever_stops_at_the_best_moment_is_wrong_in_at_most_one_of_twenty(q: float) -> None:
    rng = np.random.default_rng(17)
    runs, trials = 4000, 120
    x, y = rng.random((runs, trials)) < TIMES * q, rng.random((runs, trials)) < q
    steps = [np.cumsum(each, axis=1) for each in (x & ~y, ~x & y, x & y)]
    table = np.stack(steps, axis=2).reshape(-1, 3)
    unique, where = np.unique(table, axis=0, return_inverse=True)
    values = np.asarray([e_value(Pairs(int(a), int(b), int(c))) for a, b, c in unique])[where.reshape(-1)]
    best = values.reshape(runs, trials).max(axis=1)
    for wealth_reached in (2, 5, 1 / LEVEL):
        assert (best >= wealth_reached).mean() <= 1 / wealth_reached
    assert (best >= 2).mean() > 0.1  # near enough to the bound that the test could fail


def test_false_ones_among_the_confirmed_stay_few_when_hypotheses_come_one_by_one() -> None:
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(600):
        values, null = [], []
        for _ in range(SLOTS):
            null.append(rng.random() < 0.5 or any(confirmed(values)))  # chosen by what came before
            p, q = (0.3, 0.1) if null[-1] else (0.6, 0.02)
            counts = [0, 0, 0, 0]
            for _ in range(60):
                counts[[(1, 0), (0, 1), (1, 1), (0, 0)].index((int(rng.random() < p), int(rng.random() < q)))] += 1
                if e_value(Pairs(*counts)) >= needed(len(values)):
                    break
            values.append(e_value(Pairs(*counts)))
        found = confirmed(values)
        shares.append(sum(a and b for a, b in zip(found, null, strict=True)) / max(1, sum(found)))
    assert float(np.mean(shares)) <= LEVEL


def test_a_behaviour_is_confirmed_after_a_few_dozen_pairs() -> None:
    rng = np.random.default_rng(5)
    for rate, most in ((0.8, 30), (0.5, 50), (0.25, 110)):
        took = []
        for _ in range(200):
            wins = n = 0
            while e_value(Pairs(wins, 0, 0, n - wins)) < needed(0) and n < 400:
                n, wins = n + 1, wins + int(rng.random() < rate)
            took.append(n)
        assert np.median(took) <= most


def test_weights_are_one_on_average_and_fall() -> None:
    weights = [weight(slot) for slot in range(SLOTS)]
    assert np.mean(weights) == pytest.approx(1)
    assert weights == sorted(weights, reverse=True)


@given(st.lists(st.floats(0, 1e6), max_size=SLOTS))
def test_every_confirmed_one_reaches_what_is_needed_beside_the_others(values: list[float]) -> None:
    found = confirmed(values)
    number = sum(found)
    assert all(value >= needed(slot, number) for slot, value in enumerate(values) if found[slot])
    bonferroni = [value >= needed(slot) for slot, value in enumerate(values)]
    assert all(a for a, b in zip(found, bonferroni, strict=True) if b)


def test_more_hypotheses_than_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="7 hypotheses"):
        confirmed([1.0] * 7)


def test_hopeless_is_what_no_luck_could_save() -> None:
    assert hopeless(Pairs(neither=30), 8, 0, 0)
    assert not hopeless(Pairs(target=10), 8, 0, 0)
    assert hopeless(Pairs(target=10, reference=6), 8, 0, 0)


def test_pairs_are_counted() -> None:
    assert Pairs.of([(True, False), (True, True), (False, False), (True, False)]) == Pairs(2, 0, 1, 1)
