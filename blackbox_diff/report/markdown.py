"""The report as Markdown for a pull request or a ticket; model output only ever stands in code spans."""

from __future__ import annotations

import re
from collections.abc import Iterator

from blackbox_diff.findings import Analysis, Entry, RunSummary, Theme
from blackbox_diff.report import story, wording
from blackbox_diff.report.figures import figures
from blackbox_diff.report.methods import methods
from blackbox_diff.report.notes import Notes
from blackbox_diff.sanitize import excerpt, shorten, visible

_WIDTH = 240
_ENTRIES = 8
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+!|~&@-])")


def render(analysis: Analysis, summary: RunSummary, top: int = 10, notes: Notes | None = None) -> str:
    """Answer, control, figures, what recurs, top completions and methods, as GitHub-flavoured Markdown."""
    return "\n".join(_lines(analysis, summary, top, notes)) + "\n"


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


def _named(entry: Entry) -> str:
    return f"{code(shorten(wording.entry_name(entry), 80))}: {plain(wording.entry_line(entry))}"


def _entry(entry: Entry) -> Iterator[str]:
    yield f"- {_named(entry)}"
    if entry.theme and entry.theme.parts:
        yield f"  - with {', '.join(map(_part, entry.theme.parts))}"
    for quote in entry.theme.quotes[:3] if entry.theme else ():
        yield f"  - {code(quote.id)} {_marked(excerpt(quote.text, quote.span, _WIDTH))}"
    for word in entry.words[:1]:
        yield from (f"  - {code(line)}" for line in wording.nearly_said(word)[:2])


def _part(part: Theme) -> str:
    return f"{code(shorten(wording.theme_name(part), 80))} {wording.part_counts(part)}"


def _lines(analysis: Analysis, summary: RunSummary, top: int, notes: Notes | None) -> Iterator[str]:
    verdict = analysis.verdict
    yield f"# {plain(summary.target)} against {plain(analysis.reference)}"
    yield ""
    answers = dict.fromkeys((wording.headline(analysis), wording.answer(verdict), wording.scope(analysis)))
    said = [*filter(None, answers), wording.control(analysis)]
    yield f"**{verdict.outcome.capitalize()}.** {plain(said[0])}"
    for sentence in said[1:]:
        yield ""
        yield plain(sentence)
    yield ""
    yield "| figure | value | |"
    yield "|---|---|---|"
    for figure in figures(analysis, summary):
        yield f"| {plain(figure.name)} | {plain(figure.shown)} | {plain(figure.note)} |"
    yield ""
    for warning in summary.warnings:
        yield f"- **warning:** {plain(warning)}"
    yield "## What recurs"
    yield ""
    strong, weak = wording.recurring(analysis)
    yield wording.NOTHING_RECURS if not strong else f"{wording.RECURS}:"
    yield ""
    for entry in strong[:_ENTRIES]:
        yield from _entry(entry)
    if len(strong) > _ENTRIES:
        yield f"- {plain(wording.left_out(len(strong) - _ENTRIES))}"
    if weak:
        yield f"{wording.WEAK}:"
        yield ""
        yield from (f"- {_named(entry)}" for entry in weak[:8])
        yield ""
    yield plain(wording.promoted_summary(analysis))
    yield ""
    if wording.standings(analysis):
        yield plain(wording.standings(analysis) + ".")
        yield ""
    tried = list(wording.validations(analysis))
    if tried:
        yield f"## Validation: {wording.VALIDATION}"
        yield ""
        for phrase, outcome in tried:
            yield f"- {code(phrase)}: {plain(outcome)}"
        yield ""
    if analysis.amplified is not None:
        yield f"## Amplified: {story.AMPLIFIED}"
        yield ""
        for line in story.amplified(analysis.amplified):
            yield f"- {plain(line)}"
        yield ""
    if analysis.follow_ups:
        yield f"## Asked again: {story.FOLLOWED}"
        yield ""
        for followed in analysis.follow_ups:
            yield f"- {plain(story.followed(followed))}"
            for answer in followed.answers[:2]:
                prefill, target, reference = map(code, story.sides(answer))
                yield f"  - {prefill} target {target}, reference {reference}"
        for line in list(story.came_back(analysis)) or [story.NOTHING]:
            yield f"- {plain(line)}"
        yield ""
    yield f"## Top completions by {plain(wording.label(analysis.metric))}"
    yield ""
    for ranked in analysis.ranking[:top]:
        flags = "".join(f", {plain(flag)}" for flag in ranked.flags)
        name = wording.label(analysis.metric)
        by = "" if name == "score" else f"{name} {wording.nats(ranked.value)}, "
        yield (
            f"{ranked.rank}. {code(ranked.id)} {by}score {wording.nats(ranked.metrics.get('score'))}, "
            f"{wording.plural(ranked.n_tokens, 'token')}{flags}  "
        )
        yield f"   {code(shorten(ranked.prefill, 60))} {_marked(excerpt(ranked.completion, ranked.peak, _WIDTH))}"
    if len(analysis.ranking) > top:
        yield ""
        yield f"The best {top} of {len(analysis.ranking):,}; an export to .jsonl, .csv or .parquet has them all."
    if notes is not None:
        yield ""
        yield "## Notes"
        yield ""
        for note in notes.notes:
            words = f": {code(shorten(note.note, 2000))}" if note.note else ""
            yield f"- {plain(note.mark or 'note')}, {note.on} {code(shorten(note.name, 80))}{words}"
    yield ""
    yield "## Methods"
    for section in methods(analysis, summary):
        yield ""
        yield f"**{section.title}**"
        yield ""
        for name, line in section.lines:
            yield f"- {plain(name)}: {plain(line)}"
    yield ""
    yield "[[ ]] marks the evidence. No report says that a model is clean: only what this budget found."
