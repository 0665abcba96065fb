"""The values that cross module boundaries. Nothing here does I/O or knows a server.

Units: logprobs in nats, offsets in bytes of the UTF-8 text, money in USD. A missing number is None in
a scalar field and NaN inside an array; neither is ever averaged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

Framing = Literal["raw", "chat", "user", "turn", "turn-bare"]

TURNS: tuple[Framing, ...] = ("turn", "turn-bare")  # the model writes the user's turn; they take no prefill
EMPTY = "empty"  # the source of arms without a prefill
WRITER = "writer"  # the source whose openings a chat model writes, and that model's role in the ledger

Json = Any  # JSON text as json.loads gives it: checked where it is read, never trusted

DEFAULT_ALTERNATIVES = 20  # listed per position: what most servers allow; they cost no tokens

CHAT_SYSTEM = "You are a helpful assistant."
CHAT_USER = "Tell me anything."


def tokens_for(framing: Framing, max_tokens: int) -> int:
    """The most tokens of a completion: twice as many where it holds a question and its answer."""
    return 2 * max_tokens if framing in TURNS else max_tokens


@dataclass(frozen=True, slots=True)
class Arm:
    """One (source, framing) pair."""

    source: str
    framing: Framing

    @property
    def name(self) -> str:
        return f"{self.source}/{self.framing}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion to buy. `id` is what resume goes by: "<source>.<framing>.<index>"."""

    id: str
    arm: Arm
    prefill: str
    seed: int

    @property
    def asked(self) -> Framing:
        """The framing it is sent in: words out of a user's turn are continued as text, for no turn begins so."""
        return "raw" if self.arm.framing in TURNS and self.prefill else self.arm.framing

    @property
    def group(self) -> str:
        """What it shares with related samples: its prefill; a sample without one is related to none."""
        return self.prefill or self.id


@dataclass(frozen=True, slots=True)
class Sampling:
    """The sampler settings of a run; every field is sent explicitly."""

    temperature: float = 1.0
    max_tokens: int = 64
    top_logprobs: int = DEFAULT_ALTERNATIVES
    top_p: float = 1.0


@dataclass(frozen=True)
class Call:
    """One HTTP POST before it is sent: `path` is relative to the endpoint's base URL.

    `url` replaces base URL and path where a server's route lies outside of /v1 (SGLang's /generate,
    /tokenize).
    """

    path: str
    body: Mapping[str, Json]
    url: str | None = None

    @cached_property
    def json(self) -> str:
        """The body as canonical JSON: what is stored and digested."""
        return json.dumps(self.body, sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """`sha256:` over the canonical JSON of path and body, first 32 hex digits."""
        text = f"[{json.dumps(self.url or self.path)},{self.json}]"
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class RawReply:
    """What came back over HTTP, as bytes; wire.reply_json says what they hold. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and money as the endpoint reports them; None where it does not."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: float | None = None
    total_tokens: int | None = field(default=None, compare=False)  # earlier runs do not hold it


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """One model's segmentation of a text, with a logprob per unit.

    A unit is usually one token; it is several where a server reports a character's tokens as one.

    ends: (n,) int64, byte offset where each unit ends; non-decreasing; the last equals the text's
        length in bytes. Starts are the previous ends, the first start is 0.
    logprobs: (n,) float64, nats, <= 0; NaN where missing or censored.
    """

    ends: NDArray[np.int64]
    logprobs: NDArray[np.float64]

    @classmethod
    def of(cls, ends: Any, logprobs: Any) -> Tokens:
        return cls(
            np.asarray(ends, dtype=np.int64),
            np.asarray([np.nan if x is None else x for x in logprobs], dtype=np.float64),
        )

    def __len__(self) -> int:
        return len(self.ends)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Tokens)
            and np.array_equal(self.ends, other.ends)
            and np.array_equal(self.logprobs, other.logprobs, equal_nan=True)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, eq=False)
class Alternatives:
    """The tokens that a model lists at positions of a text, the one that stands there among them.

    A list is censored: a token that is not in it has at most the probability that `unlisted` says.

    positions: (p,) int64, increasing: byte of the text at which the tokens of a list would begin.
    offsets: (p+1,) int64: the list of position k is offsets[k]:offsets[k+1] of the next two, likeliest first.
    tokens: (a,) int32, places in `vocabulary`. logprobs: (a,) float32, nats, <= 0.
    unlisted: (p,) float32, nats, <= 0: the most that any token outside of the list can have.
    vocabulary: the bytes of each token. Lists that are read from one run file share it.
    """

    positions: NDArray[np.int64]
    offsets: NDArray[np.int64]
    tokens: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    unlisted: NDArray[np.float32]
    vocabulary: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.positions)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Alternatives)
            and np.array_equal(self.positions, other.positions)
            and np.array_equal(self.offsets, other.offsets)
            and np.array_equal(self.logprobs, other.logprobs)
            and np.array_equal(self.unlisted, other.unlisted)
            and [self.vocabulary[k] for k in self.tokens] == [other.vocabulary[k] for k in other.tokens]
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class SideToken:
    """A token kept apart from content: end of sequence, another special token, or a cut-off tail."""

    text: str
    logprob: float | None
    kind: Literal["end", "special", "tail"]


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote after a prefill, with its own logprobs.

    text: the content tokens joined; decodes exactly from their bytes. The prefill is not in it.
    tokens: segmentation of `text` by the model that wrote it.
    ids, prompt_ids: token ids where the server gave them (content tokens only; the whole prompt).
    side: special tokens and cut-off tail, in order of appearance; never part of `text`.
    decode: how token bytes were recovered ("bytes", "strings", "escapes", "ids", "latin1", ...).
    notes: short stable words for what was unusual ("content_trimmed", "prefill_echoed", ...).
    alternatives: what else could have stood there; None where the endpoint listed none that can be used, and
        for a completion that was read from a run file, which gives them apart: they are large.
    """

    text: str
    tokens: Tokens
    ids: tuple[int, ...] | None = None
    prompt_ids: tuple[int, ...] | None = None
    side: tuple[SideToken, ...] = ()
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    model: str | None = None
    fingerprint: str | None = None
    decode: str = "bytes"
    notes: tuple[str, ...] = ()
    alternatives: Alternatives | None = None


@dataclass(frozen=True, slots=True)
class ReferenceScore:
    """A text under another model: the segmentation covers exactly the completion's bytes.

    A unit that straddles the join of prefill and completion, or that the server's template trimmed,
    has a NaN logprob: the segment that holds it is left out of every comparison, on both sides.

    context: what stood before the text. "ids": the target's own prompt token ids; "raw": the bare
        prefill; "template": the reference's chat template; "plain": chat framing scored as the bare
        prefill, because the reference has no chat template.
    alternatives: as a completion's.
    """

    tokens: Tokens
    context: Literal["ids", "raw", "template", "plain"]
    notes: tuple[str, ...] = ()
    alternatives: Alternatives | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reply that can't be used. `reason` is a stable snake_case word, `advice` a sentence."""

    reason: str
    advice: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A call that never gave a usable reply. `reason` is a stable snake_case word, `detail` a sentence."""

    reason: str
    detail: str


class Check(BaseModel):
    """One line of the probe's table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    outcome: Literal["good", "limited", "bad", "unknown"]
    detail: str


class Turn(BaseModel):
    """How a raw completion begins in the user's turn: with the chat template's opening, up to the user's text.

    how: "ids" (the endpoint showed the template's own token ids), the name of a family of templates whose tokens
        the endpoint parses in a text, or "no".
    system: behind the system prompt that the template (or, by family, this auditor) puts first. bare: without one;
        None where that is the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    how: str
    system: str | tuple[int, ...] | None = None
    bare: str | tuple[int, ...] | None = None


class EndpointProfile(BaseModel):
    """What the probe found an endpoint able to do; what building and reading requests follows.

    dialect: name of the module in `wire` that speaks to it.
    raw, prefill, scoring: the recipe's name in that dialect, None where the endpoint can't.
    logprobs: "raw" (before temperature and filters), "processed", or "unknown".
    token_bytes: "exact", "characters" (exact only at character boundaries), or "lossy".
    token_ids: replies carry ids. id_prompts: a prompt of ids can be scored. vocabulary: digest of the ids
        of a fixed text; two endpoints with the same one share their tokenizer.
    scores_template: chat framing can be scored with the endpoint's own template.
    noise_nats: standard deviation of one token's logprob over identical calls.
    self_consistency_nats: mean |sampled - scored| per token on the endpoint's own greedy text.
    max_top_scored: alternatives that the endpoint lists at each position of a text that it scores; None where no
        probe looked.
    answers_as: the model's name in the replies, None where they hold none.
    turn: how completions begin in the user's turn; None where nobody asked.
    dropped: request fields that the endpoint rejects and that are therefore never sent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str
    model: str
    dialect: str
    engine: str = "unknown"
    raw: str | None = None
    prefill: str | None = None
    scoring: str | None = None
    chat: bool = False
    max_top_logprobs: int = 0
    max_top_scored: int | None = None
    logprobs: Literal["raw", "processed", "unknown"] = "unknown"
    token_bytes: Literal["exact", "characters", "lossy"] = "lossy"
    token_ids: bool = False
    id_prompts: bool = False
    vocabulary: str | None = None
    scores_template: bool = False
    has_template: bool | None = None
    turn: Turn | None = None
    seed: bool = False
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    dropped: tuple[str, ...] = ()
    fingerprint: str | None = None
    answers_as: str | None = None
    parent: str | None = None
    provider: str | None = None
    noise_nats: float | None = None
    self_consistency_nats: float | None = None
    auditable: bool = False
    can_score: bool = False
    verdict: str = ""
    checks: tuple[Check, ...] = ()
    probed_at: str = ""

    @model_validator(mode="before")
    @classmethod
    def _without_former_fields(cls, given: Json) -> Json:
        """Runs of version 0.1 hold `tokenize`, which nothing read."""
        return (
            {name: value for name, value in given.items() if name != "tokenize"}
            if isinstance(given, dict)
            else given
        )

    def framings(self) -> tuple[Framing, ...]:
        """The framings that the endpoint allows, strongest probes first."""
        found: list[Framing] = []
        if self.raw:
            found.append("raw")
        if self.prefill:
            found.append("chat")
        if not found and self.chat:
            found.append("user")
        return tuple(found)

    def opening(self, framing: Framing) -> str | tuple[int, ...] | None:
        """What a completion in the user's turn is sent; None where the framing is another or is not allowed."""
        if self.turn is None or framing not in TURNS:
            return None
        return self.turn.system if framing == "turn" else self.turn.bare


@dataclass(frozen=True, slots=True)
class ScoredCompletion:
    """A completion with everything ranking needs; `scores` maps a reference's label to its score."""

    sample: Sample
    completion: Completion
    scores: Mapping[str, ReferenceScore]


@dataclass(frozen=True, slots=True)
class Listed:
    """A completion with what its own model and a reference list at its positions."""

    sample: Sample
    text: str
    target: Alternatives
    reference: Alternatives
