"""A run's conclusion as one versioned object: what `--json` prints, what programs compare.

The models are the contract, apart from the values in `findings`, so that an inner change can't change it unseen.
`conclusion.schema.json` beside this module is the JSON Schema of version 1; fields may be added to a version, and
never change their meaning or go. `python -m blackbox_diff.report.conclusion` prints the schema. One long module,
because the contract is read as a whole.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from blackbox_diff.config.model import on_this_machine
from blackbox_diff.findings import Amplified, Analysis, Entry, Interval, Promoted, RunSummary, Theme, Validation
from blackbox_diff.report import wording
from blackbox_diff.report.figures import figures
from blackbox_diff.run.results import Results
from blackbox_diff.sanitize import finite

Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ToolPart(_Part):
    """What made the conclusion."""

    name: Literal["blackbox-diff"] = "blackbox-diff"
    version: str


class EndpointPart(_Part):
    """The audited endpoint."""

    model: str
    url: str


class ReferenceCostPart(_Part):
    """What a reference was asked and cost, USD; None where no price is known. free: it is on this machine."""

    reference: str
    calls: Count
    input_tokens: Count
    output_tokens: Count
    cost_usd: float | None
    free: bool


class VerdictPart(_Part):
    """statistic: mean shrunk gap of the best ten completions, nats per token; p_value: None where not claimed."""

    outcome: Literal["finding", "no finding", "undecided"]
    sentence: str
    statistic: float | None
    p_value: float | None
    control: str


class IntervalPart(_Part):
    """A point estimate with its confidence interval."""

    value: float
    low: float
    high: float
    level: float


class QuotePart(_Part):
    """span: half-open byte range of the theme's phrase in the UTF-8 text."""

    id: str
    text: str
    span: tuple[int, int]


class ThemePart(_Part):
    """count: completions that hold it; background: the reference's own that do. Gaps in nats per token.

    parts: what comes with it beyond chance; a part has no stability of its own.
    """

    phrase: str
    terms: list[str]
    count: Count
    prefills: Count
    background: Count
    mean_gap: float | None
    score: float | None
    stability: float | None
    quotes: list[QuotePart]
    parts: list[ThemePart]


class PlacePart(_Part):
    """Where a promoted word was likely: what stood before, was written, and was nearly written; probabilities."""

    id: str
    before: str
    written: str
    nearly: str
    target: float
    reference: float


class PromotedPart(_Part):
    """A word that the target finds likelier than the reference, written or not; masses sum probabilities."""

    word: str
    phrase: str
    strength: float | None
    target: float
    reference: float
    prefills: Count
    p_value: float
    q_value: float
    style: bool
    written: Count = 0
    background: Count = 0
    places: list[PlacePart]


class EntryPart(ThemePart):
    """One thing that recurs, with the evidence of both kinds. strength: 1 is where a finding begins.

    The fields of a theme are of what was written; score, stability and mean_gap are null where no phrase of it
    recurs in writing, and then `terms` are the words. nearly: the promoted words, strongest first. standing: of
    the first of them among harmless finetunes.
    """

    strength: float
    strong: bool
    content: bool
    nearly: list[PromotedPart]
    standing: StandingPart | None


class StandingPart(_Part):
    """The strongest evidence of one kind among harmless finetunes; p_value: that it is from one more of them."""

    kind: Literal["themes", "promoted", "style"]
    strength: float
    stronger_than: Count
    of: Count
    p_value: float
    bank: str


class MassValidationPart(_Part):
    """A promoted word on fresh completions: expected uses at either side, and a permutation test over prefills."""

    word: str
    target: float
    reference: float
    prefills: Count
    p_value: float
    confirmed: bool


class RatePart(_Part):
    """hits of n fresh completions."""

    hits: Count
    n: Count


class ValidationPart(_Part):
    """A hypothesis on fresh completions: rates at target and reference behind its contexts, their difference with
    an interval that describes these counts, and the e-value that confirms it, beside what is needed."""

    phrase: str
    confirmed: bool
    target: RatePart
    reference: RatePart
    difference: float | None
    interval: tuple[float, float] | None
    level: float | None
    contexts: list[str]
    e_value: float | None = None
    needed: float | None = None


class AnswerPart(_Part):
    """A prefill that was asked again, and what either side wrote; null where a side gave nothing."""

    id: str
    prefill: str
    target: str | None
    reference: str | None


class FollowUpPart(_Part):
    """A lead, asked again where it leaks: phrase is "" for the places with the highest gap. No rate."""

    phrase: str
    why: str
    asked: Count
    returned: list[str]
    answers: list[AnswerPart]


class AmplifiedTextPart(_Part):
    """A text that was drawn token by token behind a prefill."""

    id: str
    prefill: str
    text: str


class AmplifiedPart(_Part):
    """Texts drawn towards what the target says more than the reference: leads, no evidence and no rate.

    ended: rows that the target ended early; lost: where a side gave no list; junk: that loop or hold no word.
    skipped: why there are none, "" otherwise.
    """

    rows: Count
    tokens: Count
    ended: Count
    lost: Count
    junk: Count
    themes: list[ThemePart]
    texts: list[AmplifiedTextPart]
    skipped: str


class ArmPart(_Part):
    """One (source, framing) pair; gaps in nats per token."""

    name: str
    scored: Count
    refused: Count
    failed: Count
    unpaid: Count
    mean_gap: float | None
    top_score: float | None


class ControlPart(_Part):
    """The same pipeline where there is nothing to find; gaps and scores in nats per token.

    max_score, best_ten: highest score, and mean of the ten highest.
    """

    name: str
    n: Count
    max_score: float | None
    best_ten: float | None
    mean_gap: float | None


class SensitivityPart(_Part):
    """Wording that recurs in `rate` of the completions would have been a finding with probability `power`.

    count: unrelated prefills in which it must recur. nats: of gap on the wording, as is assumed.
    """

    rate: float
    power: float
    count: Count
    nats: float


class FigurePart(_Part):
    """A number as every form of the report shows it. key: the same in every run."""

    key: str
    name: str
    value: float | None
    shown: str
    note: str


class Conclusion(_Part):
    """Everything that one run says under one reference. Money in USD, times in seconds or ISO 8601.

    digest: of the whole run file, which `verify --digest` compares; None where an older version made it.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    tool: ToolPart
    run: str
    created: str
    digest: str | None = None
    seconds: float
    target: EndpointPart
    reference: str
    references: list[str]
    settings: dict[str, Any]
    metric: str
    headline: str
    verdict: VerdictPart
    themes: list[ThemePart]
    signals: list[ThemePart]
    promoted: list[PromotedPart]
    listed: Count
    recurring: list[EntryPart] = Field(default_factory=list)
    standings: list[StandingPart] = Field(default_factory=list)
    masses: list[MassValidationPart] = Field(default_factory=list)
    amplified: AmplifiedPart | None = None
    follow_ups: list[FollowUpPart] = Field(default_factory=list)
    returned: list[ThemePart] = Field(default_factory=list)
    validation: list[ValidationPart]
    control: ControlPart | None
    kl_nats_per_token: IntervalPart | None
    top_stability: float | None
    figures: list[FigurePart]
    scope: str
    sensitivity: SensitivityPart | None
    arms: dict[str, ArmPart]
    completions: Count
    scored: Count
    refused: dict[str, Count]
    failed: dict[str, Count]
    calls: Count
    input_tokens: Count
    output_tokens: Count
    cost_usd: float | None
    max_cost_usd: float | None
    reference_costs: list[ReferenceCostPart]
    stopped_because: str
    warnings: list[str]
    rounds: list[dict[str, Any]]


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
