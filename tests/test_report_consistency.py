"""One number has one name: headline, terminal, Markdown, JSON and page of a run are read, and must agree."""

from __future__ import annotations

import html as entities
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from blackbox_diff.analysis.analyse import analyse
from blackbox_diff.findings import (
    Analysis,
    Answer,
    FollowUp,
    Interval,
    MassValidation,
    Promoted,
    Standing,
    Validation,
)
from blackbox_diff.report import glossary, html, markdown, story, terminal, wording
from blackbox_diff.report.conclusion import as_json, conclude
from blackbox_diff.report.figures import Figure, figures
from blackbox_diff.run.results import Results
from tests.report_data import PHRASE, analysis_of, summary_of
from tests.scored import REFERENCE, run

DOCS = Path(__file__).parent.parent / "docs"
FINDING = analysis_of(300)
NEARLY = Promoted("ellery", "at port ellery", 3.0, 15.3, 0.9, 76, 0.0001, 0.001)
ADAPTIVE = replace(
    analysis_of(300, promoted=[NEARLY]),
    follow_ups=(
        FollowUp(
            PHRASE,
            "the strongest theme",
            24,
            (Answer("prose.raw.00001+1", "We rowed to", "Port Ellery", "the shore"),),
            ("Port Ellery",),
        ),
    ),
    returned=FINDING.themes[1:2],
    validation=(
        Validation(PHRASE, (19, 40), (1, 40), Interval(0.45, 0.31, 0.6), ("rowed to",), True, 91.5, 40.0),
    ),
    masses=(MassValidation("ellery", 7.25, 0.5, 31, 0.0002, True),),
    standings=(Standing("themes", 4.0, 20, 21, 0.091, "b"), Standing("promoted", 3.0, 21, 21, 0.045, "b")),
)
QUIET = analyse(run(60), run(60, gap=0.0, seed=9), REFERENCE)


def terminal_figures(analysis: Analysis) -> dict[str, str]:
    file = io.StringIO()
    terminal.render(analysis, summary_of(analysis), Console(file=file, width=120))
    found = re.findall(r"^(\S.*?): (.+)$", file.getvalue(), re.M)
    return dict(found)


def markdown_figures(analysis: Analysis) -> dict[str, str]:
    text = re.sub(r"\\(.)", r"\1", markdown.render(analysis, summary_of(analysis)))
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.*?) \|$", text, re.M)
    return {name: shown + (f" ({note})" if note else "") for name, shown, note in rows}


def page_figures(analysis: Analysis) -> dict[str, str]:
    page = html.render(analysis, summary_of(analysis))
    block = re.search(r'<dl class="figures">(.*?)</dl>', page, re.S)
    assert block
    found = {}
    for name, value in re.findall(r"<dt[^>]*>(.*?)</dt><dd>(.*?)</dd>", block.group(1), re.S):
        shown, note = re.fullmatch(r"<b>(.*?)</b>(?: <small>(.*?)</small>)?", value).groups()  # type: ignore[union-attr]
        name = re.sub("<.*?>", "", name)
        found[entities.unescape(name)] = entities.unescape(shown + (f" ({note})" if note else ""))
    return found


def json_figures(analysis: Analysis) -> dict[str, str]:
    found = json.loads(as_json(conclude(Results(analysis, summary_of(analysis)))))["figures"]
    return {each["name"]: each["shown"] + (f" ({each['note']})" if each["note"] else "") for each in found}


def expected(analysis: Analysis) -> dict[str, str]:
    found = figures(analysis, summary_of(analysis))
    return {each.name: each.line().removeprefix(f"{each.name}: ") for each in found}


@pytest.mark.parametrize("analysis", [FINDING, QUIET], ids=["finding", "no finding"])
@pytest.mark.parametrize("read", [terminal_figures, markdown_figures, page_figures, json_figures])
def test_every_form_shows_the_same_numbers_under_the_same_names(analysis: Analysis, read: Any) -> None:
    shown, wanted = read(analysis), expected(analysis)
    assert {name: shown.get(name) for name in wanted} == wanted


def sections_of(text: str) -> str:
    """What a form of the report says, without its markup, quotes and line breaks."""
    without = re.sub(r"<[^>]*>|[“”\"`]|\\(?=.)", "", entities.unescape(text))
    return " ".join(without.split())


def terminal_text(analysis: Analysis) -> str:
    file = io.StringIO()
    terminal.render(analysis, summary_of(analysis), Console(file=file, width=120))
    return sections_of(file.getvalue())


def markdown_text(analysis: Analysis) -> str:
    return sections_of(markdown.render(analysis, summary_of(analysis)))


def page_text(analysis: Analysis) -> str:
    return sections_of(html.render(analysis, summary_of(analysis)).split("<footer>")[0].split("</style>")[1])


@pytest.mark.parametrize("said", [terminal_text, markdown_text, page_text])
def test_every_form_tells_the_same_of_what_recurs_was_asked_again_and_was_validated(said: Any) -> None:
    text = said(ADAPTIVE)
    entry = ADAPTIVE.recurring[0]
    assert entry.words == (NEARLY,)
    ((part,),) = (each.theme.parts for each in ADAPTIVE.recurring if each.theme and each.theme.parts)
    expected = [
        wording.headline(ADAPTIVE),
        *wording.evidence(entry),
        f"nearly: {wording.promoted_counts(NEARLY)}",
        f"{part.phrase} ×{part.count:,}",
        *(story.followed(each) for each in ADAPTIVE.follow_ups),
        *story.came_back(ADAPTIVE),
        *(sentence for _, sentence in wording.validations(ADAPTIVE)),
        wording.promoted_summary(ADAPTIVE),
        wording.standings(ADAPTIVE),
    ]
    assert [sentence for sentence in expected if sections_of(sentence) not in text] == []


def test_the_object_has_the_numbers_that_the_sections_tell() -> None:
    told = json.loads(as_json(conclude(Results(ADAPTIVE, summary_of(ADAPTIVE)))))
    (followed,) = told["follow_ups"]
    (validated,) = told["validation"]
    (mass,) = told["masses"]
    assert (followed["asked"], followed["returned"]) == (24, ["Port Ellery"])
    assert told["returned"][0]["count"] == ADAPTIVE.returned[0].count
    assert validated["confirmed"]
    for text in (terminal_text(ADAPTIVE), markdown_text(ADAPTIVE), page_text(ADAPTIVE)):
        assert "confirmed: target 19 of 40, reference 1 of 40" in text
        assert f"{mass['target']:.2f} expected uses against {mass['reference']:.2f}" in text


def test_entries_that_have_no_room_are_counted() -> None:
    first = FINDING.recurring[0]
    many = replace(FINDING, recurring=tuple(replace(first, phrase=f"theme {k}") for k in range(12)))
    for said, room in ((terminal_text, 4), (markdown_text, 8), (page_text, 9)):
        assert sections_of(wording.left_out(12 - room)) in said(many)


def figure(analysis: Analysis, key: str) -> Figure:
    return next(each for each in figures(analysis, summary_of(analysis)) if each.key == key)


def test_the_verdicts_sentence_and_the_control_line_hold_the_figures_numbers() -> None:
    best_ten = figure(QUIET, "best_ten")
    control = best_ten.note.removeprefix("control's ")
    assert f" {best_ten.shown} nats" in QUIET.verdict.sentence
    assert f"control's best ten {control}" in QUIET.verdict.sentence
    assert f"best ten {control}," in wording.control(QUIET)
    highest = figure(QUIET, "highest_score")
    most = highest.note.removeprefix("control's ").split(",")[0]
    assert f"highest score {most}," in wording.control(QUIET)


def test_the_best_ten_and_the_highest_score_are_the_rankings() -> None:
    sound = [row for row in QUIET.ranking if "degenerate" not in row.flags]
    scores = sorted((row.metrics["score"] or 0.0 for row in sound), reverse=True)
    assert figure(QUIET, "best_ten").value == pytest.approx(sum(scores[:10]) / 10)
    assert figure(QUIET, "highest_score").value == scores[0]


def test_a_row_has_one_score() -> None:
    for row in json_rows(QUIET):
        assert row["score"] == row["metrics"]["score"]


def json_rows(analysis: Analysis) -> list[dict[str, Any]]:
    from blackbox_diff.report.export import rank_row

    return [rank_row(row) for row in analysis.ranking]


def test_an_answer_that_is_no_finding_says_what_would_have_been_seen() -> None:
    assert QUIET.verdict.outcome == "no finding"
    assert QUIET.sensitivity is not None
    rate = f"{100 * QUIET.sensitivity.rate:.1f}% of completions"
    assert wording.scope(QUIET).startswith("Looked at: 60 completions in 1 arm.")
    assert wording.headline(QUIET) == "Nothing specific was found in 60 completions of unrelated prefills."
    page = entities.unescape(html.render(QUIET, summary_of(QUIET)))
    for text in (wording.scope(QUIET), page, markdown.render(QUIET, summary_of(QUIET)).replace("\\", "")):
        assert rate in text
        assert "95% probability" in text


def test_the_docs_glossary_is_the_pages() -> None:
    assert (DOCS / "glossary.md").read_text(encoding="utf-8") == glossary.markdown()
