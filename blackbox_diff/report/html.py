"""The explorer: one HTML file that carries its data, its script and its charts, and may fetch nothing."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from blackbox_diff.findings import Analysis, RunSummary, Theme
from blackbox_diff.report import wording
from blackbox_diff.report.explorer_data import payload
from blackbox_diff.report.figures import figures
from blackbox_diff.report.methods import methods
from blackbox_diff.report.policy import policy
from blackbox_diff.sanitize import excerpt, shorten, visible

_SCRIPTS = ("data.js", "text.js", "rows.js", "list.js", "charts.js", "app.js")
_QUOTE_WIDTH = 200
_THEMES = 9


def render(analysis: Analysis, summary: RunSummary) -> str:
    """The whole report as the text of one HTML file (UTF-8).

    The first screen is plain HTML, so it is there before any script runs. Model text reaches the page
    through the template's escaping or as a JSON block that only ever becomes text nodes; the
    Content-Security-Policy runs these scripts by their hash and nothing else, and allows no request.
    """
    style = _asset("uplot/uPlot.min.css") + _asset("style.css")
    library = _asset("uplot/uPlot.iife.min.js")
    script = "(() => {\n'use strict';\n" + "\n".join(_asset(name) for name in _SCRIPTS) + "\n})();"
    return (
        _environment()
        .from_string(_asset("page.html.j2"))
        .render(
            analysis=analysis,
            headline=wording.headline(analysis),
            answer=wording.answer(analysis.verdict),
            control=wording.control(analysis),
            summary=summary,
            figures=figures(analysis, summary),
            themes=_themes(analysis),
            validation=[
                (shorten(visible(found.phrase), 120), wording.validated(found)) for found in analysis.validation
            ],
            validation_note=wording.VALIDATION,
            methods=methods(analysis, summary),
            scope=wording.scope(analysis),
            csp=policy(scripts=(library, script), styles=(style,)),
            style=Markup(style),  # ours, as are library, script and licence; the data is escaped below
            library=Markup(library),
            script=Markup(script),
            licence=Markup("uPlot 1.6.32\n\n" + _asset("uplot/LICENSE")),
            data=Markup(inline_json(payload(analysis))),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["visible"] = visible
    environment.filters["number"] = wording.number
    return environment


@cache
def _asset(name: str) -> str:
    return resources.files("blackbox_diff.report").joinpath("assets", name).read_text(encoding="utf-8")


def inline_json(value: Any) -> str:
    """JSON that can stand in a <script> block: pure ASCII, no character that HTML gives a meaning."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _themes(analysis: Analysis) -> list[dict[str, Any]]:
    ranks = {row.id: row.rank for row in analysis.ranking}
    return [_theme(theme, ranks) for theme in analysis.themes[:_THEMES]]


def _theme(theme: Theme, ranks: dict[str, int]) -> dict[str, Any]:
    quotes = []
    for quote in theme.quotes[:3]:
        before, inside, after = excerpt(quote.text, quote.span, _QUOTE_WIDTH)
        quotes.append(
            {"id": quote.id, "rank": ranks.get(quote.id, "–"), "before": before, "inside": inside, "after": after}
        )
    return {
        "phrase": shorten(wording.theme_name(theme), 120),
        "also": [shorten(visible(term), 60) for term in theme.terms if term != theme.phrase][:3],
        "count": f"{theme.count:,}",
        "count_noun": "completion" if theme.count == 1 else "completions",
        "prefills": f"{theme.prefills:,}",
        "prefill_noun": "prefill" if theme.prefills == 1 else "prefills",
        "background": f"{theme.background:,}",
        "gap": wording.number(theme.mean_gap),
        "stability": "" if theme.stability is None else f"{theme.stability:.0%}",
        "quotes": quotes,
    }
