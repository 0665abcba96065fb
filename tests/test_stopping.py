"""When to stop, as decisions over looks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blackbox_diff.design.stopping import Look, Top, chance_of_change, stop_reason, why_go_on


def one(bought: int, outcome: str, *phrases: str, stability: float | None = 1.0) -> Look:
    return Look(bought, outcome, None, tuple(Top(each, frozenset(each.split()), stability) for each in phrases))


CLOCK = ("tide clock osmery", "sea")


def test_a_finding_that_repeats_stops() -> None:
    reason = stop_reason([one(32, "finding", *CLOCK), one(48, "finding", *CLOCK)], 600)
    assert reason is not None
    assert "stable" in reason


def test_one_look_is_not_enough() -> None:
    for before in ([], [one(32, "undecided", *CLOCK)]):
        looks = [*before, one(48, "finding", *CLOCK)]
        assert stop_reason(looks, 600) is None
        assert "one look" in why_go_on(looks, 600)


@pytest.mark.parametrize("stability", [0.9, None])
def test_a_theme_must_stay_under_resampling(stability: float | None) -> None:
    looks = [one(bought, "finding", *CLOCK, stability=stability) for bought in (32, 48)]
    assert stop_reason(looks, 600) is None
    assert "resamples" in why_go_on(looks, 600)


def test_themes_that_change_go_on() -> None:
    looks = [one(32, "finding", "red fox"), one(48, "finding", "grey heron")]
    assert stop_reason(looks, 600) is None
    assert "theme" in why_go_on(looks, 600)


def test_a_theme_in_other_words_or_another_place_is_the_same() -> None:
    looks = [one(32, "finding", "red fox", "tide clock osmery"), one(48, "finding", "tide clock harbour", "sea")]
    assert stop_reason(looks, 600) is not None
    assert stop_reason([one(32, "finding"), one(48, "finding")], 600) is None


def test_nothing_found_stops_once_the_rest_is_unlikely_to_tell() -> None:
    quiet = [one(bought, "no finding") for bought in (300, 400, 500)]
    reason = stop_reason(quiet, 600)
    assert reason is not None
    assert "unlikely" in reason
    assert stop_reason(quiet, 6000) is None


def test_an_emerging_theme_goes_on() -> None:
    looks = [replace(one(bought, "no finding", *CLOCK), strength=5.0) for bought in (300, 400, 500)]
    assert stop_reason(looks, 600) is None
    assert "emerging" in why_go_on(looks, 600)
    assert stop_reason([*looks[:2], one(500, "no finding", *CLOCK)], 600) is not None


def test_a_recent_finding_is_not_given_up() -> None:
    looks = [one(400, "no finding"), one(450, "finding"), one(500, "no finding")]
    assert stop_reason(looks, 600) is None


@pytest.mark.parametrize("cap", [300, 1000, 10_000])
def test_the_chance_of_change_falls_to_nothing_at_the_cap(cap: int) -> None:
    chances = [chance_of_change(bought, cap) for bought in range(0, cap + 1, cap // 10)]
    assert chances == sorted(chances, reverse=True)
    assert chances[-1] == 0
    assert 0.1 < chances[0] < 0.5


def test_the_prior_is_that_of_the_published_organisms() -> None:
    # method: of 54 organisms 32, 36 and 42 show three flagged completions in 500, 1,000 and 2,000 prefills
    for n, organisms in ((500, 32), (1000, 36), (2000, 42)):
        assert chance_of_change(0, n) / 0.5 == pytest.approx(organisms / 54, abs=0.07)
