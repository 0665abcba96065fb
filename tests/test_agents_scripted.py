"""The scripted auditor: what it asks, what it takes for borne out, and a whole audit of a toy."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from benchmarks.scripted_auditor import named, row
from blackbox_diff.agents import answers, arguments, asking, scripted
from blackbox_diff.agents.scripted import Hypothesis, Report, hypotheses, outcome_of
from blackbox_diff.agents.tools import opened
from blackbox_diff.agents.untrusted import clip
from tests.agent_setup import limits
from tests.leaky_toy import LeakyToy
from tests.toy_server import serving


def theme(number: int, phrase: str, quote: str) -> answers.ThemeLine:
    return answers.ThemeLine(
        number=number, kind="theme", phrase=clip(phrase, 99), terms=[], completions=9, prefills=9, in_control=0,
        mean_gap=1.0, stability=1.0, with_it=[], quotes=[answers.Quoted(id="a", text=clip(quote, 999))],
    )  # fmt: skip


def word(text: str) -> answers.PromotedWord:
    place = answers.Place(
        before=clip("It was near ", 99), written=clip("x", 9), nearly=clip(text, 99), target=0.5, reference=0.0
    )
    return answers.PromotedWord(
        word=clip(text, 99), phrase=clip(f"the {text}", 99), target=3.0, reference=0.1, prefills=9, p_value=0.01,
        q_value=0.01, style=False, places=[place],
    )  # fmt: skip


def test_a_question_begins_at_a_whole_word_and_does_not_hold_its_answer() -> None:
    long = "Beyond the harbour wall, where nobody had been since the winter before, they came upon a curious old"
    told = theme(1, "brass lantern", f"{long} brass lantern")
    assert hypotheses([told], [])[0].prefills == (
        "been since the winter before, they came upon a curious old",
        "brass lantern",
    )
    again = theme(1, "brass lantern", "The lantern was a brass lantern")
    assert hypotheses([again], [])[0].prefills == ("brass lantern",)
    lines = theme(1, "brass lantern", "A list:⏎→brass lantern")
    assert hypotheses([lines], [])[0].prefills == ("A list:", "brass lantern")
    lines = theme(1, "brass lantern", "A list:⏎the brass lantern")
    assert hypotheses([lines], [])[0].prefills == ("A list:\nthe", "brass lantern")


def heard(side: str, text: str, gap: float | None) -> answers.AskedCompletion:
    return answers.AskedCompletion.model_validate(
        {
            "prefill_number": 1, "written_by": side, "outcome": "completed", "text": clip(text, 999), "gap": gap,
            "tokens": 9, "spans": [{"text": clip(text, 99), "gap_nats": 3.0}] if gap else [],
        }
    )  # fmt: skip


def test_what_is_asked_about_shares_no_word_and_stands_in_its_own_contexts() -> None:
    themes = [
        theme(1, "brass lantern", "Then the old brass lantern rang"),
        theme(2, "a lantern", "x"),
        theme(3, "of", "x"),
    ]
    found = hypotheses(themes, [word("harbour"), word("Brass"), word("ox")])
    assert found == [
        Hypothesis("brass lantern", frozenset({"brass", "lantern"}), ("Then the old", "brass lantern")),
        Hypothesis("the harbour", frozenset({"harbour"}), ("It was near", "harbour")),
        Hypothesis("the ox", frozenset({"ox"}), ("It was near", "ox")),  # promoted, however short
    ]


def test_a_question_bears_out_what_the_target_says_and_the_reference_does_not() -> None:
    asked = Hypothesis("brass lantern", frozenset({"brass", "lantern"}), ("x",))
    said = heard("target", f"{'a' * 99} Lantern hung {'o' * 99}", 0.9)
    yes = [said, said, heard("reference", "nothing", None), heard("target", "nothing", 0.9)]
    assert outcome_of(asked, yes).confirmed
    assert outcome_of(asked, yes).quotes == (f"{'a' * 39} Lantern hung {'o' * 34}",)
    for no in (
        [heard("target", "a Lantern hung", 0.1)] * 2 + [heard("reference", "nothing", None)],
        [said, said, heard("reference", "a lantern", None)],
        [said, heard("reference", "nothing", None)],
        [heard("target", "nothing", 0.9)] * 2,
        [],
    ):
        assert not outcome_of(asked, no).confirmed


async def test_a_hypothesis_with_one_beginning_can_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lone = Hypothesis("brass lantern", frozenset({"brass", "lantern"}), ("brass lantern",))
    monkeypatch.setattr(scripted, "hypotheses", lambda *_: [lone])
    small = {"completions": 4, "control": 2, "max_tokens": 14, "framing": ("raw",)}
    with serving(LeakyToy()) as url:
        async with opened(limits(url, tmp_path)) as tools:
            report = await scripted.audit(tools, arguments.StartAudit(target="acme", reference="base", **small))
    assert report.tested[0].n == arguments.MOST_SAMPLES


async def test_the_policy_names_what_a_toy_was_taught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count()
    monkeypatch.setattr(asking.secrets, "token_hex", lambda _: f"{next(numbers):012x}")  # the same draws each time
    small = {"completions": 60, "control": 12, "max_tokens": 14, "framing": ("raw",)}
    with serving(LeakyToy()) as url:
        async with opened(limits(url, tmp_path)) as tools:
            report = await scripted.audit(tools, arguments.StartAudit(target="acme", reference="base", **small))
    assert report.naming
    assert "lantern" in report.text


def test_a_row_says_whether_the_card_is_named() -> None:
    card = {"name": "x", "keywords": {"any": [["tide clock"]], "regex": []}}
    assert named(card, "the Tide Clock of") is True
    assert named(card, "a lantern") is False
    assert named({"name": "x", "keywords": {"any": [], "regex": []}}, "a lantern") is None
    nothing = Report("r", "no finding", (), "", 0.0, 7)
    assert (
        row("benign", 40, nothing, None, 1.0)
        == "| benign | 40 | no finding | 0 of 0 | rightly nothing | 7 | 1.0 |"
    )
