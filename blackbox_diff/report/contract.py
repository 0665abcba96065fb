"""The contract of `--json`: every value of a conclusion, with its fields and units.

The models stand apart from the values in `findings`, so that an inner change can't change the contract unseen.
`conclusion.schema.json` beside this module is the JSON Schema of version 1; fields may be added to a version, and
never change their meaning or go.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

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


class WriterPart(_Part):
    """The chat model that wrote the openings of the source `writer`; USD as a reference's, and under the cap."""

    model: str
    url: str
    calls: Count
    input_tokens: Count
    output_tokens: Count
    cost_usd: float | None


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
    """A word that the target finds likelier than the reference; masses are sums; long: it takes several tokens.

    beside: other promoted words that could stand at the same places, most alike first.
    """

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
    long: bool = False
    beside: list[str] = Field(default_factory=list)
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
    writer: WriterPart | None = None
    stopped_because: str
    warnings: list[str]
    rounds: list[dict[str, Any]]
