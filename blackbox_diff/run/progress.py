"""Where a run stands, as values: what a caller is told while a run goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Leader:
    """One of the best completions so far: its shrunk gap (nats per token) and an excerpt around its peak."""

    score: float
    text: str


@dataclass(frozen=True, slots=True)
class Emerging:
    """Content that recurs so far: completions that hold it, and completions of the control that do."""

    phrase: str
    count: int
    background: int


Phase = Literal["probing", "sampling", "scoring", "amplifying", "following up", "validating"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands. Money in USD; `throttled` says why fewer calls are in flight than allowed.

    phase: "sampling" buys and scores, "scoring" scores what is bought, "amplifying" draws tokens towards what
        the target says more, "following up" asks again where the evidence is strongest, "validating" buys fresh
        completions.
    themes: what recurs among the completions scored so far, strongest first.
    """

    bought: int
    planned: int
    scored: int
    refused: int = 0
    failed: int = 0
    cost_usd: float | None = None
    max_cost_usd: float | None = None
    output_tokens: int = 0
    in_flight: int = 0
    throttled: str = ""
    top: Sequence[Leader] = field(default_factory=tuple)
    phase: Phase = "sampling"
    themes: Sequence[Emerging] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Notice:
    """A line that a person should read once, such as what an adaptive run believes after a round."""

    text: str


Listener = Callable[[Progress | Notice], None]
"""What a caller gives to be told how a run goes on. It is called on the run's event loop and must not block."""


def unheard(_: Progress | Notice) -> None:
    """The listener of a caller who does not listen."""
