"""From a run's results to a tool's bounded answer: pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from blackbox_diff.agents import answers, arguments
from blackbox_diff.agents.problems import ToolError
from blackbox_diff.agents.untrusted import Untrusted, clip
from blackbox_diff.findings import Analysis, Entry, Promoted, Ranked, Theme
from blackbox_diff.fleet.compare import Comparison, ThemeChange
from blackbox_diff.report import wording
from blackbox_diff.report.conclusion import conclude
from blackbox_diff.run.results import Results
from blackbox_diff.sanitize import cut, finite

PHRASE, QUOTE, SENTENCE = 160, 400, 1000  # bytes
TERMS, PARTS, PLACES, RECURRING = 6, 6, 4, 8


def concluded(run: str, results: Results) -> answers.Concluded:
    """The verdict with its control."""
    found, analysis = conclude(results), results.analysis
    control = found.control
    return answers.Concluded(
        run=run,
        target=found.target.model,
        reference=found.reference,
        references=found.references,
        outcome=found.verdict.outcome,
        headline=clip(found.headline, SENTENCE),
        sentence=clip(found.verdict.sentence, SENTENCE),
        p_value=found.verdict.p_value,
        control=None
        if control is None
        else answers.Control(
            completions=control.n,
            best_ten=control.best_ten,
            max_score=control.max_score,
            mean_gap=control.mean_gap,
        ),
        standings=[
            answers.Standing(kind=each.kind, stronger_than=each.stronger_than, of=each.of, p_value=each.p_value)
            for each in found.standings
        ],
        recurring=[_recurring(entry, analysis) for entry in analysis.recurring[:RECURRING]],
        themes=len(analysis.themes),
        signals=len(analysis.signals),
        promoted_words=sum(not word.style for word in analysis.promoted),
        figures=[answers.Figure(name=each.name, shown=each.shown) for each in found.figures],
        completions=found.completions,
        scored=found.scored,
        target_usd=found.cost_usd,
        stopped_because=clip(found.stopped_because, SENTENCE),
        warnings=[clip(each, SENTENCE) for each in found.warnings[:10]],
        scope=clip(found.scope, SENTENCE),
    )


def _recurring(entry: Entry, analysis: Analysis) -> answers.Recurring:
    every = (*analysis.themes, *analysis.signals)
    return answers.Recurring(
        phrase=clip(entry.phrase, PHRASE),
        carries_finding=entry.strong,
        strength=entry.strength,
        theme=None if entry.theme is None else every.index(entry.theme) + 1,
        words=[clip(word.word, PHRASE) for word in entry.words[:TERMS]],
        harmless_p=None if entry.standing is None else entry.standing.p_value,
    )


def themes(asked: arguments.Themes, analysis: Analysis) -> answers.ThemeList:
    """Themes, then signals, numbered through."""
    every = (*analysis.themes, *analysis.signals)
    return answers.ThemeList(
        run=asked.run,
        reference=analysis.reference,
        outcome=analysis.verdict.outcome,
        themes=[
            _theme(theme, number, number <= len(analysis.themes), asked.quotes)
            for number, theme in enumerate(every[: asked.limit], start=1)
        ],
        more=max(0, len(every) - asked.limit),
    )


def _theme(theme: Theme, number: int, strong: bool, quotes: int) -> answers.ThemeLine:
    return answers.ThemeLine(
        number=number,
        kind="theme" if strong else "signal",
        phrase=clip(wording.theme_name(theme), PHRASE),
        terms=[clip(term, PHRASE) for term in theme.terms[:TERMS]],
        completions=theme.count,
        prefills=theme.prefills,
        in_control=theme.background,
        mean_gap=finite(theme.mean_gap),
        stability=finite(theme.stability),
        with_it=[
            answers.ThemePart(phrase=clip(part.phrase, PHRASE), completions=part.count, in_control=part.background)
            for part in theme.parts[:PARTS]
        ],
        quotes=[answers.Quoted(id=each.id, text=clip(each.text, QUOTE)) for each in theme.quotes[:quotes]],
    )


def promoted(asked: arguments.Promoted, analysis: Analysis) -> answers.PromotedList:
    """Promoted words, those of style only where they are asked for."""
    words = [word for word in analysis.promoted if asked.style or not word.style]
    return answers.PromotedList(
        run=asked.run,
        reference=analysis.reference,
        listed=analysis.listed,
        words=[_word(word) for word in words[: asked.limit]],
        more=max(0, len(words) - asked.limit),
    )


def _word(found: Promoted) -> answers.PromotedWord:
    return answers.PromotedWord(
        word=clip(found.word, PHRASE),
        phrase=clip(found.phrase, PHRASE),
        beside=[clip(word, PHRASE) for word in found.beside],
        target=found.target,
        reference=found.reference,
        prefills=found.prefills,
        p_value=found.p_value,
        q_value=found.q_value,
        style=found.style,
        places=[
            answers.Place(
                before=clip(place.before[-PHRASE:], PHRASE),
                written=clip(place.written, PHRASE),
                nearly=clip(place.nearly, PHRASE),
                target=place.target,
                reference=place.reference,
            )
            for place in found.places[:PLACES]
        ],
    )


def completions(asked: arguments.Completions, analysis: Analysis) -> answers.CompletionPage:
    """A page of the ranking, or of the control's. Raises ToolError for a theme or arm that there is not."""
    rows = _chosen(asked, analysis)
    page = rows[asked.offset : asked.offset + asked.limit]
    after = asked.offset + len(page)
    return answers.CompletionPage(
        run=asked.run,
        reference=analysis.reference,
        written_by=asked.written_by,
        total=len(rows),
        offset=asked.offset,
        next_offset=after if after < len(rows) else None,
        completions=[_line(row, asked.max_bytes) for row in page],
    )


def _chosen(asked: arguments.Completions, analysis: Analysis) -> Sequence[Ranked]:
    rows: Sequence[Ranked] = analysis.ranking if asked.written_by == "target" else analysis.controls
    if asked.theme is not None:
        every = (*analysis.themes, *analysis.signals)
        if asked.theme > len(every):
            raise ToolError(
                "bad_argument",
                f"theme: there is no theme {asked.theme}, the run has {len(every)}",
                "take a number of `themes`, or leave theme out and use search",
            )
        ids = set(every[asked.theme - 1].ids)
        rows = [row for row in rows if row.id in ids]
    if asked.arm is not None:
        arms = sorted({f"{row.source}/{row.framing}" for row in rows})
        if asked.arm not in arms and rows:
            raise ToolError(
                "bad_argument", f"arm: there is no such arm among {', '.join(arms)}", "take one of those, or none"
            )
        rows = [row for row in rows if f"{row.source}/{row.framing}" == asked.arm]
    if asked.search is not None:
        wanted = asked.search.casefold()
        rows = [row for row in rows if wanted in row.completion.casefold()]
    return rows


def _line(row: Ranked, most: int) -> answers.CompletionLine:
    evidence: Untrusted | None = None
    if row.peak is not None:
        evidence = clip(cut(row.completion, row.peak)[1], PHRASE)
    return answers.CompletionLine(
        id=row.id,
        rank=row.rank,
        arm=f"{row.source}/{row.framing}",
        prefill=clip(row.prefill, PHRASE),
        text=clip(row.completion, most),
        evidence=evidence,
        score=finite(row.metrics.get("score")),
        gap=finite(row.metrics.get("gap_nats_per_token")),
        tokens=row.n_tokens,
        flags=list(row.flags),
        copies=len(row.copies),
    )


def compared(old: str, new: str, found: Comparison) -> answers.Compared:
    """Two runs side by side."""
    return answers.Compared(
        old=old,
        new=new,
        outcome=found.outcome,
        sentence=clip(found.sentence, SENTENCE),
        first_tokens_nats=None if found.first_tokens is None else found.first_tokens.value,
        gap_shift=finite(found.gap_shift),
        gap_p_value=finite(found.gap_p_value),
        word_p_value=found.word_p_value,
        words=[
            answers.WordChange(word=clip(word, PHRASE), old=before, new=after)
            for word, before, after in found.words[:20]
        ],
        gained=[_change(each) for each in found.gained[:10]],
        lost=[_change(each) for each in found.lost[:10]],
    )


def _change(found: ThemeChange) -> answers.Change:
    return answers.Change(
        phrase=clip(found.phrase, PHRASE),
        old=found.old,
        old_of=found.old_of,
        new=found.new,
        new_of=found.new_of,
    )
