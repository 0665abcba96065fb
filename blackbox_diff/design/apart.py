"""Completions that are never ranked, because they were bought at places chosen for what was found there.

The run file tells them by their origin: "target" or a reference's label for what is ranked, and
"validation/target" and the like for what is not.
"""

from __future__ import annotations

from collections.abc import Sequence

from blackbox_diff.analysis.words import places
from blackbox_diff.records import Arm, Framing, Sample

FOLLOW_UP = "follow-up"
VALIDATION = "validation"
AMPLIFIED = "amplified"
CONTEXT_WORDS = 12


def apart(purpose: str, label: str) -> str:
    """The origin of what `label` completes for a purpose."""
    return f"{purpose}/{label}"


def writer(origin: str) -> str:
    """The label of whoever wrote completions of this origin."""
    for purpose in (FOLLOW_UP, VALIDATION, AMPLIFIED):
        if origin.startswith(f"{purpose}/"):
            return origin.removeprefix(f"{purpose}/")
    return origin


def context(before: str) -> str:
    """The last words of what stands before a place: a prefill. "" where there is none."""
    before = before.rstrip()
    starts = [start for start, _ in places(before)][-CONTEXT_WORDS:]
    return before[starts[0] :] if starts else ""


def typical(purpose: str, number: int, framings: Sequence[Framing]) -> list[Sample]:
    """Samples of the size that `number` of a purpose have at most, for an estimate."""
    framing = framings[-1]  # the one with more around the prefill
    return [
        Sample(f"{purpose}.{k:05d}", Arm(purpose, framing), "w" * 12 * CONTEXT_WORDS, k) for k in range(number)
    ]
