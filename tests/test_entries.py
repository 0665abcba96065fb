"""One list of what recurs: written and nearly written evidence of the same words is one entry, in one order."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import jsonschema
from rich.console import Console

from blackbox_diff.analysis.bank import Bank, Member
from blackbox_diff.analysis.entries import entries, first_named
from blackbox_diff.analysis.verdict import STRONG
from blackbox_diff.findings import Entry, Promoted, PromotedPlace, Theme
from blackbox_diff.report import html, markdown, terminal, wording
from blackbox_diff.report.conclusion import as_json, conclude, schema
from blackbox_diff.run.results import Results
from tests.report_data import analysis_of, summary_of

BANK = Bank("base", "base", 200, tuple(Member(f"m{k}", 200, {"promoted": k / 40}, {}) for k in range(21)))


def theme(phrase: str, strength: float, *, stability: float = 0.9, terms: tuple[str, ...] = ()) -> Theme:
    return Theme(phrase, (phrase, *terms), 6, 5, 1, 1.0, 5 * strength, stability, ())


def word(name: str, target: float, reference: float, phrase: str = "", *, style: bool = False) -> Promoted:
    place = PromotedPlace("prose.raw.00000", "So say", " the lamp", name, 0.3, 0.01)
    return Promoted(
        name, phrase or name, 1.0, target, reference, 40, 0.001, 0.01, style, (place,), written=2, background=1
    )


def listed(themes: list[Theme], words: list[Promoted], bank: Bank | None = BANK) -> tuple[Entry, ...]:
    return entries(themes, words, needed=STRONG, bank=bank, listed=200)


def test_one_lemma_is_one_entry_with_the_evidence_of_both() -> None:
    (found,) = listed([theme("old owls", 12.0)], [word("owl", 6.0, 0.5), word("owls", 3.0, 0.5)])
    assert (found.phrase, [each.word for each in found.words]) == ("old owls", ["owl", "owls"])
    assert found.strength > 12.0 / STRONG  # what was nearly written adds to it
    assert found.strong
    assert found.standing is not None
    assert found.standing.stronger_than == 21


def test_a_word_joins_the_strongest_theme_that_holds_it_also_in_a_part_or_another_wording() -> None:
    part = replace(theme("tide clock", 2.0), stability=None)
    strong = replace(theme("port ellery", 14.0, terms=("never sleeps",)), parts=(part,))
    found = listed([theme("clock", 3.0), strong], [word("clock", 6.0, 0.5), word("sleep", 3.0, 0.5)])
    assert [(each.phrase, len(each.words)) for each in found] == [("port ellery", 2), ("clock", 0)]


def test_words_of_one_phrase_are_one_entry_and_style_is_none() -> None:
    found = listed(
        [], [word("old", 6.0, 0.2, "the old owl"), word("owl", 3.0, 0.4), word("7", 9.0, 0.1, style=True)]
    )
    assert [(each.phrase, len(each.words)) for each in found] == [("the old owl", 2)]


def test_what_carries_a_finding_comes_first_whatever_else_is_strong() -> None:
    unsteady = theme("lamp", 30.0, stability=0.2)
    found = listed(
        [unsteady, theme("river", 9.5), theme("stone", 2.0)], [word("owl", 6.0, 0.3), word("salt", 2.0, 1.5)]
    )
    assert [each.phrase for each in found][:3] == ["owl", "river", "lamp"]
    assert [each.strong for each in found] == [True, True, False, False, False]
    assert found[0].strength > found[1].strength


def test_without_a_bank_no_promoted_word_carries_a_finding() -> None:
    (found,) = listed([], [word("owl", 9.0, 0.1)], bank=None)
    assert (found.strong, found.standing) == (False, None)


def test_the_headline_names_content_before_turns_of_phrase_and_what_was_written_before_what_was_likely() -> None:
    each, please, heron = word("each", 20.0, 2.0), word("please", 12.0, 1.0), word("heron", 6.0, 0.8)
    found = listed([theme("grey heron", 6.0)], [each, please, heron])
    assert {entry.phrase: entry.content for entry in found} == {"each": False, "please": True, "heron": True}
    named = first_named(found)
    assert named is not None
    assert named.words == (heron,)
    assert first_named(listed([], [each, please])) == listed([], [each, please])[0]
    assert first_named(()) is None


def test_a_weak_written_word_does_not_take_the_headline_from_what_carries_the_finding() -> None:
    named = first_named(listed([theme("book", 3.0)], [word("old", 6.1, 0.5, "the old")]))
    assert named is not None
    assert named.phrase == "the old"


def test_every_form_of_the_report_shows_a_word_that_was_never_written() -> None:
    analysis = replace(analysis_of(60, promoted=[word("zephyr", 6.0, 0.3)]), themes=())
    alone = replace(analysis, recurring=listed([], list(analysis.promoted)))
    file = io.StringIO()
    terminal.render(alone, summary_of(alone), Console(file=file, width=120))
    found = json.loads(as_json(conclude(Results(alone, summary_of(alone)))))
    jsonschema.Draft202012Validator(schema()).validate(found)
    assert found["recurring"][0]["nearly"][0]["word"] == "zephyr"
    assert (found["recurring"][0]["count"], found["recurring"][0]["stability"]) == (2, None)
    assert "zephyr" in wording.headline(alone)
    for text in (
        file.getvalue(),
        markdown.render(alone, summary_of(alone)),
        html.render(alone, summary_of(alone)),
    ):
        assert text.count("6.0 expected uses of") >= 1
        assert "zephyr" in text


def test_a_narrow_terminal_shows_the_word_that_was_nearly_written_and_not_only_what_stood_before() -> None:
    said = word("zephyr", 6.0, 0.3)
    far = replace(said.places[0], before="so it was, and so it shall remain for as long as the brook runs by the")
    analysis = replace(analysis_of(60, promoted=[replace(said, places=(far,))]), themes=())
    alone = replace(analysis, recurring=listed([], list(analysis.promoted)))
    file = io.StringIO()
    terminal.render(alone, summary_of(alone), Console(file=file, width=80))
    lines = file.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines if "zephyr" in line)
    assert "the brook runs by the [zephyr] 30% against at most" in " ".join(line.strip() for line in lines)
