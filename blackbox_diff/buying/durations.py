"""Durations as servers write them: in headers, and in the words of an error."""

from __future__ import annotations

import re

YEAR = 366 * 86_400.0

_NUMBER = r"(\d{1,9}(?:\.\d{1,9})?)"
_DURATION = re.compile("".join(rf"(?:{_NUMBER}{unit})?" for unit in ("d", "h", "m(?!s)", "s", "ms")))
_SECONDS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_AGAIN = re.compile(r"(?:try again|retry) (?:in|after) ([\d.]+ ?[a-z]*(?:[\d.]+[a-z]+){0,4})", re.IGNORECASE)
_WORDS = {"second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h", "hr": "h", "day": "d"}


def duration(text: str) -> float | None:
    """Seconds in a Go-like duration ("12ms", "1s", "6m0s") or a plain number; None where it is neither.

    More than a year is no duration: some hosts give a date, in seconds or milliseconds since 1970.
    """
    text = text[:64].strip()
    try:
        seconds = float(text)
    except ValueError:
        found = _DURATION.fullmatch(text)
        if found is None or not any(found.groups()):
            return None
        seconds = sum(float(number or 0) * scale for number, scale in zip(found.groups(), _SECONDS, strict=True))
    return seconds if -YEAR < seconds < YEAR else None


def said_wait(message: str) -> float | None:
    """Seconds after which an error says to come back: "try again in 5h32m12s", "retry after 30 seconds"."""
    found = _AGAIN.search(message[:2_000])
    if found is None:
        return None
    number, space, unit = found[1].rstrip(".").partition(" ")
    if not space:
        return duration(number)
    return duration(number + _WORDS.get(unit.lower().removesuffix("s"), unit))
