"""The explorer: one HTML file that carries its data, its script and its charts, and may fetch nothing."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from blackbox_diff.findings import Analysis, Entry, Promoted, RunSummary
from blackbox_diff.report import story, wording
from blackbox_diff.report.explorer_data import payload
from blackbox_diff.report.figures import figures
from blackbox_diff.report.glossary import TERMS
from blackbox_diff.report.methods import methods
from blackbox_diff.report.methods import text as methods_text
from blackbox_diff.report.notes import Notes
from blackbox_diff.report.policy import policy
from blackbox_diff.sanitize import excerpt, shorten, visible

_SCRIPTS = (
    "data.js", "text.js", "tips.js", "rows.js", "list.js", "charts.js", "notes.js", "address.js", "app.js"
)  # fmt: skip
_QUOTE_WIDTH = 200
_ENTRIES = 9
_PARTS = 6
_WORDS = 3


def render(
    analysis: Analysis, summary: RunSummary, others: Sequence[Analysis] = (), notes: Notes | None = None
) -> str:
    """The whole report as the text of one HTML file (UTF-8).

    The first screen is plain HTML, so it is there before any script runs. Model text reaches the page
    through the template's escaping or as a JSON block that only ever becomes text nodes; the
    Content-Security-Policy runs these scripts by their hash and nothing else, and allows no request.

    others: the same run under its further references, to choose in the page. notes: a reader's, shown in it.
    """
    style = _asset("uplot/uPlot.min.css") + _asset("style.css")
    library = _asset("uplot/uPlot.iife.min.js")
    script = "(() => {\n'use strict';\n" + "\n".join(_asset(name) for name in _SCRIPTS) + "\n})();"
    account = methods(analysis, summary)
    about = {
        "run": summary.run, "created": summary.created, "target": summary.target, "url": summary.target_url,
        "version": importlib.metadata.version("blackbox-diff"),
        "notes": [] if notes is None else [note.model_dump() for note in notes.notes],
    }  # fmt: skip
    return (
        _environment()
        .from_string(_asset("page.html.j2"))
        .render(
            views=[_view(each, summary) for each in (analysis, *others)],
            analysis=analysis,
            summary=summary,
            methods=account,
            methods_text=methods_text(account),
            terms=TERMS,
            nothing_recurs=wording.NOTHING_RECURS,
            validation_note=wording.VALIDATION,
            followed_note=story.FOLLOWED,
            amplified_note=story.AMPLIFIED,
            glossary=sorted(TERMS.items(), key=lambda item: item[1][0].lower()),
            csp=policy(scripts=(library, script), styles=(style,)),
            style=Markup(style),  # ours, as are library, script and licence; the data is escaped below
            library=Markup(library),
            script=Markup(script),
            licence=Markup("uPlot 1.6.32\n\n" + _asset("uplot/LICENSE")),
            data=Markup(inline_json(payload(analysis, others, about))),
        )
    )


def _view(analysis: Analysis, summary: RunSummary) -> dict[str, Any]:
    """The first screen and what recurs, under one reference."""
    strong, weak = wording.recurring(analysis)
    place = {theme.phrase: number for number, theme in enumerate((*analysis.themes, *analysis.signals))}
    ranks = {row.id: row.rank for row in analysis.ranking}
    return {
        "reference": analysis.reference,
        "outcome": analysis.verdict.outcome,
        "headline": wording.headline(analysis),
        "answer": wording.answer(analysis.verdict),
        "scope": wording.scope(analysis),
        "control": wording.control(analysis),
        "figures": figures(analysis, summary),
        "entries": [_entry(entry, ranks, place) for entry in strong[:_ENTRIES]],
        "left_out": wording.left_out(len(strong) - _ENTRIES),
        "weak": [_entry(entry, ranks, place) for entry in weak[:_ENTRIES]],
        "promoted_summary": wording.promoted_summary(analysis),
        "standings": wording.standings(analysis),
        "amplified": [] if analysis.amplified is None else list(story.amplified(analysis.amplified)),
        "followed": [(story.followed(each), list(map(story.sides, each.answers))) for each in analysis.follow_ups],
        "came_back": list(story.came_back(analysis)) or [story.NOTHING],
        "validation": list(wording.validations(analysis)),
        "arms": analysis.arms,
    }


def _nearly(found: Promoted) -> dict[str, Any]:
    """A promoted word as the page shows it."""
    return {
        "counts": wording.promoted_counts(found),
        "places": [
            {
                "id": place.id,
                "before": visible(place.before),
                "word": visible(found.word),
                "written": shorten(visible(place.written).strip(), 50),
                "target": f"{place.target:.0%}",
                "reference": f"{place.reference:.1%}",
            }
            for place in found.places
        ],
    }


@cache
def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["visible"] = visible
    environment.filters["number"] = wording.number
    environment.filters["nats"] = wording.nats
    return environment


@cache
def _asset(name: str) -> str:
    return resources.files("blackbox_diff.report").joinpath("assets", name).read_text(encoding="utf-8")


def inline_json(value: Any) -> str:
    """JSON that can stand in a <script> block: pure ASCII, no character that HTML gives a meaning."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _entry(entry: Entry, ranks: Mapping[str, int], place: Mapping[str, int]) -> dict[str, Any]:
    theme, quotes = entry.theme, []
    for quote in theme.quotes[:3] if theme else ():
        before, inside, after = excerpt(quote.text, quote.span, _QUOTE_WIDTH)
        quotes.append(
            {"id": quote.id, "rank": ranks.get(quote.id, "–"), "before": before, "inside": inside, "after": after}
        )
    return {
        "number": place.get(theme.phrase) if theme else None,
        "phrase": shorten(wording.entry_name(entry), 120),
        "also": [shorten(visible(term), 60) for term in theme.terms if term != entry.phrase][:3] if theme else [],
        "evidence": wording.evidence(entry),
        "stability": "" if theme is None or theme.stability is None else f"{theme.stability:.0%}",
        "parts": [
            {"phrase": shorten(wording.theme_name(part), 80), "counts": wording.part_counts(part)}
            for part in (theme.parts[:_PARTS] if theme else ())
        ],
        "quotes": quotes,
        "nearly": [_nearly(word) for word in entry.words[:_WORDS]],
    }
