"""The report as about forty lines of terminal text; model output is sanitised and never parsed as markup."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from blackbox_diff.findings import Analysis, Entry, Ranked, RunSummary, Theme
from blackbox_diff.records import EndpointProfile
from blackbox_diff.report import story, wording
from blackbox_diff.report.figures import figures
from blackbox_diff.sanitize import excerpt, shorten, visible

_IN = " " * 6
_ENTRIES = 4  # with their evidence; `themes` and --json have the rest
_OUTCOME_STYLE = {"finding": "bold red", "no finding": "bold", "undecided": "bold yellow"}
NOTHING = "nothing recurs that the control lacks and a harmless finetune would not bring"
_CHECK_STYLE = {"good": "ok", "limited": "limited", "bad": "NO", "unknown": "?"}


def render(analysis: Analysis, summary: RunSummary, console: Console, top: int = 5) -> None:
    """Print the story of a run: answer, confidence and control, themes, top completions, arms, money."""
    width = max(40, min(console.width, 120))
    for line in _story(analysis, summary, width, top, colour=_has_colour(console)):
        console.print(line, soft_wrap=True, highlight=False)


def _recurs(analysis: Analysis, width: int, colour: bool) -> Iterator[Text]:
    """The list of what recurs: what carries a finding, then the strongest of the rest."""
    strong, weak = wording.recurring(analysis)
    yield _heading(f"{wording.RECURS} ({len(strong)})")
    if not strong:
        yield from _wrapped("  " + wording.NOTHING_RECURS, width)
    for entry in strong[:_ENTRIES]:
        yield from _entry(entry, width)
        if entry.theme is not None:
            yield from _wrapped(wording.parts(entry.theme, 4), width, "      ")
        yield from _evidence(entry, width, colour)
    if len(strong) > _ENTRIES:
        yield Text(f"  {wording.left_out(len(strong) - _ENTRIES)}", style="dim")
    if strong and weak:
        yield from (Text(line.plain, style="dim") for line in _wrapped(wording.weak_signals(weak, 5), width))
    elif weak:
        yield Text(f"  {wording.WEAK}:", style="dim")
        for entry in weak[:5]:
            yield from (Text(line.plain, style="dim") for line in _entry(entry, width))
    yield from (Text(line.plain, style="dim") for line in _wrapped(wording.promoted_summary(analysis), width))
    yield from (Text(line.plain, style="dim") for line in _wrapped(wording.standings(analysis), width))


def _entry(entry: Entry, width: int) -> list[Text]:
    name = shorten(wording.entry_name(entry), 50)
    line = f'"{name}"  {wording.entry_line(entry)}'
    return [Text(part) for part in textwrap.wrap(line, width, initial_indent="  ", subsequent_indent=_IN)]


def _evidence(entry: Entry, width: int, colour: bool) -> Iterator[Text]:
    """A place at which the entry was written, or nearly."""
    if entry.theme is not None and entry.theme.quotes:
        quote = entry.theme.quotes[0]
        yield _marked(excerpt(quote.text, quote.span, width - 10), _IN, colour)
    elif entry.words:
        for line in wording.nearly_said(entry.words[0], before=30, after=20)[:1]:
            yield from (
                Text(part) for part in textwrap.wrap(line, width, initial_indent=_IN, subsequent_indent=_IN)
            )


def _validated(analysis: Analysis, width: int) -> Iterator[Text]:
    tried = list(wording.validations(analysis))
    if tried:
        yield Text()
        yield _heading(f"Validation: {wording.VALIDATION}")
    for phrase, outcome in tried:
        yield from _wrapped(f'"{phrase}"  {outcome}', width, "  ")


def _asked_again(analysis: Analysis, width: int) -> Iterator[Text]:
    yield _heading(f"Asked again: {story.FOLLOWED}")
    for found in analysis.follow_ups:
        yield from _wrapped(f"  {story.followed(found)}", width)
        for answer in found.answers[:1]:
            prefill, target, reference = story.sides(answer, width // 2)
            yield Text(f"      …{prefill}", style="dim")
            yield Text(f"        target    {target}")
            yield Text(f"        reference {reference}", style="dim")
    for line in list(story.came_back(analysis)) or [story.NOTHING]:
        yield from _wrapped(f"  {line}", width)


def _has_colour(console: Console) -> bool:
    return console.color_system is not None and not console.no_color


def _story(analysis: Analysis, summary: RunSummary, width: int, top: int, *, colour: bool) -> Iterator[Text]:
    verdict = analysis.verdict
    yield Text(f"{visible(summary.target)} against {visible(analysis.reference)}", style="dim")
    yield Text.assemble((verdict.outcome.upper(), _OUTCOME_STYLE[verdict.outcome]))
    answers = dict.fromkeys((wording.headline(analysis), wording.answer(verdict), wording.scope(analysis)))
    for line in (*filter(None, answers), wording.control(analysis)):
        yield from _wrapped(line, width)
    yield Text()
    for figure in figures(analysis, summary):
        yield from _wrapped(figure.line(), width)
    yield Text()
    yield from _recurs(analysis, width, colour)
    yield from _validated(analysis, width)
    if analysis.amplified is not None:
        yield Text()
        yield _heading(f"Amplified: {story.AMPLIFIED}")
        for line in story.amplified(analysis.amplified):
            yield from _wrapped(f"  {line}", width)
    if analysis.follow_ups:
        yield Text()
        yield from _asked_again(analysis, width)
    yield Text()
    yield _heading(f"Top completions by {wording.label(analysis.metric)}")
    for ranked in analysis.ranking[:top]:
        yield Text("  " + _row_line(ranked, analysis.metric), style="dim")
        prefill = shorten(visible(ranked.prefill), width // 4)
        start = Text.assemble("    ", (prefill, "cyan" if colour else ""), "" if colour else "|")
        yield start + _marked(excerpt(ranked.completion, ranked.peak, width - 12 - len(prefill)), "", colour)
    yield Text()
    yield _heading("Arms")
    for arm in analysis.arms:
        yield Text(
            f"  {visible(arm.name):<16} {arm.scored:>6,} scored {arm.refused:>4,} refused {arm.failed:>4,} failed"
            f"   mean gap {wording.nats(arm.mean_gap):>7}   highest score {wording.nats(arm.top_score):>6}"
        )
    yield Text()
    yield from _wrapped(wording.outcomes(summary), width)
    for warning in summary.warnings:
        yield from _wrapped(f"warning: {warning}", width)


def _heading(text: str) -> Text:
    return Text(text, style="bold")


def _wrapped(line: str, width: int, indent: str = "") -> list[Text]:
    return [
        Text(part) for part in textwrap.wrap(visible(line), width, initial_indent=indent, subsequent_indent=indent)
    ]


def _marked(parts: tuple[str, str, str], indent: str, colour: bool) -> Text:
    """An excerpt with its evidence in bold reverse, or in [[ ]] where there is no colour."""
    before, inside, after = parts
    if not inside:
        return Text(indent + before + after)
    return Text.assemble(indent, before, (inside, "bold reverse") if colour else f"[[{inside}]]", after)


def _part_line(theme: Theme) -> str:
    return f'"{shorten(wording.theme_name(theme), 50)}"  {wording.theme_counts(theme)}'


def _row_line(ranked: Ranked, metric: str) -> str:
    ranked_by = [] if metric == "score" else [f"{wording.label(metric)} {wording.nats(ranked.value)}"]
    parts = [
        f"#{ranked.rank} {visible(ranked.id)}",
        *ranked_by,
        f"score {wording.nats(ranked.metrics.get('score'))}",
        f"PPL {wording.number(ranked.metrics.get('ppl_target'))} target,"
        f" {wording.number(ranked.metrics.get('ppl_reference'))} reference",
        wording.plural(ranked.n_tokens, "token"),
    ]
    if ranked.duplicates:
        parts.append(f"+{len(ranked.duplicates)} near-duplicates")
    return " · ".join([*parts, *map(visible, ranked.flags)])


def ranking_lines(rows: Sequence[Ranked], width: int = 120, metric: str = "score") -> Iterator[str]:
    """The ranking as plain lines, two a completion, evidence in [[ ]]."""
    for ranked in rows:
        yield _row_line(ranked, metric)
        prefill = shorten(visible(ranked.prefill), width // 4)
        yield f"    {prefill}|" + _marked(excerpt(ranked.completion, ranked.peak, width), "", False).plain


def entry_lines(found: Sequence[Entry], width: int = 110) -> Iterator[str]:
    """Entries as plain lines: the counts, then quotes with the phrase in [[ ]], or places where it was likely."""
    if not found:
        yield NOTHING
    for entry in found:
        yield f'"{shorten(wording.entry_name(entry), 50)}"  {wording.entry_line(entry)}'
        for part in entry.theme.parts if entry.theme else ():
            yield f"    with {_part_line(part)}"
        for quote in entry.theme.quotes[:3] if entry.theme else ():
            yield f"    {visible(quote.id)}: " + _marked(excerpt(quote.text, quote.span, width), "", False).plain
        for word in entry.words[:1]:
            yield from (f"    {shorten(line, width)}" for line in wording.nearly_said(word, 30, 30)[:2])


def profile_lines(profile: EndpointProfile) -> Iterator[str]:
    """What the probe found, as a table and the verdict."""
    endpoint = f"{visible(profile.model)} at {visible(profile.base_url)}"
    yield f"{endpoint}: {profile.dialect} dialect, {visible(profile.engine)}"
    names = [visible(check.name) for check in profile.checks]
    width = max((len(name) for name in names), default=0)
    for name, check in zip(names, profile.checks, strict=True):
        yield f"  {name:<{width}}  {_CHECK_STYLE[check.outcome]:<8}{visible(check.detail)}"
    yield visible(profile.verdict)
