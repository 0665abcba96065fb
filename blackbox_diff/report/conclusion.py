"""A run's conclusion as one versioned object: what `--json` prints, what programs compare.

`contract` has its fields. `python -m blackbox_diff.report.conclusion` prints the schema.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from blackbox_diff.config.model import on_this_machine
from blackbox_diff.findings import Amplified, Analysis, Entry, Interval, Promoted, RunSummary, Theme, Validation
from blackbox_diff.report import wording
from blackbox_diff.report.contract import (
    AmplifiedPart,
    AnswerPart,
    ArmPart,
    Conclusion,
    ControlPart,
    EndpointPart,
    EntryPart,
    FigurePart,
    FollowUpPart,
    IntervalPart,
    MassValidationPart,
    PlacePart,
    PromotedPart,
    QuotePart,
    RatePart,
    ReferenceCostPart,
    SensitivityPart,
    StandingPart,
    ThemePart,
    ToolPart,
    ValidationPart,
    VerdictPart,
    WriterPart,
)
from blackbox_diff.report.figures import figures
from blackbox_diff.run.results import Results
from blackbox_diff.sanitize import finite


def conclude(results: Results) -> Conclusion:
    """The conclusion of what was read from a run."""
    analysis, summary = results.analysis, results.summary
    found = analysis.verdict
    return Conclusion(
        tool=ToolPart(version=importlib.metadata.version("blackbox-diff")),
        run=summary.run,
        created=summary.created,
        digest=summary.digest,
        seconds=summary.seconds,
        target=EndpointPart(model=summary.target, url=summary.target_url),
        reference=analysis.reference,
        references=list(summary.references),
        settings=dict(summary.settings),
        metric=analysis.metric,
        headline=wording.headline(analysis),
        verdict=VerdictPart(
            outcome=found.outcome,
            sentence=found.sentence,
            statistic=finite(found.statistic),
            p_value=finite(found.p_value),
            control=found.control,
        ),
        themes=[theme_part(theme) for theme in analysis.themes],
        signals=[theme_part(theme) for theme in analysis.signals],
        promoted=[promoted_part(each) for each in analysis.promoted],
        listed=analysis.listed,
        recurring=[entry_part(entry) for entry in analysis.recurring],
        standings=[StandingPart(**_finite(each)) for each in analysis.standings],
        masses=[MassValidationPart(**_finite(each)) for each in analysis.masses],
        amplified=_amplified(analysis.amplified),
        follow_ups=[
            FollowUpPart(
                phrase=each.phrase,
                why=each.why,
                asked=each.asked,
                returned=list(each.returned),
                answers=[AnswerPart(**_finite(answer)) for answer in each.answers],
            )
            for each in analysis.follow_ups
        ],
        returned=[theme_part(theme) for theme in analysis.returned],
        validation=[_validation(each) for each in analysis.validation],
        control=_control(analysis),
        kl_nats_per_token=_interval(analysis.kl_nats_per_token),
        top_stability=finite(analysis.top_stability),
        figures=[
            FigurePart(key=each.key, name=each.name, value=finite(each.value), shown=each.shown, note=each.note)
            for each in figures(analysis, summary)
        ],
        scope=wording.scope(analysis),
        sensitivity=None if analysis.sensitivity is None else SensitivityPart(**_finite(analysis.sensitivity)),
        arms={arm.name: ArmPart(**_finite(arm)) for arm in analysis.arms},
        **_costs(summary),
    )


def as_json(conclusion: Conclusion) -> str:
    """One line of JSON, without NaN."""
    return conclusion.model_dump_json(by_alias=True)


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a conclusion."""
    return Conclusion.model_json_schema(by_alias=True)


def _costs(summary: RunSummary) -> dict[str, Any]:
    return {
        "completions": summary.completions,
        "scored": summary.scored,
        "refused": dict(summary.refused),
        "failed": dict(summary.failed),
        "calls": summary.calls,
        "input_tokens": summary.input_tokens,
        "output_tokens": summary.output_tokens,
        "cost_usd": finite(summary.cost_usd),
        "max_cost_usd": finite(summary.max_cost_usd),
        "reference_costs": [
            ReferenceCostPart(
                reference=each.label,
                calls=each.calls,
                input_tokens=each.input_tokens,
                output_tokens=each.output_tokens,
                cost_usd=finite(each.cost_usd),
                free=each.cost_usd is None and on_this_machine(each.url),
            )
            for each in summary.endpoints[1:]
        ],
        "writer": None
        if summary.writer is None
        else WriterPart(**{name: getattr(summary.writer, name) for name in WriterPart.model_fields}),
        "stopped_because": summary.stopped_because,
        "warnings": list(summary.warnings),
        "rounds": [asdict(each) for each in summary.rounds],
    }


def theme_part(theme: Theme) -> ThemePart:
    """One theme as plain data: what `themes --json` prints a line of."""
    return ThemePart(
        phrase=theme.phrase,
        terms=list(theme.terms),
        count=theme.count,
        prefills=theme.prefills,
        background=theme.background,
        mean_gap=finite(theme.mean_gap),
        score=finite(theme.score),
        stability=finite(theme.stability),
        quotes=[QuotePart(id=q.id, text=q.text, span=(q.span.start, q.span.end)) for q in theme.quotes],
        parts=[theme_part(part) for part in theme.parts],
    )


def entry_part(entry: Entry) -> EntryPart:
    """One entry of what recurs as plain data: what `themes --json` prints a line of."""
    if entry.theme is not None:
        written = theme_part(entry.theme)
    else:
        first = entry.words[0]
        written = ThemePart(
            phrase=entry.phrase, terms=[word.phrase for word in entry.words], count=first.written,
            prefills=first.prefills, background=first.background, mean_gap=None, score=None, stability=None,
            quotes=[], parts=[],
        )  # fmt: skip
    standing = None if entry.standing is None else StandingPart(**_finite(entry.standing))
    return EntryPart(
        **{**dict(written), "phrase": entry.phrase},
        strength=entry.strength, strong=entry.strong, content=entry.content,
        nearly=[promoted_part(word) for word in entry.words], standing=standing,
    )  # fmt: skip


def promoted_part(found: Promoted) -> PromotedPart:
    """One promoted word as plain data."""
    return PromotedPart(
        word=found.word,
        phrase=found.phrase,
        strength=finite(found.strength),
        target=found.target,
        reference=found.reference,
        prefills=found.prefills,
        p_value=found.p_value,
        q_value=found.q_value,
        style=found.style,
        written=found.written,
        background=found.background,
        long=found.long,
        beside=list(found.beside),
        places=[PlacePart(**_finite(place)) for place in found.places],
    )


def _amplified(found: Amplified | None) -> AmplifiedPart | None:
    if found is None:
        return None
    themes, texts = [theme_part(theme) for theme in found.themes], [asdict(each) for each in found.texts]
    return AmplifiedPart.model_validate({**_finite(found), "themes": themes, "texts": texts})


def _validation(found: Validation) -> ValidationPart:
    target, reference = (RatePart(hits=hits, n=n) for hits, n in (found.target, found.reference))
    difference = found.difference
    return ValidationPart(
        phrase=found.phrase,
        confirmed=found.confirmed,
        target=target,
        reference=reference,
        difference=None if difference is None else difference.value,
        interval=None if difference is None else (difference.low, difference.high),
        level=None if difference is None else difference.level,
        contexts=list(found.contexts),
        e_value=finite(found.e_value),
        needed=finite(found.needed),
    )


def _control(analysis: Analysis) -> ControlPart | None:
    found = analysis.control
    if found is None:
        return None
    return ControlPart(
        name=found.name,
        n=found.n,
        max_score=finite(found.max_score),
        best_ten=finite(found.best_ten),
        mean_gap=finite(found.mean_gap),
    )


def _interval(found: Interval | None) -> IntervalPart | None:
    if found is None or None in (fields := _finite(found)).values():
        return None
    return IntervalPart(**fields)


def _finite(value: Any) -> dict[str, Any]:
    """A flat value of `findings` as keyword arguments, without NaN and infinities."""
    names: Iterable[str] = value.__dataclass_fields__
    fields: Mapping[str, Any] = {name: getattr(value, name) for name in names}
    return {name: finite(each) if isinstance(each, float) else each for name, each in fields.items()}


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2))
