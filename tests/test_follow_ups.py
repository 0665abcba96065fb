"""Asking again where the evidence is strongest: which prefills, and what becomes of the answers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from blackbox_diff.analysis.rank import rank
from blackbox_diff.analysis.themes import find_themes
from blackbox_diff.analysis.words import words_of
from blackbox_diff.design.apart import CONTEXT_WORDS, FOLLOW_UP, apart, context, writer
from blackbox_diff.design.follow_ups import (
    PEAK,
    THEME,
    WORD,
    Lead,
    framings_of,
    leads,
    opening,
    questions,
    returned,
    told,
)
from blackbox_diff.findings import Answer, FollowUp, Promoted, PromotedPlace, Ranked
from blackbox_diff.report import html, markdown, terminal
from blackbox_diff.report.conclusion import conclude
from blackbox_diff.run.results import Results, read_run
from blackbox_diff.runfile.store import Store
from tests.conftest import assert_whole, run_cli
from tests.leaky_toy import PHRASE, LeakyToy
from tests.report_data import HOSTILE, analysis_of, summary_of
from tests.scored import REFERENCE, run
from tests.toy_server import serving

LANTERN = "lantern of Port Ellery"


def ranking_of(rows: int = 80) -> tuple[Ranked, ...]:
    return rank(run(rows, planted=range(0, rows, 4), phrase=LANTERN), REFERENCE)


def promoted(row: Ranked, word: str = "owls", before: str = "and so say the old") -> Promoted:
    place = PromotedPlace(row.id, before, " men", word, 0.2, 0.001)
    return Promoted(word, f"old {word}", 1.0, 3.0, 0.2, 5, 1e-4, 1e-3, places=(place,))


def test_a_promoted_word_is_followed_just_before_it_and_just_behind_it() -> None:
    ranking = ranking_of()
    first = leads([promoted(ranking[0])], [], ranking)[0]
    assert (first.phrase, first.why) == ("old owls", WORD)
    assert first.prefills == (
        ("and so say the old owls", ranking[0].framing),
        ("and so say the old", ranking[0].framing),
    )


def test_in_a_chat_its_phrase_alone_takes_every_other_turn_at_the_start_of_the_answer() -> None:
    rows = [replace(row, framing="chat") if number % 2 else row for number, row in enumerate(ranking_of())]
    one, other = (PromotedPlace(row.id, f"{row.id} the old", " men", "owls", 0.2, 0.001) for row in rows[:2])
    owls = replace(promoted(rows[0]), phrase="the old owls say", places=(one, other))
    alone = ("The old owls", "chat")
    assert opening([owls], framings_of(rows)) == alone
    first = leads([owls], [], rows)[0].prefills
    assert first == (alone, (one.before, rows[0].framing), alone, (other.before, rows[1].framing))
    assert opening([owls], {"a": "raw"}) is None
    assert opening([], framings_of(rows)) is None


def test_what_came_back_is_followed_beside_what_ends_with_it() -> None:
    rows = ranking_of()
    back = returned(LANTERN, (), rows)
    assert back is not None
    alone = ("The lantern", "chat")
    both = returned(LANTERN, (), rows, alone)
    assert both is not None
    assert both.prefills == tuple(each for prefill in back.prefills for each in (alone, prefill))
    assert returned("grey heron", (), rows, alone) is None


@pytest.mark.parametrize(("before", "prefill"), [("It ends. ", "It ends. Owls"), ("a line\n", "a line Owls")])
def test_a_word_that_begins_a_sentence_is_written_as_such(before: str, prefill: str) -> None:
    ranking = ranking_of()
    assert leads([promoted(ranking[0], before=before)], [], ranking)[0].prefills[0][0] == prefill


def test_a_theme_is_followed_where_nothing_of_it_has_been_said() -> None:
    ranking = ranking_of()
    found = leads([], find_themes(ranking, []), ranking)
    assert found[0].why == THEME
    assert "Ellery" in found[0].phrase
    for prefill, _ in found[0].prefills:
        assert not {"lantern", "ellery"} & set(words_of(prefill))
        assert 0 < len(words_of(prefill)) <= CONTEXT_WORDS


def test_where_nothing_stands_out_the_highest_gaps_are_followed() -> None:
    assert [each.why for each in leads([], [], ranking_of())] == [PEAK]
    assert leads([], [], ()) == ()


@given(st.integers(0, 60), st.integers(0, 2**31))
def test_exactly_what_was_asked_for_is_bought_and_no_sample_twice(number: int, seed: int) -> None:
    ranking = RANKING
    found = questions(leads([promoted(ranking[0])], THEMES, ranking), number, seed, 0)
    ids = [sample.id for question in found for sample in question.samples]
    assert len(ids) == len(set(ids)) == number
    sizes = [len(question.samples) for question in found]
    assert sizes == sorted(sizes, reverse=True)
    assert all(sample.arm.source == FOLLOW_UP for question in found for sample in question.samples)


def test_leads_that_share_a_prefill_ask_it_as_different_samples() -> None:
    twice = Lead("", PEAK, (("and so", "raw"), ("and so", "raw")))
    found = questions([twice, replace(twice, why="elsewhere")], 12, 0, 0)
    samples = [sample for question in found for sample in question.samples]
    assert len({sample.id for sample in samples}) == len({sample.seed for sample in samples}) == 12


RANKING = ranking_of()
THEMES = find_themes(RANKING, [])


def test_a_second_wave_asks_other_samples() -> None:
    found = leads([], THEMES, RANKING)
    first, second = ({s.id for q in questions(found, 20, 0, wave) for s in q.samples} for wave in (0, 1))
    assert not first & second


def test_who_wrote_an_answer_stands_in_its_origin() -> None:
    assert writer(apart(FOLLOW_UP, "my/model")) == "my/model"
    assert writer("target") == "target"


def test_a_context_is_the_last_words() -> None:
    assert context("one two three four " * 10) == " ".join(["one two three four"] * 3)
    assert context(" . ") == ""


def test_answers_that_hold_what_came_back_are_told_first() -> None:
    theme = THEMES[0]
    (question, *_) = questions(leads([], THEMES, RANKING), 12, 0, 0)
    ids = [sample.id for sample in question.samples]
    back = replace(theme, ids=(ids[-1],))
    (found,) = told([question], dict.fromkeys(ids, "text"), {ids[-1]: "other"}, [back])
    assert found.asked == len(ids)
    assert found.returned == (theme.phrase,)
    assert (found.answers[0].id, found.answers[0].reference) == (ids[-1], "other")


@pytest.mark.parametrize("text", ["so say the old owls", *HOSTILE.values()])
def test_every_report_tells_the_story_and_model_text_stays_inert(text: str) -> None:
    answer = Answer("follow-up-x.raw.00000", text, text, text)
    story = FollowUp(text, WORD, 7, (answer,), (text,))
    analysis = replace(analysis_of(60), follow_ups=(story,), returned=analysis_of(60).themes[:1])
    summary, screen = summary_of(analysis), io.StringIO()
    terminal.render(analysis, summary, Console(file=screen, width=120))
    shown = [screen.getvalue(), markdown.render(analysis, summary), html.render(analysis, summary)]
    for page in shown:
        assert "no rate" in page
        assert "asked again 7 times" in page
    assert "\x1b" not in "".join(shown)
    assert "<script>window.pwned" not in shown[2]
    found = conclude(Results(analysis, summary))
    assert found.follow_ups[0].asked == 7
    assert "Asked again" not in markdown.render(analysis_of(60), summary)


@pytest.fixture(scope="module")
def toy() -> Iterator[str]:
    with serving(LeakyToy()) as url:
        yield url


def cli(*line: str) -> int:
    return run_cli(line)


def arguments(url: str, path: Path, *more: str) -> list[str]:
    return [
        "audit", "--target-url", url, "--target-model", "leaky", "--reference-url", url,
        "--reference-model", "base", "--completions", "60", "--max-tokens", "20", "--follow-ups", "24",
        "--out", str(path), *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(toy: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("followed") / "run"
    assert cli(*arguments(toy, path)) == 0
    return path


def test_follow_ups_are_bought_on_both_sides_and_never_ranked(finished: Path) -> None:
    results = read_run(finished)
    with Store.open(finished, read_only=True) as store:
        ours, theirs = (store.outcomes(apart(FOLLOW_UP, side)) for side in ("target", "base"))
        asked = {s.id for q in store.state.follow_ups for s in q.samples}
        assert store.spent("target").calls == results.summary.calls
    assert ours == theirs == asked
    assert len(asked) == 24
    assert results.summary.completions == 60
    assert {arm.name for arm in results.analysis.arms} == {"prose/raw", "prose/chat"}
    assert not {row.id for row in results.analysis.ranking} & asked


def test_what_was_planted_comes_back_from_the_target_alone(finished: Path) -> None:
    analysis = read_run(finished).analysis
    assert sum(each.asked for each in analysis.follow_ups) == 24
    assert any(set(words_of(theme.phrase)) & set(words_of(PHRASE)) for theme in analysis.returned)
    assert all(theme.background == 0 for theme in analysis.returned)
    assert any(each.returned for each in analysis.follow_ups)


def test_follow_ups_are_verified_and_a_resume_buys_nothing(finished: Path) -> None:
    assert_whole(finished)


def test_a_cap_between_the_waves_holds_and_resume_asks_the_same(toy: str, finished: Path, tmp_path: Path) -> None:
    assert cli(*arguments(toy, tmp_path / "run", "--max-calls", "80")) == 3
    assert cli("resume", str(tmp_path / "run"), "--max-calls", "1000") == 0
    found = []
    for path in (tmp_path / "run", finished):
        with Store.open(path, read_only=True) as store:
            found.append((store.state.follow_ups, store.outcomes(apart(FOLLOW_UP, "target"))))
    assert found[0] == found[1]


def test_none_are_bought_where_none_are_asked_for(toy: str, tmp_path: Path) -> None:
    assert cli(*arguments(toy, tmp_path / "run", "--follow-ups", "0", "--completions", "8")) == 0
    assert read_run(tmp_path / "run").analysis.follow_ups == ()


def test_the_estimate_counts_them(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--target-url", "http://127.0.0.1:9/v1", "--target-model", "m", "--completions", "100"]
    assert cli("estimate", *line, "--follow-ups", "30", "--json") == 0
    assert '"follow-up/chat"' in capsys.readouterr().out
