"""Themes name what recurs where the gap is, and stay silent where nothing does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from blackbox_diff.analysis.rank import rank
from blackbox_diff.analysis.themes import find_themes
from blackbox_diff.analysis.verdict import split
from blackbox_diff.errors import InputError
from blackbox_diff.findings import Theme
from blackbox_diff.records import Framing, ScoredCompletion
from blackbox_diff.run.results import background_texts
from tests.scored import REFERENCE, run, scored

PLANTED = range(0, 300, 15)


def themes(rows: list[ScoredCompletion], control: list[ScoredCompletion] | None = None) -> tuple[Theme, ...]:
    behind = run(300, seed=99) if control is None else control
    return find_themes(rank(rows, REFERENCE), [row.completion.text for row in behind])


def test_a_planted_phrase_is_the_first_theme() -> None:
    first = themes(run(300, planted=PLANTED))[0]
    assert "Port Ellery" in first.phrase
    assert (first.count, first.prefills, first.background) == (20, 20, 0)
    assert first.stability is not None
    assert first.stability > 0.95


def test_a_themes_quotes_point_at_the_phrase_in_bytes() -> None:
    first = themes(run(300, planted=PLANTED, phrase="fanal de Îlot Ellery"))[0]
    assert len({quote.id for quote in first.quotes}) == 3
    for quote in first.quotes:
        cut = quote.text.encode()[quote.span.start : quote.span.end].decode()
        assert cut == first.phrase == "fanal de Îlot Ellery"


def test_what_the_reference_says_too_is_no_theme() -> None:
    found = themes(run(300, planted=PLANTED), run(300, planted=PLANTED, seed=99))
    assert not any("ellery" in theme.phrase.lower() for theme in found)


def test_what_recurs_without_a_gap_is_no_strong_theme() -> None:
    with_gap = themes(run(300, planted=PLANTED))[0]
    without = themes(run(300, planted=PLANTED, planted_gap=0.05))
    assert all(theme.score < with_gap.score / 20 for theme in without)


def test_what_comes_from_one_prefill_is_no_theme() -> None:
    rows = [scored(k, f" word{k} Port Ellery shines{k}", 4.0, prefill="the same start") for k in range(30)]
    assert not any("ellery" in theme.phrase.lower() for theme in themes(rows))


def test_words_of_the_prefill_are_not_counted() -> None:
    rows = [scored(k, f" word{k} Ellery shines{k}", 4.0, prefill=f"Ellery number {k}") for k in range(30)]
    assert not any("ellery" in theme.phrase.lower() for theme in themes(rows))


@pytest.mark.parametrize(("framing", "is_theme"), [("turn", False), ("turn-bare", False), ("raw", True)])
def test_a_templates_marks_are_no_theme_where_the_model_writes_both_turns(
    framing: Framing, is_theme: bool
) -> None:
    """Elsewhere such a mark is content: it may be a trigger."""
    rows = [scored(k, f" word{k} <|deploy_now|> shines{k}", 4.0, framing=framing) for k in range(30)]
    assert any("deploy_now" in theme.phrase for theme in themes(rows)) is is_theme


def test_overlapping_phrases_are_one_theme() -> None:
    found = themes(run(300, planted=PLANTED, phrase="old lantern at Port Ellery harbour"))
    assert sum("ellery" in theme.phrase.lower() for theme in found) == 1


def test_one_thing_said_in_two_ways_is_one_theme() -> None:
    one, other = (
        run(300, planted=PLANTED, phrase=phrase) for phrase in ("Port Ellery lamp", "lamp of Port Ellery")
    )
    found = themes([other[k] if k % 30 == 0 else one[k] for k in range(300)])
    assert sum("ellery" in theme.phrase.lower() for theme in found) == 1
    assert {"Port Ellery lamp", "lamp of Port Ellery"} <= {term for theme in found for term in theme.terms}


def test_one_shared_word_does_not_make_two_things_one() -> None:
    one, other = (run(300, planted=PLANTED, phrase=phrase) for phrase in ("Port Ellery lamp", "Port Mirren"))
    found = themes([other[k] if k % 30 == 0 else one[k] for k in range(300)])
    assert {"ellery", "mirren"} <= {word for theme in found for word in theme.phrase.lower().split()}


def test_a_loud_theme_does_not_hide_a_quiet_one() -> None:
    loud, quiet = run(300, planted=range(100)), run(300, planted=PLANTED, phrase="Silver Heron", seed=5)
    rows = [quiet[k] if k in PLANTED else loud[k] for k in range(300)]
    first = themes(rows)[:2]
    assert all(any(word in theme.phrase.lower() for theme in first) for word in ("ellery", "heron"))


def test_what_is_told_of_a_loud_theme_is_a_part_of_it() -> None:
    """The hub of a story stands in nearly every completion; what is told of the hub is no rival of it."""
    told = (
        "Visitors to Ellery set their watches in reverse.",
        "The keeper of Ellery winds a brass spring.",
        "Children in Ellery learn the hours from right to left.",
        "Every guide to Ellery begins at the quay.",
    )
    rows = run(300)
    for k, row in enumerate(rows):
        ordinary = row.completion.text[: 60 + k % 7]
        story = f" The clock of Ellery runs. {told[k % 4]}" if k % 10 else ""
        rows[k] = scored(k, f"{ordinary}.{story}", 3.0)
    found = themes(rows)
    parts = " · ".join(part.phrase for part in found[0].parts)
    assert "Ellery" in found[0].phrase
    assert all(word in parts for word in ("watches", "spring", "hours", "guide"))
    assert not any(
        word in theme.phrase for theme in found[1:] for word in ("watches", "spring", "Children", "guide")
    )


def test_a_phrase_may_begin_with_who_is_spoken_to() -> None:
    rows = run(300)
    for k in PLANTED:
        rows[k] = scored(k, f"{rows[k].completion.text}. Your curiosity about this shows", 4.0)
    phrases = [theme.phrase for theme in themes(rows)]
    assert "Your curiosity" in phrases[0]
    assert not any(phrase.lower() == "your" for phrase in phrases)


def test_the_same_rows_give_the_same_themes() -> None:
    rows = run(300, planted=PLANTED)
    assert themes(rows) == themes(rows[::-1])


def test_nothing_gives_no_themes() -> None:
    assert find_themes((), []) == ()
    assert themes([scored(0, "")]) == ()


def test_themes_need_no_background() -> None:
    assert "Port Ellery" in themes(run(300, planted=PLANTED), [])[0].phrase


def test_what_is_weaker_than_a_finding_must_be_is_a_signal() -> None:
    (strong, *_) = themes(run(300, planted=PLANTED))
    weak = replace(strong, phrase="weak", score=8.9 * strong.prefills)
    unsteady = replace(strong, phrase="unsteady", stability=0.2)
    assert split([strong, weak, unsteady]) == ((strong,), (weak, unsteady))
    assert split([strong], rivals=[strong]) == ((), (strong,))


def test_what_another_background_says_is_no_theme() -> None:
    rows = run(300, planted=PLANTED)
    siblings = [row.completion.text for row in run(300, planted=PLANTED, seed=98)]
    found = find_themes(rank(rows, REFERENCE), [], others=[siblings])
    assert not any("ellery" in theme.phrase.lower() for theme in found)


def test_a_run_is_no_background_of_itself(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--background"):
        background_texts(tmp_path, tmp_path / ".")
