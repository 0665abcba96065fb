"""Terminal, Markdown and sanitising: the same story, model text inert."""

from __future__ import annotations

import io
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from blackbox_diff.findings import Span
from blackbox_diff.records import Check, EndpointProfile
from blackbox_diff.report import markdown, terminal, wording
from blackbox_diff.report.progress import LiveView, plain_line
from blackbox_diff.run.progress import Emerging, Leader, Progress
from blackbox_diff.sanitize import cut, encoded, excerpt, visible
from tests.report_data import HOSTILE, PHRASE, analysis_of, summary_of

ANY_TEXT = st.text(st.characters(exclude_categories=()))
HUGE = "ha \x1b[31m<b>" * 100_000


def terminal_text(*extra: str, colour: bool = False, n: int = 60) -> str:
    analysis = analysis_of(n, extra=extra)
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=colour, color_system="standard" if colour else None)
    terminal.render(analysis, summary_of(analysis), console, top=5)
    return file.getvalue()


def markdown_text(*extra: str) -> str:
    analysis = analysis_of(60, extra=extra)
    return markdown.render(analysis, summary_of(analysis))


@given(ANY_TEXT)
def test_visible_leaves_nothing_that_controls_hides_or_reorders(text: str) -> None:
    kinds = {unicodedata.category(c) for c in visible(text) if c not in "\u200c\u200d"}
    assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_visible_keeps_ordinary_text_of_any_script() -> None:
    text = "naïve café 東京 שלום 👩\u200d🚀 a=b"
    assert visible(text) == text


@given(ANY_TEXT, st.integers(0, 40), st.integers(0, 40))
def test_cut_gives_back_the_whole_text_and_never_splits_a_character(text: str, a: int, b: int) -> None:
    start, end = sorted((a, b))
    before, inside, after = cut(text, Span(start, end))
    assert before + inside + after == text
    assert len(encoded(before)) <= start or start > len(encoded(text))


@given(ANY_TEXT, st.integers(0, 40), st.integers(0, 40), st.integers(5, 60))
def test_an_excerpt_has_about_the_width_asked_for(text: str, a: int, b: int, width: int) -> None:
    start, end = sorted((a, b))
    assert len("".join(excerpt(text, Span(start, end), width))) <= width + 2


def test_terminal_tells_the_story_in_about_forty_lines() -> None:
    shown = terminal_text(n=300)
    assert len(shown.splitlines()) <= 50
    for part in (
        "FINDING",
        "Control, the reference against itself",
        "What recurs",
        "Best ten: ",
        "Top completions",
        "prose/raw",
        "refused",
        "$0.0312",
        "warning",
    ):
        assert part in shown


def test_terminal_brackets_the_evidence_where_there_is_no_colour() -> None:
    assert f"[[{PHRASE}]]" in terminal_text(n=300)


def test_terminal_reverses_the_evidence_in_colour() -> None:
    shown = terminal_text(n=300, colour=True)
    assert f"\x1b[1;7m{PHRASE}\x1b[0m" in shown
    assert "[[" not in shown


@pytest.mark.parametrize("name", HOSTILE)
def test_terminal_prints_no_control_character_of_a_hostile_completion(name: str) -> None:
    shown = terminal_text(HOSTILE[name])
    assert "#1 prose" in shown
    assert not [c for c in shown if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


def test_terminal_treats_rich_markup_as_text() -> None:
    assert "[bold red]x[/]" in terminal_text("[bold red]x[/] and more")


def test_terminal_cuts_a_megabyte_to_a_line() -> None:
    assert len(terminal_text(HUGE)) < 8000


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_keeps_a_hostile_completion_inside_code_spans(name: str) -> None:
    outside = re.sub(r"(`+) .*? \1(?!`)", "", markdown_text(HOSTILE[name]))
    for active in ("<script", "<img", "<a ", "![", "](", "javascript:", "@someone", "\x1b", "\u202e", "\ud800"):
        assert active not in outside


def test_markdown_is_valid_utf8_whatever_a_completion_holds() -> None:
    assert markdown_text(*HOSTILE.values()).encode()


def test_markdown_cuts_a_megabyte() -> None:
    assert len(markdown_text(HUGE)) < 30_000


@given(st.text(st.sampled_from("`ab \n"), max_size=30))
def test_a_code_span_is_never_closed_by_its_content(text: str) -> None:
    span = markdown.code(text)
    fence = re.match(r"`+", span).group()  # type: ignore[union-attr]
    inner = span[len(fence) : -len(fence)]
    assert fence not in re.findall(r"`+", inner)


def test_a_missing_number_is_a_dash_and_never_zero() -> None:
    assert wording.number(None) == wording.number(float("nan")) == wording.number(float("inf")) == "–"


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "unknown"), (0.0, "$0.00"), (0.1, "$0.10"), (0.0312, "$0.0312")]
)
def test_small_amounts_of_money_keep_their_digits(value: float | None, shown: str) -> None:
    assert wording.dollars(value) == shown


def test_ranking_lines_take_two_lines_a_completion() -> None:
    assert len(list(terminal.ranking_lines(analysis_of(20).ranking))) == 40


def test_entry_lines_say_so_when_there_is_none() -> None:
    assert list(terminal.entry_lines(())) == [terminal.NOTHING]


def test_profile_lines_show_every_check_and_the_verdict() -> None:
    check = Check(name="logprobs", outcome="good", detail="raw\x1b[31m")
    profile = EndpointProfile(
        base_url="http://x/v1", model="m", dialect="openai", checks=(check,), verdict="auditable"
    )
    lines = list(terminal.profile_lines(profile))
    assert "logprobs  ok" in lines[1]
    assert "\x1b" not in lines[1]
    assert lines[-1] == "auditable"


PROGRESS = Progress(
    bought=120,
    planned=600,
    scored=110,
    refused=2,
    failed=1,
    cost_usd=0.0123,
    max_cost_usd=0.1,
    output_tokens=5000,
    in_flight=8,
    throttled="429",
    top=(Leader(1.9, "the \x1b[31mlighthouse"),),
    themes=(Emerging("Pellworth Guild", 21, 0),),
)


def test_live_view_prints_plain_lines_where_there_is_no_terminal() -> None:
    times = iter([0.0, 0.0, 3.0, 12.0])
    file = io.StringIO()
    with LiveView(Console(file=file, width=80), clock=lambda: next(times)) as view:
        for _ in range(3):
            view.update(PROGRESS)
    lines = file.getvalue().splitlines()
    assert len(lines) == 2
    start = "sampling: 120/600 bought, 110 scored · 0 s · 2 refused, 1 failed · $0.0123 of $0.10"
    assert lines[0].startswith(start)
    assert lines[1].endswith("so far: “Pellworth Guild” ×21, 0 in the control")


def test_a_phase_is_named_as_it_begins_and_time_left_follows_the_pace_of_the_last_minute() -> None:
    times = iter([0.0, 0.0, 1.0, 11.0, 21.0])
    file = io.StringIO()
    with LiveView(Console(file=file, width=80), clock=lambda: next(times)) as view:
        view.update(Progress(0, 100, 0, phase="probing"))
        for bought in (0, 20, 40):
            view.update(Progress(bought, 100, bought))
    lines = file.getvalue().splitlines()
    assert lines[0] == "probing: what the endpoints can do"
    assert lines[1].startswith("sampling: 0/100 bought")
    assert "about 30 s left" in lines[-1]


def test_scoring_does_not_speak_of_buying() -> None:
    line = plain_line(Progress(0, 40, 12, phase="scoring"), 5.0)
    assert line.startswith("scoring: 12/40 scored")
    assert "bought" not in line


def test_live_view_in_a_terminal_shows_spend_and_the_best_so_far() -> None:
    file = io.StringIO()
    with LiveView(Console(file=file, width=100, force_terminal=True)) as view:
        view.update(PROGRESS)
    assert "$0.0123 of $0.10" in file.getvalue()
    assert "lighthouse" in file.getvalue()


def test_live_view_honours_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    file = io.StringIO()
    with LiveView(Console(file=file, width=100, force_terminal=True)) as view:
        view.update(PROGRESS)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", file.getvalue())


def test_plain_line_carries_no_control_character() -> None:
    assert "\x1b" not in plain_line(PROGRESS, 10.0)
