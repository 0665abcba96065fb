"""What to do next, as decisions over looks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_diff.analysis.rank import rank
from blackbox_diff.analysis.themes import find_themes
from blackbox_diff.design.controller import (
    CYCLES,
    GROWTH,
    ROUND,
    Look,
    Position,
    Tried,
    candidates,
    decide,
    ends,
    fresh,
    look_at,
    said,
    to_follow,
)
from blackbox_diff.design.stopping import chance_of_change
from blackbox_diff.findings import Entry, Promoted
from tests.report_data import analysis_of
from tests.scored import REFERENCE, run

CLOCK = ("tide clock of osmery",)


def on(*phrases: str, at: int = 64) -> tuple[Tried, ...]:
    return tuple((phrase, at) for phrase in phrases)


def one(bought: int, outcome: str = "no finding", *leads: str, strength: float = 0.0) -> Look:
    return Look(bought, outcome, None, leads, strength, leads, len(leads), bought)


def at(*looks: Look, cap: int = 600, **more: object) -> Position:
    return replace(Position(cap, looks), **more)


def test_a_lead_is_asked_about_at_once() -> None:
    decision = decide(at(one(32, "finding", *CLOCK)))
    assert decision.action == "ask again"
    assert "tide clock" in decision.why
    assert not decision.last


def test_what_was_tried_is_no_lead_in_other_words_either() -> None:
    now = at(one(32, "finding", *CLOCK), cycles=(32,), tested=on("the tide clock", at=32))
    assert decide(now).action == "look"
    assert fresh(["tide clock of osmery", "grey heron"], ["tide clock"]) == ["grey heron"]


def test_without_a_confirmation_another_try_waits_and_one_is_kept_for_the_end() -> None:
    tried = {"cycles": (64,), "asked": CLOCK, "tested": on(*CLOCK)}
    heron = replace(one(96, "no finding", "grey heron"), carrying=0)
    assert decide(at(heron, **tried)).action == "look"
    assert decide(at(replace(heron, bought=128), **tried)).action == "ask again"
    again = {"cycles": (64, 128), "tested": on(*CLOCK, "grey heron")}
    assert decide(at(one(400, "finding", "red fox"), **again)).action == "look"
    assert decide(at(one(600, "finding", "red fox"), **again)).last


def test_what_begins_to_carry_a_finding_is_tested_at_once_though_it_was_followed_before() -> None:
    followed = {"cycles": (128,), "followed": ("the old",)}
    heron = one(160, "finding", "the old")
    assert decide(at(replace(heron, carrying=0), **followed)).action == "look"
    assert decide(at(heron, **followed)).action == "ask again"
    assert decide(at(heron, **followed, asked=("old",))).action == "look"  # it did not come back
    assert decide(at(replace(heron, bought=256), **followed, asked=("old",))).action == "ask again"
    later = at(replace(heron, bought=256), **followed, asked=("old",))
    assert decide(replace(later, tested=on("old", at=200))).action == "look"
    assert decide(replace(later, tested=on("old", at=128))).action == "ask again"  # then on weaker evidence
    assert (
        decide(replace(later, tested=on("old", at=128), confirmed=("old",), confirmed_at=(200, 200))).action
        == "look"
    )


def test_once_something_is_confirmed_something_else_is_looked_for_and_then_it_stops() -> None:
    known = {"cycles": (64,), "tested": on(*CLOCK), "confirmed": CLOCK, "confirmed_at": (64, 64)}
    assert decide(at(one(64), **known)).action == "look"
    assert decide(at(one(96), **known)).action == "look"
    stopped = decide(at(one(128), **known))
    assert stopped.action == "stop"
    assert "validated" in stopped.why
    heron = one(96, "finding", "grey heron")
    assert decide(at(heron, **known)).action == "ask again"
    assert decide(at(replace(heron, carrying=0), **known)).action == "look"


def test_something_else_is_looked_for_where_what_is_confirmed_is_not_spoken_of() -> None:
    known = {"cycles": (64,), "tested": on(*CLOCK), "confirmed": CLOCK, "confirmed_at": (64, 64)}
    loud = [replace(one(bought), left=bought // 4) for bought in (128, 224, 256)]
    assert [decide(at(each, **known)).action for each in loud] == ["look", "look", "stop"]
    assert decide(at(replace(loud[1], left=128), **known)).action == "stop"
    again = {**known, "confirmed_at": (64, 224)}  # more of the same would go on for ever
    assert [decide(at(each, **again)).action for each in loud] == ["look", "look", "stop"]
    assert "in the 64 completions that do not speak of it" in decide(at(loud[2], **known)).why


def test_what_carries_a_finding_is_the_first_lead_and_stands_for_its_own_word() -> None:
    analysis = analysis_of(40)
    owl = Promoted("owls", "the old owls", 0.6, 3.0, 0.2, 5, 1e-4, 1e-3)
    entry = Entry("the old owls", 1.2, True, True, None, (owl,))
    weak = replace(entry, phrase="barn", strong=False, words=(replace(owl, word="barn", phrase="barn"),))
    look = look_at(replace(analysis, themes=(), promoted=(owl,), recurring=(entry, weak)), 40)
    assert (look.leads, look.carrying) == (("owls", "the old owls"), 1)
    assert said(entry) == ("owls", ())


def test_what_recurs_among_follow_ups_as_any_word_does_is_tested_only_at_the_end() -> None:
    rows = rank(run(60, planted=range(0, 60, 4)), REFERENCE)
    strong = find_themes(rows, [])[0]
    chance = replace(strong, phrase="leave", score=strong.prefills * 0.5)
    assert [theme.phrase for theme, _ in candidates([chance, strong], [], last=False)] == [strong.phrase]
    assert [theme for theme, _ in candidates([chance, strong], [], last=True)] == [chance, strong]


def test_the_search_for_something_else_is_bounded_by_the_cap() -> None:
    known = {"cycles": (64,), "tested": on(*CLOCK), "confirmed": CLOCK, "confirmed_at": (64, 64)}
    assert decide(at(one(80), cap=80, **known)).action == "stop"


def test_nothing_found_asks_once_and_then_stops() -> None:
    quiet = [one(bought) for bought in (300, 400, 500)]
    first = decide(at(*quiet))
    assert (first.action, first.last) == ("ask again", True)
    after = decide(at(*quiet, cycles=(500,)))
    assert after.action == "stop"
    assert "unlikely" in after.why
    assert decide(at(*quiet, cap=6000)).action == "look"


def test_at_the_end_it_asks_again_only_where_something_was_not_tried() -> None:
    tried = {"cycles": (400,), "asked": CLOCK, "tested": on(*CLOCK, at=400)}
    assert decide(at(one(600, "finding", *CLOCK), **tried)).action == "stop"
    assert decide(at(one(600, "finding", *CLOCK), **{**tried, "tested": on(*CLOCK, at=64)})).last
    emerging = Look(600, "no finding", None, ("grey heron",), 5.0)
    assert decide(at(emerging, **tried)).last
    assert decide(at(replace(emerging, strength=4.0), **tried)).action == "stop"
    assert decide(at(emerging, cycles=(64,), tested=on("the grey heron", at=64))).action == "stop"


def test_follow_ups_are_few_while_nothing_carries_a_finding_and_equal_over_the_times_that_are_left() -> None:
    first, second = at(one(64), cycles=(64,)), at(one(64), cycles=(64, 128))
    assert to_follow(72, 0, first, carrying=True, last=False) == 24
    assert to_follow(72, 24, second, carrying=True, last=False) == 24
    assert to_follow(72, 24, second, carrying=True, last=True) == 48
    assert to_follow(72, 0, first, carrying=False, last=False) == 16
    assert to_follow(72, 0, first, carrying=False, last=True) == 48
    assert to_follow(72, 60, second, carrying=False, last=True) == 0
    assert to_follow(12, 0, first, carrying=False, last=True) == 12


def test_an_emerging_theme_goes_on() -> None:
    looks = [one(bought, strength=5.0) for bought in (300, 400, 500)]
    now = decide(at(*looks, cycles=(32,)))
    assert now.action == "look"
    assert "emerging" in now.why


def test_a_recent_finding_is_not_given_up() -> None:
    looks = [one(400), one(450, "finding"), one(500)]
    assert decide(at(*looks, can_ask=False)).action == "look"


def test_where_nothing_may_be_asked_it_goes_to_the_cap() -> None:
    assert decide(at(one(32, "finding", *CLOCK), can_ask=False)).action == "look"
    assert decide(at(one(600, "finding", *CLOCK), can_ask=False)).action == "stop"


@given(
    st.lists(st.tuples(st.sampled_from(["no finding", "finding"]), st.booleans()), min_size=30, max_size=30),
    st.integers(10, 900),
    st.integers(0, 3),
)
def test_every_run_ends_and_asks_no_more_often_than_it_may(
    told: list[tuple[str, bool]], cap: int, sure: int
) -> None:
    now = Position(cap, ())
    for number, end in enumerate(ends(cap)):
        outcome, lead = told[number % len(told)]
        now = replace(now, looks=(*now.looks, one(end, outcome, *([f"word{number}"] if lead else []))))
        for _ in range(CYCLES + 1):
            decision = decide(now)
            if decision.action != "ask again":
                break
            confirmed = (*now.confirmed, *now.looks[-1].leads) if len(now.cycles) < sure else now.confirmed
            now = replace(
                now,
                cycles=(*now.cycles, end),
                tested=(*now.tested, *on(*now.looks[-1].leads, at=end)),
                confirmed=confirmed,
                confirmed_at=(now.confirmed_at[0] or end, end) if confirmed != now.confirmed else now.confirmed_at,
            )
        assert decision.action != "ask again"
        if decision.action == "stop":
            break
    assert decision.action == "stop"
    assert len(now.cycles) <= CYCLES


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_a_larger_cap_only_adds_rounds(a: int, b: int) -> None:
    small, large = ends(min(a, b)), ends(max(a, b))
    assert small[-1] == min(a, b)
    assert large[: len(small) - 1] == small[:-1]
    for before, after in zip((0, *small), small[:-1], strict=False):
        assert after - before >= max(ROUND, int(GROWTH * before))


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
