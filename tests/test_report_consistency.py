"""One number has one name: headline, terminal, Markdown, JSON and page of a run are read, and must agree."""

from __future__ import annotations

import html as entities
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from blackbox_diff.analysis.analyse import analyse
from blackbox_diff.findings import Analysis
from blackbox_diff.report import glossary, html, markdown, terminal, wording
from blackbox_diff.report.conclusion import as_json, conclude
from blackbox_diff.report.figures import Figure, figures
from blackbox_diff.run.results import Results
from tests.report_data import analysis_of, summary_of
from tests.scored import REFERENCE, run

DOCS = Path(__file__).parent.parent / "docs"
FINDING = analysis_of(300)
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
    page = entities.unescape(html.render(QUIET, summary_of(QUIET)))
    for text in (wording.scope(QUIET), page, markdown.render(QUIET, summary_of(QUIET)).replace("\\", "")):
        assert rate in text
        assert "95% probability" in text


def test_the_docs_glossary_is_the_pages() -> None:
    assert (DOCS / "glossary.md").read_text(encoding="utf-8") == glossary.markdown()
