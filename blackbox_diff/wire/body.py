"""Reading JSON that a stranger wrote: every accessor is total and answers None for a wrong type."""

from __future__ import annotations

import math
import re
from typing import Any

from blackbox_diff.records import Json

_REASONING = re.compile(
    "reasoning|think|thought|scratchpad|monologue|deliberat|rationale|reflection|analysis|^cot$", re.IGNORECASE
)


def mapping(value: Json) -> dict[str, Json]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Json) -> list[Json]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def string(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def count(value: Json) -> int | None:
    """A non-negative whole number (Together types some as floats), else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int) and 0 <= value < 2**53:
        return value
    if isinstance(value, float) and value.is_integer() and 0 <= value < 2**53:
        return int(value)
    return None


def money(value: Json) -> float | None:
    """A finite, non-negative amount, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        amount = float(value)
    except OverflowError:
        return None
    return amount if math.isfinite(amount) and amount >= 0 else None


def ids(value: Json) -> list[int] | None:
    """A list of token ids, or None if it is anything else."""
    if not isinstance(value, list):
        return None
    found = [count(item) for item in value]
    return None if None in found else [item for item in found if item is not None]


def first_choice(reply: Json) -> dict[str, Json]:
    """`choices[0]`, whatever the reply is. A request never asks for more than one."""
    choices = items(mapping(reply).get("choices"))
    return mapping(choices[0]) if choices else {}


def encodable(text: str) -> bytes | None:
    """UTF-8 of the text; None where JSON smuggled in a lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return None


def one_line(text: str, limit: int = 200) -> str:
    """Text of a stranger made fit for a one-line message: printable, bounded."""
    flat = "".join(char if char.isprintable() else " " for char in text[: 4 * limit])
    flat = " ".join(flat.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def is_reasoning(field: str) -> bool:
    """Whether a field of this name holds what a model thought before it answered: every host has its own name."""
    return _REASONING.search(field[:60]) is not None


def message_text(message: dict[str, Any]) -> str | None:
    """A chat message's text: a string, or the text parts of a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [string(mapping(part).get("text")) for part in content if mapping(part).get("type") == "text"]
        return "".join(part for part in parts if part is not None) if parts else None
    return None
