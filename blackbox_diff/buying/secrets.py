"""Takes a key out of what an endpoint sends back, so that no run file or report ever holds it.

It is found as it is, escaped as JSON, a URL or HTML escapes it, in base64, in hexadecimal digits and in UTF-16.
"""

from __future__ import annotations

import base64
import re
from bisect import bisect_right
from collections.abc import Iterator

HIDDEN = b"[key]"
SHORTEST = 8  # a shorter key is a placeholder such as "x" or "none", and part of ordinary words

_MARKS = (b"\\", b"%", b"&")
# Runs of backslashes are bounded, or a body of nothing else would take a time that grows with its square.
_ESCAPE = re.compile(
    rb"""\\{1,64}(?:(?:u00|x)([2-7][0-9a-fA-F])|([/"'\\&<>=+._~$-]))|%(?:25)*([2-7][0-9a-fA-F])"""
    rb"|&(?:#0{0,4}(\d{2,3})|#[xX]0{0,4}([2-7][0-9a-fA-F])|(amp|lt|gt|quot|apos));"
)
_NAMED = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}


class Secret:
    """Removes one key from texts; a key that is missing or too short is not looked for."""

    def __init__(self, key: str | None) -> None:
        plain = key.encode() if key and len(key) >= SHORTEST else None
        self._forms = (plain, *_base64(plain), *_widened(plain)) if plain else ()

    def out_of(self, body: bytes) -> bytes:
        """`body` with every form of the key replaced, in a time that grows with its length alone."""
        if not self._forms:
            return body
        plain = _ESCAPE.sub(_unescaped, body) if any(mark in body for mark in _MARKS) else body
        found = sorted(span for form in self._forms for span in _spans(plain, form))
        if not found:
            return body
        parts, done = [], 0
        for start, end in _in_body(body, found):
            if start >= done:
                parts += [body[done:start], HIDDEN]
            done = max(done, end)
        return b"".join([*parts, body[done:]])

    def out_of_text(self, text: str) -> str:
        return self.out_of(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def _unescaped(found: re.Match[bytes]) -> bytes:
    """The one character that an escape stands for."""
    code = found[1] or found[3] or found[5]
    if code:
        return bytes([int(code, 16)])
    if found[4]:
        return bytes([int(found[4]) & 0x7F])
    return _NAMED[found[6]] if found[6] else found[2]


def _spans(plain: bytes, form: bytes) -> Iterator[tuple[int, int]]:
    start = plain.find(form)
    while start >= 0:
        yield start, start + len(form)
        start = plain.find(form, start + len(form))


def _in_body(body: bytes, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans of the unescaped body as spans of `body` itself."""
    places, sources = [], []  # where each escape's character stands, and what of the body it was
    saved = 0
    for found in _ESCAPE.finditer(body):
        places.append(found.start() - saved)
        sources.append(found.span())
        saved += found.end() - found.start() - 1

    def source(place: int) -> tuple[int, int]:
        index = bisect_right(places, place) - 1
        if index < 0:
            return place, place + 1
        if places[index] == place:
            return sources[index]
        start = sources[index][1] + place - places[index] - 1
        return start, start + 1

    for start, end in spans:
        yield source(start)[0], source(end - 1)[1]


def _base64(key: bytes) -> list[bytes]:
    """What of the key's base64 does not depend on what stands around it, for each of the three alignments."""
    found = []
    for before in range(3):
        text = base64.b64encode(b"\0" * before + key)
        start = -(-before * 8 // 6)
        whole = text[start : (before + len(key)) * 8 // 6]
        found += [whole, whole.translate(bytes.maketrans(b"+/", b"-_"))]
    return list(dict.fromkeys(found))


def _widened(key: bytes) -> list[bytes]:
    """The key's hexadecimal digits, and the key as UTF-16 spells it."""
    digits = key.hex().encode()
    return [digits, digits.upper(), key.decode("latin-1").encode("utf-16-le")]
