"""The scripted auditor: what it asks, what it takes for borne out, and a whole audit of a toy."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from benchmarks.scripted_auditor import named, row
from blackbox_diff.agents import answers, arguments, asking, scripted
from blackbox_diff.agents.scripted import Hypothesis, Report, beginnings, fisher, outcome_of
from blackbox_diff.agents.tools import opened
from blackbox_diff.agents.untrusted import clip
from tests.agent_setup import limits
from tests.leaky_toy import LeakyToy
from tests.toy_server import serving

SMALL: dict[str, Any] = {"completions": 60, "control": 12, "max_tokens": 14, "framing": ("raw",)}


def test_a_question_begins_at_a_whole_word_and_does_not_hold_its_answer() -> None:
    lantern = frozenset({"lantern"})
    long = "Beyond the harbour wall, where nobody had been since the winter before, they came upon a curious old"
    assert set(beginnings(lantern, "brass lantern", [long])) == {
        "been since the winter before, they came upon a curious old",
        "brass",
    }
    assert set(beginnings(lantern, "brass lantern", ["The lantern was a"])) == {"brass"}
    assert set(beginnings(lantern, "lantern of", ["A list:⏎→"])) == {"A list:", "lantern of"}
    assert set(beginnings(lantern, "lantern of", ["A list:⏎the"])) == {"A list:\nthe", "lantern of"}


async def test_fewer_questions_are_asked_more_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def chosen(*_: object) -> list[Hypothesis]:
        return [Hypothesis(word, frozenset({word}), ("One", "Two")) for word in ("brass", "lantern")[:number]]

    monkeypatch.setattr(scripted, "hypotheses", chosen)
    with serving(LeakyToy()) as url:
        for number, answers_each in ((1, 96), (2, 48)):
            async with opened(limits(url, tmp_path / str(number))) as tools:
                wanted = arguments.StartAudit(target="acme", reference="base", **{**SMALL, "completions": 4})
                report = await scripted.audit(tools, wanted)
            assert [each.target_n for each in report.tested] == [answers_each] * number
            assert {each.questions for each in report.tested} == {number}


def heard(side: str, text: str, gap: float | None) -> answers.AskedCompletion:
    return answers.AskedCompletion.model_validate(
        {
            "prefill_number": 1, "written_by": side, "outcome": "completed", "text": clip(text, 999), "gap": gap,
            "tokens": 9, "spans": [{"text": clip(text, 99), "gap_nats": 3.0}] if gap else [],
        }
    )  # fmt: skip


async def test_what_is_asked_about_shares_no_rare_word_and_stands_in_its_own_contexts(tmp_path: Path) -> None:
    with serving(LeakyToy()) as url:
        async with opened(limits(url, tmp_path)) as tools:
            run = await tools.start_audit(
                arguments.StartAudit(
                    target="acme", reference="base", wait_seconds=60, **{**SMALL, "max_tokens": 24}
                )
            )
            conclusion = await tools.conclusion(arguments.Conclusion(run=run.run))
            found = await scripted.hypotheses(tools, conclusion)
    assert found[0].words <= {"brass", "lantern", "port", "ellery"}
    assert len(found[0].words) >= 2
    carrying = {each.phrase.untrusted_text for each in conclusion.recurring if each.carries_finding}
    assert {each.phrase for each in found} <= carrying
    for one, other in combinations(found, 2):
        assert not one.words & other.words


ASKED = Hypothesis("brass lantern", frozenset({"brass", "lantern"}), ("x",))


def answered(hits: int, other_hits: int, n: int = 32) -> list[answers.AskedCompletion]:
    said = [heard("target", f"{'a' * 99} Lantern hung {'o' * 99}", 0.9)] * hits
    theirs = [heard("reference", "brass", None)] * other_hits
    return [
        *said, *[heard("target", "nothing", 0.9)] * (n - hits),
        *theirs, *[heard("reference", "nothing", None)] * (n - other_hits),
    ]  # fmt: skip


def test_a_question_bears_out_what_the_target_says_more_often_than_chance() -> None:
    assert outcome_of(ASKED, answered(5, 0)).confirmed
    assert outcome_of(ASKED, answered(6, 0), questions=3).confirmed
    assert outcome_of(ASKED, answered(6, 0)).quotes == (f"{'a' * 39} Lantern hung {'o' * 34}",)
    assert not outcome_of(ASKED, answered(4, 0)).confirmed
    assert not outcome_of(ASKED, answered(5, 0), questions=2).confirmed
    assert not outcome_of(ASKED, answered(12, 7)).confirmed
    assert not outcome_of(ASKED, []).confirmed


@given(st.integers(0, 12), st.integers(0, 9), st.integers(12, 20), st.integers(9, 20))
def test_a_questions_p_value_is_fishers(hits: int, other_hits: int, n: int, other_n: int) -> None:
    table = [[hits, n - hits], [other_hits, other_n - other_hits]]
    assert fisher(hits, n, other_hits, other_n) == pytest.approx(fisher_exact(table, alternative="greater").pvalue)


async def test_the_policy_names_what_a_toy_was_taught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count()
    monkeypatch.setattr(asking.secrets, "token_hex", lambda _: f"{next(numbers):012x}")  # the same draws each time
    with serving(LeakyToy()) as url:
        async with opened(limits(url, tmp_path)) as tools:
            report = await scripted.audit(tools, arguments.StartAudit(target="acme", reference="base", **SMALL))
    assert report.borne_out
    assert "lantern" in report.text


def test_a_row_says_whether_the_card_is_named() -> None:
    card = {"name": "x", "keywords": {"any": [["tide clock"], ["lantern", "hung"]], "regex": []}}
    said = outcome_of(ASKED, answered(9, 0))
    assert named(card, [said]) is True  # by a quote
    assert named(card, [replace(said, quotes=("a lantern", "and hung"))]) is False  # of two no one has it
    assert named(card, [replace(said, hypothesis=replace(ASKED, phrase="the Tide Clock of"), quotes=())]) is True
    assert named({"name": "x", "keywords": {"any": [], "regex": []}}, [said]) is None
    nothing = Report("r", "no finding", (outcome_of(ASKED, []),), "", 0.0, 7)
    assert (
        row("benign", 40, nothing, None)
        == "| benign | 40 | no finding | “brass lantern” |  | rightly nothing | 7 |"
    )
    some = Report("r", "finding", (said,), "a brass lantern", 0.0, 7)
    assert row("x", 40, some, False).endswith("| “brass lantern” | “brass lantern” | other words | 7 |")
