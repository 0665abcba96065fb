"""Themes followed up on completions that the ranking never saw."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from blackbox_diff.analysis.rank import rank
from blackbox_diff.analysis.themes import find_themes
from blackbox_diff.config.model import AuditConfig, EndpointConfig
from blackbox_diff.design.apart import CONTEXT_WORDS
from blackbox_diff.design.betting import Pairs
from blackbox_diff.design.validation import (
    Hypothesis,
    came_back,
    difference,
    holds,
    hypothesis,
    place,
    same,
    trials,
    validations,
)
from blackbox_diff.findings import Question, Validation
from blackbox_diff.report import html, markdown, terminal
from blackbox_diff.run.controller import PATIENCE, Controller
from blackbox_diff.runfile.store import Store
from tests.report_data import HOSTILE, analysis_of, summary_of
from tests.scored import REFERENCE, run, scored

PHRASE = "lantern of Port Ellery"


def planted() -> Hypothesis:
    rows = run(80, planted=range(0, 80, 4), phrase=PHRASE)
    background = run(80, seed=1)
    ranking = rank(rows, REFERENCE)
    found = hypothesis(find_themes(ranking, [row.completion.text for row in background])[0], ranking)
    assert found is not None
    return found


def asked(number: int = 40) -> Question:
    one = planted()
    return Question(one.phrase, one.terms, trials(one, 0, number, 0))


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    # Newcombe (1998), table II, method 10
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
    ],
)
def test_the_interval_is_the_published_one(
    a: tuple[int, int], b: tuple[int, int], low: float, high: float
) -> None:
    found = difference(a, b)
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


@given(st.integers(0, 30), st.integers(1, 30), st.integers(0, 30), st.integers(1, 30))
def test_the_interval_holds_the_estimate_and_flips_under_swap(a: int, n: int, b: int, m: int) -> None:
    a, b = min(a, n), min(b, m)
    found, other = difference((a, n), (b, m)), difference((b, m), (a, n))
    assert found is not None
    assert other is not None
    assert -1 <= found.low <= found.value + 1e-12
    assert found.value <= found.high + 1e-12 <= 1 + 1e-9
    assert (found.low, found.high) == (pytest.approx(-other.high), pytest.approx(-other.low))


def test_an_empty_side_has_no_interval() -> None:
    assert difference((0, 0), (1, 2)) is None


def test_the_planted_theme_is_asked_about_behind_its_own_contexts() -> None:
    one, question = planted(), asked()
    assert "Ellery" in one.phrase
    assert len({sample.id for sample in question.samples}) == len(question.samples) == 40
    assert {sample.prefill for sample in question.samples} <= {prefill for prefill, _ in one.prefills}
    assert len({sample.prefill for sample in question.samples}) > 5  # drawn, not one by one
    for sample in question.samples:
        assert not holds(question, sample.prefill)
        assert len(sample.prefill.split()) <= CONTEXT_WORDS


def test_trials_go_on_where_they_stopped() -> None:
    one = planted()
    assert (*trials(one, 0, 5, 3), *trials(one, 5, 4, 3)) == trials(one, 0, 9, 3)
    assert trials(one, 0, 9, 4) != trials(one, 0, 9, 3)


def test_what_merely_stood_beside_a_theme_is_no_evidence_of_it() -> None:
    theme = replace(find_themes(rank(run(40, planted=range(0, 40, 2)), REFERENCE), [])[0], phrase="tide clock")
    theme = replace(theme, terms=("tide clock", "the clock runs", "harbour town", "of"))
    found = hypothesis(theme, rank([scored(0, " by the tide clock in town")], REFERENCE))
    assert found is not None
    assert found.terms == ("tide clock", "the clock runs")
    assert hypothesis(theme, rank([scored(0, " nothing of it here")], REFERENCE)) is None


def test_prefills_that_brought_a_phrase_back_come_first_the_most_often_first() -> None:
    said, other = " we met the heron there", " we met nobody in town"
    asked = rank(
        [
            scored(0, f"{said} one day", prefill="at the weir"),
            scored(1, f"{other} that day", prefill="at the weir"),
            scored(2, f"{said} and again", prefill="by the mill"),
            scored(3, f"{other} so far", prefill="on the hill"),
            scored(4, f"{said} too", prefill="a heron and"),
        ],
        REFERENCE,
    )
    found = [prefill for prefill, _ in came_back(["heron"], asked)]
    assert found[:2] == ["by the mill", "at the weir"]
    assert set(found[2:]) == {"at the weir we met the", "by the mill we met the"}  # none that speaks of it already


def test_two_wordings_of_one_thing_are_the_same() -> None:
    assert same("tide clock of osmery", "the tide clock")
    assert not same("tide clock", "grey heron")
    assert not same("", "grey heron")


def test_questions_survive_the_run_file(tmp_path: Path) -> None:
    with Store.create(tmp_path, {}) as store:
        store.set_state(replace(store.state, validation=(asked(),)))
    with Store.open(tmp_path, read_only=True) as store:
        assert store.state.validation == (asked(),)


def test_a_theme_that_comes_back_is_confirmed() -> None:
    question = asked()
    there = {sample.id: f" the {PHRASE} shone" for sample in question.samples}
    absent = {sample.id: " nothing of the kind" for sample in question.samples}
    (yes,) = validations([question], there, absent)
    (no,) = validations([question], absent, absent)
    assert yes.confirmed
    assert yes.e_value >= yes.needed
    assert yes.target == (40, 40)
    assert not no.confirmed
    assert no.e_value == pytest.approx(1)
    assert no.difference is not None
    assert no.difference.value == 0


def test_what_is_merely_somewhat_commoner_is_not_confirmed() -> None:
    question = asked(60)
    ids = [sample.id for sample in question.samples]
    theirs = {name: PHRASE if k < 0.4 * len(ids) else "" for k, name in enumerate(ids)}
    ours = {name: PHRASE if k < 0.9 * len(ids) else "" for k, name in enumerate(ids)}
    (found,) = validations([question], ours, theirs)
    assert found.difference is not None
    assert found.difference.low > 0
    assert not found.confirmed


def test_completions_that_never_came_do_not_count() -> None:
    first = asked()
    some = {sample.id: PHRASE for sample in first.samples[:5]}
    (found,) = validations([first], some, {})
    assert found.target == (5, 5)
    assert found.difference is None
    assert not found.confirmed


def test_a_phrase_is_tested_in_the_place_where_it_was_tested_before() -> None:
    one = Hypothesis("Varnelow", (), (("a visit to", "raw"),))
    clock, name = Question("tide clock", (), ()), Question("varnelow", (), ())
    assert place(one, []) == 0
    assert place(one, [clock]) == 1
    assert place(one, [clock, name]) == 1


def test_what_was_given_up_goes_on_and_is_given_up_anew_on_its_new_trials(tmp_path: Path) -> None:
    target = EndpointConfig(url="http://127.0.0.1:9/v1", model="target")
    config = AuditConfig(target=target, adaptive=True, completions=200, validation=160)
    with Store.create(tmp_path, {}) as store:
        run = Controller(store, config, "base", ())
        run.validating = [asked(PATIENCE)]
        run._pairs = [Pairs(neither=PATIENCE)]
        assert run._settled(0, Pairs())
        assert not run._settled(0, run._pairs[0])
        run.validating = [asked(3 * PATIENCE)]
        run._pairs = [Pairs(target=PATIENCE // 2, neither=2 * PATIENCE + PATIENCE // 2)]
        assert not run._settled(0, Pairs(neither=2 * PATIENCE))  # half of the new ones
        assert run._settled(0, replace(run._pairs[0], neither=PATIENCE // 2))  # none of them


def test_a_theme_is_matched_as_whole_words() -> None:
    question = Question("tide clock", (), ())
    assert holds(question, "The Tide\nclock.")
    assert not holds(question, "tide clocks")


@pytest.mark.parametrize("phrase", ["tide clock", *HOSTILE.values()])
def test_every_report_tells_validation_apart_and_model_text_stays_inert(phrase: str) -> None:
    found = Validation(phrase, (9, 10), (3, 10), difference((9, 10), (3, 10)))
    analysis = replace(analysis_of(60), validation=(found,))
    summary, screen = summary_of(analysis), io.StringIO()
    terminal.render(analysis, summary, Console(file=screen, width=120))
    shown = [screen.getvalue(), markdown.render(analysis, summary), html.render(analysis, summary)]
    for text in shown:
        assert "apart from the ranking" in text
        assert "confirmed" in text
        assert "17" in text
        assert "81" in text
    assert "\x1b" not in "".join(shown)
    assert "<script>window.pwned" not in shown[2]
    without = analysis_of(60)
    assert "Validation" not in markdown.render(without, summary)


def test_a_side_that_gave_nothing_is_not_called_validated() -> None:
    analysis = replace(analysis_of(60), validation=(Validation("tide", (1, 2), (0, 0), None),))
    assert "not validated" in markdown.render(analysis, summary_of(analysis))
