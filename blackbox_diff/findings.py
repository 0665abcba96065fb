"""What was concluded from a run: values without behaviour.

Units: logprobs in nats, offsets in bytes of the UTF-8 text, money in USD. None is a missing number.
One long module, because every room reads these values together and they change for one reason: more is concluded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from blackbox_diff.records import Framing, Json, Sample


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open byte range of the completion's text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Segment:
    """The smallest run of bytes that starts and ends on a token boundary of both models.

    Logprob sums in nats; None on a side with a missing value: the segment is left out of statistics.
    """

    start: int
    end: int
    target: float | None
    reference: float | None


@dataclass(frozen=True, slots=True)
class Copy:
    """A near-duplicate that is folded into a better row of the ranking, perhaps of another arm.

    gap, score: nats per token, as in `Ranked.metrics`; None where undefined, and score where it is a loop.
    """

    id: str
    prefill: str
    completion: str
    value: float  # of the metric that ranks
    arm: str
    gap: float | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Recurring:
    """A word or pair of words of a completion, and what it shows after other prefills.

    prefills: distinct other prefills whose completions hold it. nats: its mean gap per word there, shrunk towards
    0.
    """

    words: str
    prefills: int
    nats: float


@dataclass(frozen=True, slots=True)
class Ranked:
    """One row of the ranking.

    value: of the metric that ranks; 0 where that is undefined. metrics: every score by name, `score` among them;
    None = undefined. recurring: the words that vouch for it most, strongest first.
    """

    rank: int
    id: str
    source: str
    framing: Framing
    prefill: str
    completion: str
    n_tokens: int
    value: float
    metrics: Mapping[str, float | None]
    flags: tuple[str, ...] = ()
    copies: tuple[Copy, ...] = ()
    peak: Span | None = None
    segments: tuple[Segment, ...] = ()
    recurring: tuple[Recurring, ...] = ()

    @property
    def group(self) -> str:
        """What it shares with related completions: the prefill, where there is one."""
        return self.prefill or self.id

    @property
    def duplicates(self) -> tuple[str, ...]:
        """Ids of the near-duplicates."""
        return tuple(copy.id for copy in self.copies)


@dataclass(frozen=True, slots=True)
class Quote:
    """A stretch of one completion that carries a theme: `span` is the phrase in `text`."""

    id: str
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Theme:
    """Content that recurs in high-gap completions across unrelated prefills.

    phrase: as it is mostly written. terms: it, and other wordings that stand in the same completions.
    count, prefills: completions that hold the phrase in any form of its words, and their distinct prefills.
    background: the reference's own completions that hold it.
    mean_gap: nats per token over the completions that hold it.
    stability: share of resamples (of the prefills, and of the background's counts) in which it stays among the top
        themes; None for a part.
    parts: what comes with the theme beyond chance, each with its own count: what is said inside a world, the
        satellites of a story. One level deep.
    """

    phrase: str
    terms: tuple[str, ...]
    count: int
    prefills: int
    background: int
    mean_gap: float
    score: float
    stability: float | None
    quotes: tuple[Quote, ...]
    parts: tuple[Theme, ...] = ()
    ids: tuple[str, ...] = ()  # of the completions that hold it, copies of a row left out


@dataclass(frozen=True, slots=True)
class PromotedPlace:
    """Where a promoted word was likely: what stood before, what was written, and what was nearly written.

    target, reference: the word's probabilities at both models; of the reference's the most that its list allows.
    """

    id: str
    before: str
    written: str
    nearly: str
    target: float
    reference: float


@dataclass(frozen=True, slots=True)
class Promoted:
    """A word to which the target gives more probability than the reference, written or not.

    phrase: the word with what stands around it at most places, or nearly does (analysis/contexts.py). strength:
    analysis/promoted.py's statistic, nats.
    target, reference: probabilities summed over positions, each prefill at most 0.25: expected uses, roughly.
    prefills: distinct ones after which the target promotes it noticeably. p_value: of one model for both, by sign
    flips over prefills; q_value: false discovery rate over words. style: says how and not what.
    written, background: of the target's completions and of the reference's own, those that hold it. long: written
    in several tokens, so that its masses rest on the places where it was written (analysis/long_words.py). beside:
    other promoted words that could stand at the same places, most alike first (analysis/fields.py).
    """

    word: str
    phrase: str
    strength: float
    target: float
    reference: float
    prefills: int
    p_value: float
    q_value: float
    style: bool = False
    places: tuple[PromotedPlace, ...] = ()
    written: int = 0
    background: int = 0
    long: bool = False
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that recurs, with what was written of it and what was nearly written.

    phrase: the theme's where that carries a finding, else of the stronger kind of evidence. strength: the sum over
    both kinds of strength / what a finding needs. strong: whether one kind alone carries a finding. content:
    whether it says what, and not only how much or when.
    theme: what was written, None where no phrase of it recurs; words: what was nearly written, strongest first,
    and standing: where the first of them that is not long stands among harmless finetunes, None where not known.
    """

    phrase: str
    strength: float
    strong: bool
    content: bool
    theme: Theme | None
    words: tuple[Promoted, ...] = ()
    standing: Standing | None = None


@dataclass(frozen=True, slots=True)
class Interval:
    """A point estimate with its confidence interval."""

    value: float
    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class Round:
    """A round of an adaptive run: the completions that each arm was given, and what was believed after it.

    bought: completions in all, to its end. p_value, outcome: the verdict's. themes: phrases, strongest first.
    decisions: what was done then, and why, in order; none in runs of earlier versions.
    """

    given: Mapping[str, int]
    bought: int
    outcome: str
    p_value: float | None
    themes: tuple[str, ...]
    decisions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """Something to ask again: what counts as it, and the samples to buy on both sides.

    why: what led to it, where it is followed up and not validated.
    """

    phrase: str
    terms: tuple[str, ...]
    samples: tuple[Sample, ...]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One prefill that was asked again, and what either side wrote; None where a side gave nothing."""

    id: str
    prefill: str
    target: str | None
    reference: str | None


@dataclass(frozen=True, slots=True)
class FollowUp:
    """One lead, asked again where it leaks: a lead still, at chosen places, and no rate.

    phrase: what was followed; "" for the places with the highest gap. asked: completions that the target wrote.
    answers: the clearest. returned: phrases that came back in its completions and are rare in the reference's.
    """

    phrase: str
    why: str
    asked: int
    answers: tuple[Answer, ...]
    returned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AmplifiedText:
    """A text that was drawn token by token behind a prefill."""

    id: str
    prefill: str
    text: str


@dataclass(frozen=True, slots=True)
class Amplified:
    """Texts drawn token by token towards what the target says more than the reference: leads, and no rate.

    rows, tokens: that were written. ended: rows that the target ended early; lost: where a side gave no list;
    junk: that loop or hold no word. themes: what recurs in them and is rare in the control. texts: of the highest
    gap. skipped: why none was written, "" otherwise.
    """

    rows: int
    tokens: int
    ended: int
    lost: int
    junk: int
    themes: tuple[Theme, ...]
    texts: tuple[AmplifiedText, ...]
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class Validation:
    """A theme on fresh completions of its own contexts, which the ranking never sees.

    hits of n completions hold the theme, at the target and at the reference; contexts: the prefills, words
    that stood before the theme. difference: target's rate less the reference's, None without completions; its
    interval describes the counts. e_value: of design/betting.py, with what was needed; it confirms.
    """

    phrase: str
    target: tuple[int, int]  # hits, n
    reference: tuple[int, int]
    difference: Interval | None
    contexts: tuple[str, ...] = ()
    confirmed: bool = False
    e_value: float = 1.0
    needed: float = 0.0


@dataclass(frozen=True, slots=True)
class MassValidation:
    """A promoted word on fresh completions, which the search never sees.

    target, reference: its probabilities summed over their positions, each prefill at most 0.25. prefills: distinct
    ones. p_value: of one model for both, by sign flips over prefills. confirmed: design/mass.py says when.
    """

    word: str
    target: float
    reference: float
    prefills: int
    p_value: float
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the strongest evidence of one kind stands among harmless finetunes (analysis/bank.py).

    kind: "themes" (written text), "promoted" (words that are likelier) or "style" (such words that say how, not
    what). strength: of promoted words how far the first stands out. stronger_than of `of` harmless models;
    p_value: that the target is one more of them, at least 1 / (of + 1). bank: their base.
    """

    kind: str
    strength: float
    stronger_than: int
    of: int
    p_value: float
    bank: str


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What a run of this size would have seen: wording that recurs in `rate` of the completions, with `power`.

    count: unrelated prefills in which it must recur to be a finding. nats: of gap on the wording, as is assumed.
    """

    rate: float
    power: float
    count: int
    nats: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to "is there anything here?".

    outcome: "finding", "no finding" (at this budget; never "clean"), or "undecided".
    p_value: that the target is the control's own model; None where that is not what is said.
    """

    outcome: Literal["finding", "no finding", "undecided"]
    sentence: str
    statistic: float | None
    p_value: float | None
    control: str


@dataclass(frozen=True, slots=True)
class ControlSummary:
    """What the same pipeline says where there is nothing to find.

    max_score, best_ten: highest score, and mean of the ten highest; loops are left out, as they are of `scores`.
    highest_value: by the metric that ranks.
    """

    name: str
    n: int
    max_score: float | None
    best_ten: float | None
    highest_value: float | None
    mean_gap: float | None
    scores: tuple[float, ...] = ()
    ppl: tuple[tuple[float, float], ...] = ()  # (target, reference) perplexities, for the scatter


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """What one arm gave: outcomes, and the gap of all its scored completions in nats per token."""

    name: str
    scored: int
    refused: int
    failed: int
    unpaid: int
    mean_gap: float | None
    top_score: float | None


@dataclass(frozen=True, slots=True)
class Analysis:
    """Everything that is derived offline from a run's completions and scores.

    themes: what recurs as strongly as is claimed; signals: what recurs too, no stronger than the habits of a
        harmless finetune can be, so that nobody takes noise for content.
    controls: the control's own ranking, without segments, so that it can be read beside the target's.
    order: ids of the target's completions in the order in which they were bought.
    promoted: words that the target finds likelier than the reference, written or not; content before style.
    recurring: themes, signals and promoted words of content as one list (analysis/entries.py): what carries a
        finding first, then by strength.
    listed: completions in which both models listed alternatives; 0 where promoted words could not be looked for.
    """

    reference: str
    metric: str
    ranking: tuple[Ranked, ...]
    themes: tuple[Theme, ...]
    verdict: Verdict
    control: ControlSummary | None
    kl_nats_per_token: Interval | None
    top_stability: float | None
    arms: tuple[ArmSummary, ...]
    signals: tuple[Theme, ...] = ()
    controls: tuple[Ranked, ...] = ()
    order: tuple[str, ...] = ()
    sensitivity: Sensitivity | None = None
    promoted: tuple[Promoted, ...] = ()
    listed: int = 0
    recurring: tuple[Entry, ...] = ()
    standings: tuple[Standing, ...] = ()  # of the strongest evidence of each kind, among harmless finetunes
    masses: tuple[MassValidation, ...] = ()  # promoted words on fresh completions, strongest first
    amplified: Amplified | None = None  # leads alone, apart from everything else
    follow_ups: tuple[FollowUp, ...] = ()  # apart from everything above: on completions of their own
    returned: tuple[Theme, ...] = ()  # what recurs in the target's follow-ups and is rare in the reference's
    validation: tuple[Validation, ...] = ()  # apart from all of it: on fresh completions


@dataclass(frozen=True, slots=True)
class EndpointSummary:
    """One endpoint of a run: how it was reached, what the probe found, and what was asked of it.

    profile: the probe's, as plain data; None where there was none. cost_usd: None where no price is known.
    """

    label: str
    model: str
    url: str
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    profile: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The run as money and provenance: what a report prints around an Analysis."""

    run: str
    target: str
    target_url: str
    references: tuple[str, ...]
    created: str
    stopped_because: str
    calls: int
    completions: int
    scored: int
    refused: Mapping[str, int]
    failed: Mapping[str, int]
    unpaid: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    max_cost_usd: float | None
    seconds: float
    settings: Mapping[str, Json]
    warnings: tuple[str, ...] = ()
    rounds: tuple[Round, ...] = ()  # of an adaptive run
    version: str = ""  # of the tool that bought the run
    digest: str | None = None  # of the whole run file, in hexadecimal; None where an older version made it
    endpoints: tuple[EndpointSummary, ...] = ()  # the target first, then the references
    writer: EndpointSummary | None = None  # of the openings of the source `writer`, where there is one
    caps: Mapping[str, Json] = field(
        default_factory=dict
    )  # by the names of the options; None: no cap of that kind

    @property
    def beside(self) -> tuple[EndpointSummary, ...]:
        """Who was asked beside the target: the references, and the writer."""
        return (*self.endpoints[1:], *(() if self.writer is None else (self.writer,)))
