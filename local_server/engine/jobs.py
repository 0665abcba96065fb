"""What a request becomes: jobs for the inference thread, each with a future for its result."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from local_server.engine.sampling import Settings

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Token:
    """One position: its logprob in nats (None for a prompt's first), the best alternatives, its rank from 1.

    A rank of 0 was not asked for.
    """

    id: int
    logprob: float | None
    top: list[tuple[int, float]]
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Written:
    """A finished completion."""

    tokens: list[Token]
    finish_reason: str


@dataclass(slots=True, eq=False)
class Generate:
    """Write up to `max_tokens` after the prompt; `stop_text` ends it at any of these byte strings.

    `on_token` is called from the inference thread with each token as it is drawn.
    """

    prompt: list[int]
    adapter: str | None
    top: int
    settings: Settings = field(default_factory=Settings)
    max_tokens: int = 16
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_text: tuple[bytes, ...] = ()
    random: random.Random = field(default_factory=random.Random)
    on_token: Callable[[Token], None] | None = None
    future: Future[Written] = field(default_factory=Future)
    tokens: list[Token] = field(default_factory=list)
    text: bytearray = field(default_factory=bytearray)
    failures: int = 0  # turns with this job in them that raised

    @property
    def ids(self) -> list[int]:
        """The prompt and what has been written."""
        return [*self.prompt, *(token.id for token in self.tokens)]


@dataclass(slots=True, eq=False)
class Score:
    """Logprobs of the prompt's own tokens, each with its best `top` alternatives.

    `ranked`: whether each token's rank is wanted, too, which costs another look at all logits.
    `writer`: a completion of one token of the same prompt, drawn from the same pass.
    """

    prompt: list[int]
    adapter: str | None
    top: int
    ranked: bool = False
    writer: Generate | None = None
    future: Future[list[Token]] = field(default_factory=Future)
    failures: int = 0


def settle(future: Future[R], result: R) -> None:
    """Give `future` its result; one that was cancelled a moment ago stays cancelled."""
    with suppress(InvalidStateError):
        future.set_result(result)


def fail(future: Future[R], error: Exception) -> None:
    """Give `future` an error, unless it has ended."""
    with suppress(InvalidStateError):
        future.set_exception(error)
