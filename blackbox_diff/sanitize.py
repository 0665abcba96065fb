"""Text that a model wrote, made safe to show: what could act, hide or reorder becomes visible instead."""

from __future__ import annotations

import re
import unicodedata

from blackbox_diff.findings import Span

# ZWNJ and ZWJ spell words in Persian or Hindi and join emoji; alone they neither reorder nor hide anything.
_KEPT = {"\u200c", "\u200d"}
_SUSPECTS = re.compile(r"[^\x20-\x7e\xa1-\xac\xae-\u02ff]")


def visible(text: str) -> str:
    """`text` with every control, format, bidi and surrogate code point as a visible mark, on one line.

    Newline and tab become ⏎ and →, other C0 controls their Control Pictures, the rest ⟨U+XXXX⟩.
    """
    return _SUSPECTS.sub(lambda match: _mark(match.group()), text)


def visible_lines(text: str) -> str:
    """Like `visible`, but lines and tabs stay: for viewers that lay text out."""
    return re.sub(r"[^\n\t]+", lambda match: visible(match.group()), text)


def _mark(character: str) -> str:
    code = ord(character)
    if character == "\n":
        return "⏎"
    if character == "\t":
        return "→"
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if character not in _KEPT and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return f"⟨U+{code:04X}⟩"
    return character


def encoded(text: str) -> bytes:
    """The bytes that spans and segments count in; a lone surrogate counts as three."""
    return text.encode("utf-8", "surrogatepass")


def cut(text: str, span: Span) -> tuple[str, str, str]:
    """`text` as (before, span, after); a boundary inside a character moves out to its edge."""
    data = encoded(text)
    start, end = min(span.start, len(data)), min(span.end, len(data))
    while start > 0 and start < len(data) and data[start] & 0xC0 == 0x80:
        start -= 1
    while end < len(data) and data[end] & 0xC0 == 0x80:
        end += 1
    parts = (data[:start], data[start:end], data[end:])
    before, inside, after = (part.decode("utf-8", "surrogatepass") for part in parts)
    return before, inside, after


def excerpt(text: str, span: Span | None, width: int) -> tuple[str, str, str]:
    """About `width` visible characters of `text` around `span`, as (before, span, after)."""
    before, inside, after = (visible(part) for part in cut(text, span or Span(0, 0)))
    inside = shorten(inside, width)
    room = max(0, width - len(inside))
    left = max(room // 3, room - len(after))
    if len(before) > left:
        before = "…" + before[len(before) - left + 1 :] if left > 1 else "…"
    return before, inside, shorten(after, max(1, room - len(before)))


def shorten(text: str, width: int) -> str:
    """At most `width` characters, with an ellipsis where something was cut."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def finite(value: float | None) -> float | None:
    """`value`, or None where it is not a finite number: JSON has no NaN and no infinity."""
    return value if value is not None and -1.7e308 < value < 1.7e308 else None
