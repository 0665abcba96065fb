"""The report as Markdown for a pull request or a ticket; model output only ever stands in code spans."""

from __future__ import annotations

import re
from collections.abc import Iterator

from blackbox_diff.findings import Analysis, RunSummary
from blackbox_diff.report import wording
from blackbox_diff.sanitize import excerpt, shorten, visible

_WIDTH = 240
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+!|~&@-])")


def render(analysis: Analysis, summary: RunSummary, top: int = 10) -> str:
    """Answer, control, themes with quotes, top completions and cost, as GitHub-flavoured Markdown."""
    return "\n".join(_lines(analysis, summary, top)) + "\n"


def code(text: str) -> str:
    """`text` as a code span that it can't close: no HTML, link, mention or image inside is ever active."""
    shown = visible(text)
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {shown} {fence}"


def plain(text: str) -> str:
    """`text` as prose with every character that Markdown or HTML could act on escaped."""
    return _SPECIAL.sub(r"\\\1", visible(text))


def _marked(parts: tuple[str, str, str]) -> str:
    before, inside, after = parts
    return code(f"{before}[[{inside}]]{after}" if inside else before + after)


def _lines(analysis: Analysis, summary: RunSummary, top: int) -> Iterator[str]:
    verdict = analysis.verdict
    yield f"# {plain(summary.target)} against {plain(analysis.reference)}"
    yield ""
    yield f"**{verdict.outcome.capitalize()}.** {plain(wording.answer(verdict))}"
    yield ""
    yield f"- {plain(wording.confidence(analysis))}"
    yield f"- {plain(wording.control(analysis))}"
    yield f"- {plain(wording.outcomes(summary))}"
    yield f"- {plain(wording.money(summary))}; stopped: {plain(summary.stopped_because)}"
    for warning in summary.warnings:
        yield f"- **warning:** {plain(warning)}"
    yield ""
    yield "## Themes"
    yield ""
    if not analysis.themes:
        yield "None: nothing recurs in the top that the control lacks."
    for theme in analysis.themes[:8]:
        yield (
            f"- {code(shorten(theme.phrase, 80))}: {wording.plural(theme.count, 'completion')}, "
            f"{wording.plural(theme.prefills, 'prefill')}, {theme.background:,} in the control"
        )
        for quote in theme.quotes[:3]:
            yield f"  - {code(quote.id)} {_marked(excerpt(quote.text, quote.span, _WIDTH))}"
    yield ""
    if analysis.validation:
        yield f"## Validation: {wording.VALIDATION}"
        yield ""
        for found in analysis.validation:
            yield f"- {code(shorten(found.phrase, 80))}: {plain(wording.validated(found))}"
        yield ""
    yield f"## Top completions by {plain(wording.label(analysis.metric))}"
    yield ""
    for ranked in analysis.ranking[:top]:
        flags = "".join(f", {plain(flag)}" for flag in ranked.flags)
        yield (
            f"{ranked.rank}. {code(ranked.id)} score {wording.number(ranked.score)}, "
            f"{wording.plural(ranked.n_tokens, 'token')}{flags}  "
        )
        yield f"   {code(shorten(ranked.prefill, 60))} {_marked(excerpt(ranked.completion, ranked.peak, _WIDTH))}"
    yield ""
    yield "[[ ]] marks the evidence. No report says that a model is clean: only what this budget found."
