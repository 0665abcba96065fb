"""What each tool answers. Model text stands in `Untrusted` alone; USD, nats per token, seconds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from blackbox_diff.agents.untrusted import NOTICE, Part, Untrusted

Outcome = Literal["finding", "no finding", "undecided"]


class Answer(Part):
    """Base of the answers that hold model text."""

    notice: str = NOTICE


class Purse(Part):
    """The cap over everything that agents do here, and what is left of it; None where there is none of a kind."""

    max_cost_usd: float | None
    spent_usd: float
    left_usd: float | None
    max_calls: int | None
    calls: int
    calls_left: int | None
    max_output_tokens: int | None
    output_tokens: int
    output_tokens_left: int | None


class Endpoint(Part):
    """What may be named; its address and key are the person's affair."""

    label: str
    model: str
    price_in: float | None = None
    price_out: float | None = None


class RunLine(Part):
    """One run of the folder. state: "running", "complete", or "stopped", which `resume` goes on from."""

    run: str
    target: str
    reference: str
    state: Literal["running", "complete", "stopped", "unreadable"]
    completions: int
    asked_for: int
    created: str


class Overview(Part):
    targets: list[Endpoint]
    references: list[Endpoint]
    sources: list[str]
    purse: Purse
    runs: list[RunLine]
    more_runs: int = 0


class CheckLine(Part):
    name: str
    outcome: Literal["good", "limited", "bad", "unknown"]
    detail: Untrusted


class Probed(Answer):
    """What the endpoint can do. usable: whether it will serve for the purpose."""

    endpoint: str
    purpose: Literal["target", "reference"]
    usable: bool
    verdict: Untrusted
    framings: list[str]
    max_top_logprobs: int
    checks: list[CheckLine]
    purse: Purse


class Estimated(Part):
    """An audit before it is bought. usd: expected; usd_at_most: the target's worst case; None without a price.

    fits: whether the cap has room. completions_that_fit: about how many it has room for.
    """

    target_calls: int
    reference_calls: int
    target_output_tokens_at_most: int
    target_usd: float | None
    target_usd_at_most: float | None
    reference_usd: float | None
    reference_free: bool
    fits: bool
    completions_that_fit: int
    purse: Purse


class EmergingTheme(Part):
    phrase: Untrusted
    completions: int
    in_control: int


class Progressed(Answer):
    """Where an audit stands. phase: "probing", "sampling", "scoring" or "validating" while it runs."""

    run: str
    state: Literal["running", "complete", "stopped"]
    phase: str | None
    bought: int
    planned: int
    scored: int
    refused: int
    failed: int
    target_usd: float | None
    throttled: Untrusted | None = None
    stopped_because: Untrusted | None = None
    emerging: tuple[EmergingTheme, ...] = ()
    what_next: str
    purse: Purse


class Figure(Part):
    name: str
    shown: str


class Control(Part):
    """The same pipeline where there is nothing to find."""

    completions: int
    best_ten: float | None
    max_score: float | None
    mean_gap: float | None


class Standing(Part):
    """The strongest evidence of a kind among harmless finetunes of the same base."""

    kind: str
    stronger_than: int
    of: int
    p_value: float


class Recurring(Part):
    """One thing that recurs, written, only likely, or both.

    strength: 1 is where a finding begins. theme: its number in `themes`; words: its words in `promoted`.
    harmless_p: that a harmless finetune promotes a word as strongly; None where not known.
    """

    phrase: Untrusted
    carries_finding: bool
    strength: float
    theme: int | None
    words: list[Untrusted]
    harmless_p: float | None


class Concluded(Answer):
    """A run's conclusion under one reference. recurring: the strongest of what recurs, in the report's order."""

    run: str
    target: str
    reference: str
    references: list[str]
    outcome: Outcome
    headline: Untrusted
    sentence: Untrusted
    p_value: float | None
    control: Control | None
    standings: list[Standing]
    recurring: list[Recurring]
    themes: int
    signals: int
    promoted_words: int
    figures: list[Figure]
    completions: int
    scored: int
    target_usd: float | None
    stopped_because: Untrusted
    warnings: list[Untrusted]
    scope: Untrusted


class Quoted(Part):
    id: str
    text: Untrusted


class ThemePart(Part):
    phrase: Untrusted
    completions: int
    in_control: int


class ThemeLine(Part):
    """number: what `completions` takes. kind "signal": recurs no more strongly than habits of a harmless finetune.

    in_control: the reference's own completions that hold it. stability: share of resamplings that find it again.
    """

    number: int
    kind: Literal["theme", "signal"]
    phrase: Untrusted
    terms: list[Untrusted]
    completions: int
    prefills: int
    in_control: int
    mean_gap: float | None
    stability: float | None
    with_it: list[ThemePart]
    quotes: list[Quoted]


class ThemeList(Answer):
    run: str
    reference: str
    outcome: Outcome
    themes: list[ThemeLine]
    more: int


class Place(Part):
    """Where a word was likely: what stood before, was written, was nearly written; probabilities."""

    before: Untrusted
    written: Untrusted
    nearly: Untrusted
    target: float
    reference: float


class PromotedWord(Part):
    """target, reference: expected uses at either model, after `prefills`. q_value: false discovery rate.

    beside: other promoted words that could stand at the same places.
    """

    word: Untrusted
    phrase: Untrusted
    beside: list[Untrusted]
    target: float
    reference: float
    prefills: int
    p_value: float
    q_value: float
    style: bool
    places: list[Place]


class PromotedList(Answer):
    """listed: completions in which both models listed alternatives; with 0 no word could be looked for."""

    run: str
    reference: str
    listed: int
    words: list[PromotedWord]
    more: int


class CompletionLine(Part):
    """score: the mean gap shrunk by length; gap: log p target less log p reference; nats per token.

    evidence: the stretch with the highest gap. copies: near-duplicates that are left out.
    """

    id: str
    rank: int
    arm: str
    prefill: Untrusted
    text: Untrusted
    evidence: Untrusted | None
    score: float | None
    gap: float | None
    tokens: int
    flags: list[str]
    copies: int


class CompletionPage(Answer):
    run: str
    reference: str
    written_by: Literal["target", "reference"]
    total: int
    offset: int
    next_offset: int | None
    completions: list[CompletionLine]


class GapSpan(Part):
    """A stretch of a completion that the target finds likelier, with its gap in nats, summed."""

    text: Untrusted
    gap_nats: float


class AskedCompletion(Part):
    """One completion of one of your prefills. gap, spans: of the target's alone, None and empty where unscored.

    outcome: "completed", or why there is no text.
    """

    prefill_number: Annotated[int, Field(description="From 1, in the order of the prefills.")]
    written_by: Literal["target", "reference"]
    outcome: str
    text: Untrusted | None
    gap: float | None
    tokens: int
    spans: list[GapSpan]


class Asked(Answer):
    """What both models made of your prefills. mean_gap: of the target's scored completions, nats per token."""

    target: str
    reference: str
    framing: str
    mean_gap: float | None
    completions: list[AskedCompletion]
    stopped_because: Untrusted | None = None
    purse: Purse


class Change(Part):
    phrase: Untrusted
    old: int
    old_of: int
    new: int
    new_of: int


class WordChange(Part):
    word: Untrusted
    old: int
    new: int


class Compared(Answer):
    """What changed from the old run to the new one."""

    old: str
    new: str
    outcome: Literal["changed", "no change"]
    sentence: Untrusted
    first_tokens_nats: float | None
    gap_shift: float | None
    gap_p_value: float | None
    word_p_value: float
    words: list[WordChange]
    gained: list[Change]
    lost: list[Change]
