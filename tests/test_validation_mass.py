"""Validation by probability: forty fresh completions are enough for a word ten times as likely, and no noise."""

from __future__ import annotations

import numpy as np
import pytest

from blackbox_diff.analysis.listed_words import Mass, Peaks
from blackbox_diff.design.mass import LEVEL, flip_p, validate_masses

PREFILLS = 40
NONE = np.zeros(0, dtype=np.int64)
PEAKS = Peaks(NONE, NONE, NONE, np.zeros(0), np.zeros(0))


def fresh(target: np.ndarray, reference: np.ndarray, prefills: tuple[str, ...] | None = None) -> Mass:
    """One word's masses after 40 prefills."""
    n = len(target)
    names = prefills or tuple(f"prefill {k}" for k in range(n))
    rows = np.arange(n)
    return Mass(
        rows, np.zeros(n, dtype=np.int64), target, reference, PEAKS, ("owl",), 1, n,
        names, tuple(map(str, rows)), ("",) * n,
    )  # fmt: skip


def draw(rng: np.random.Generator, mean: float) -> np.ndarray:
    """Masses as they are: nothing at most prefills, and a few that hold most of it."""
    return np.where(rng.random(PREFILLS) < 0.5, 0.0, rng.lognormal(np.log(mean), 1.2, PREFILLS))


def confirmed(times: float, runs: int = 300) -> float:
    rng = np.random.default_rng(int(10 * times))
    found = 0
    for seed in range(runs):
        (one,) = validate_masses(["owl"], fresh(draw(rng, 0.002 * times), draw(rng, 0.002)), seed=seed)
        found += one.confirmed
    return found / runs


def test_forty_completions_are_enough_for_ten_times_the_mass() -> None:
    assert confirmed(10.0) >= 0.95


def test_equal_masses_are_confirmed_no_more_often_than_the_level() -> None:
    assert confirmed(1.0) <= LEVEL


def test_one_prefill_is_one_witness_however_often_it_is_drawn() -> None:
    many = fresh(np.full(PREFILLS, 0.2), np.zeros(PREFILLS), ("the same",) * PREFILLS)
    (one,) = validate_masses(["owl"], many, seed=0)
    assert (one.prefills, one.confirmed) == (1, False)
    assert one.target <= 0.25


def test_a_word_is_confirmed_only_behind_every_stronger_one() -> None:
    mass = fresh(np.full(PREFILLS, 0.1), np.full(PREFILLS, 0.001))
    assert [one.confirmed for one in validate_masses(["owl", "barn"], mass, seed=0)] == [True, False]
    assert [one.confirmed for one in validate_masses(["barn", "owl"], mass, seed=0)] == [False, False]


def test_without_lists_nothing_is_said() -> None:
    none = Mass(NONE, NONE, np.zeros(0), np.zeros(0), PEAKS, (), 0, 0, (), (), ())
    assert validate_masses(["owl"], none, seed=0) == ()


def test_p_values_of_symmetric_differences_are_valid() -> None:
    rng = np.random.default_rng(5)
    found = np.asarray([flip_p(rng.standard_t(3, 30), seed=k) for k in range(200)])
    assert (found <= 0.05).mean() == pytest.approx(0.05, abs=0.045)
