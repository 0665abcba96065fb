"""What each tool takes: bounded, and nothing else is understood. No tool takes a URL, a key, a path or the cap."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from blackbox_diff.records import TURNS, Framing

MOST_SAMPLES = 8  # of one beginning, in one question

Label = Annotated[str, Field(min_length=1, max_length=200)]
TargetLabel = Annotated[str, Field(min_length=1, max_length=200, description="A target's label, see list_runs.")]
ReferenceLabel = Annotated[
    str, Field(min_length=1, max_length=200, description="A reference's label, see list_runs.")
]
RunName = Annotated[
    str, Field(min_length=1, max_length=120, description="A run's name, as list_runs and start_audit give it.")
]
OfReference = Annotated[
    Label | None, Field(description="Whose scores to read; the run's first reference by default.")
]
Wait = Annotated[
    float, Field(ge=0, le=600, description="Seconds to wait for the audit to end before the answer comes.")
]


class Arguments(BaseModel):
    """Base of all arguments."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ListRuns(Arguments):
    """What may be audited, what is left of the cap, and which runs there are."""


class Probe(Arguments):
    """Find out what an endpoint can do, in about a dozen tiny calls; asked once, then remembered."""

    endpoint: Annotated[Label, Field(description="A label of list_runs.")]
    purpose: Annotated[Literal["target", "reference"], Field(description="What the endpoint is to serve as.")] = (
        "target"
    )


class Design(Arguments):
    """What an audit is asked for with."""

    target: TargetLabel
    reference: ReferenceLabel
    completions: Annotated[int, Field(ge=1, le=20_000, description="Completions to buy of the target.")] = 300
    max_tokens: Annotated[int, Field(ge=1, le=512, description="Tokens per completion.")] = 64
    framing: Annotated[
        tuple[Framing, ...],
        Field(
            max_length=5,
            description="How prefills are sent; by default raw and chat, where the target allows them. turn, "
            "turn-bare: no prefill, the target writes the user's turn and answers it, in twice max_tokens.",
        ),
    ] = ()
    source: Annotated[
        tuple[Label, ...], Field(min_length=1, max_length=8, description="Corpora of prefills, see list_runs.")
    ] = ("prose",)
    control: Annotated[
        int | None, Field(ge=0, description="The reference's own completions; by default as many.")
    ] = None
    adaptive: Annotated[bool, Field(description="Spend calls where the gap is, and stop once it is stable.")] = (
        False
    )
    validation: Annotated[int | None, Field(ge=0, le=5000, description="Fresh completions that check themes.")] = (
        None
    )
    seed: Annotated[int, Field(ge=0, lt=2**31, description="Which prefills are drawn.")] = 0
    max_cost: Annotated[
        float | None, Field(ge=0, description="USD for this audit's target; within the cap over all runs.")
    ] = None


class Estimate(Design):
    """Calls, tokens and USD of an audit, and whether the cap has room for it; spends nothing."""


class StartAudit(Design):
    """Audit a target against a reference. Answers at once with the run's name; the audit goes on by itself.

    With wait_seconds the answer comes when the audit has ended, or after that time.
    """

    wait_seconds: Wait = 0


class Progress(Arguments):
    """Where an audit stands: bought, scored, cost, what recurs so far."""

    run: RunName
    wait_seconds: Wait = 0


class Cancel(Arguments):
    """Stop an audit. What is paid for is kept; `resume` goes on."""

    run: RunName


class Resume(Arguments):
    """Go on with a run that stopped or was cancelled; nothing is bought twice."""

    run: RunName
    completions: Annotated[
        int | None, Field(ge=1, le=20_000, description="Completions in all; can only grow.")
    ] = None
    max_cost: Annotated[
        float | None, Field(ge=0, description="USD for this audit's target; within the cap over all runs.")
    ] = None
    wait_seconds: Wait = 0


class Conclusion(Arguments):
    """The verdict of a run, its control and figures; the themes and words have tools of their own."""

    run: RunName
    reference: OfReference = None


class Themes(Arguments):
    """Content that recurs in high-gap completions of unrelated prefills, strongest first, with quotes."""

    run: RunName
    reference: OfReference = None
    limit: Annotated[int, Field(ge=1, le=30)] = 12
    quotes: Annotated[int, Field(ge=0, le=5, description="Quotes per theme.")] = 2


class Promoted(Arguments):
    """Words that the target finds likelier than the reference, written or not, strongest first."""

    run: RunName
    reference: OfReference = None
    limit: Annotated[int, Field(ge=1, le=60)] = 30
    style: Annotated[bool, Field(description="Also words that say how and not what.")] = False


class Completions(Arguments):
    """Completions of a run, a page at a time, those first that the target finds likeliest beside the reference."""

    run: RunName
    reference: OfReference = None
    theme: Annotated[int | None, Field(ge=1, description="Only those that hold this number of `themes`.")] = None
    arm: Annotated[Label | None, Field(description="Only of this arm, such as prose/raw.")] = None
    search: Annotated[
        str | None, Field(min_length=1, max_length=200, description="Only those that contain this, any case.")
    ] = None
    written_by: Annotated[
        Literal["target", "reference"], Field(description="The reference's own completions are the control.")
    ] = "target"
    offset: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1, le=50)] = 10
    max_bytes: Annotated[int, Field(ge=50, le=2000, description="Bytes of each text.")] = 400


class Ask(Arguments):
    """Test a hypothesis: target and reference complete your own prefills, and the reference scores the target.

    A hypothesis holds where the target's texts have a high gap and the reference's own say something else.
    """

    target: TargetLabel
    reference: ReferenceLabel
    prefills: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=2000)], ...],
        Field(max_length=20, description="Beginnings that both models go on with; none for turn and turn-bare."),
    ] = ()
    framing: Annotated[
        Framing | None,
        Field(
            description="raw: bare text. chat: the prefill begins the assistant's turn. user: the prefill is the "
            "user's turn. turn, turn-bare: the model writes the user's turn itself, behind a system prompt or "
            "without one, and answers it, in twice max_tokens. By default the first that takes a prefill."
        ),
    ] = None
    samples: Annotated[
        int, Field(ge=1, le=MOST_SAMPLES, description="Completions of each prefill, by each model.")
    ] = 2
    max_tokens: Annotated[int, Field(ge=1, le=256)] = 64
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0

    @field_validator("prefills")
    @classmethod
    def _is_text(cls, prefills: tuple[str, ...]) -> tuple[str, ...]:
        for prefill in prefills:
            if any("\ud800" <= character <= "\udfff" for character in prefill):
                raise ValueError("a prefill holds half a surrogate pair, which no model can read: leave it out")
        return prefills

    @model_validator(mode="after")
    def _begins_somewhere(self) -> Ask:
        if self.framing in TURNS and self.prefills:
            raise ValueError(f"prefills: {self.framing} takes none, since the model writes the user's turn itself")
        if self.framing not in TURNS and not self.prefills:
            raise ValueError("prefills: give at least one, or framing turn")
        return self


class Compare(Arguments):
    """What changed from one run to another, and whether both audited the same model."""

    old: RunName
    new: RunName
    reference: OfReference = None
