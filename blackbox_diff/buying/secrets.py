"""Takes a key out of what an endpoint sends back, so that no run file or report ever holds it.

It is found as it is, escaped as JSON or a URL escapes it, and in base64.
"""

from __future__ import annotations

import base64
import re

HIDDEN = b"[key]"
SHORTEST = 8  # a shorter key is a placeholder such as "x" or "none", and part of ordinary words

_ESCAPE = re.compile(rb'\\+(?:u00([2-7][0-9a-fA-F])|([/"\\]))|%([2-7][0-9a-fA-F])')


class Secret:
    """Removes one key from texts; a key that is missing or too short is not looked for."""

    def __init__(self, key: str | None) -> None:
        self._key = key.encode() if key and len(key) >= SHORTEST else None
        self._encoded = tuple(_base64(self._key)) if self._key else ()
        self._any_form = re.compile(b"|".join(map(_pattern, (self._key, *self._encoded)))) if self._key else None

    def out_of(self, body: bytes) -> bytes:
        """`body` with every form of the key replaced. The slow search is for bodies that do hold it."""
        if self._key is None or self._any_form is None:
            return body
        plain = _ESCAPE.sub(_unescaped, body) if b"\\" in body or b"%" in body else body
        if not any(form in plain for form in (self._key, *self._encoded)):
            return body
        return self._any_form.sub(HIDDEN, body)

    def out_of_text(self, text: str) -> str:
        return self.out_of(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def _unescaped(found: re.Match[bytes]) -> bytes:
    code = found[1] or found[3]
    return bytes([int(code, 16)]) if code else found[2]


def _pattern(form: bytes) -> bytes:
    """`form` with each character as it is or escaped, however deeply."""
    return b"".join(
        b"(?:%b|\\\\+%b|(?i:\\\\+u00%02x|%%%02x))" % (re.escape(bytes([c])), re.escape(bytes([c])), c, c)
        for c in form
    )


def _base64(key: bytes) -> list[bytes]:
    """What of the key's base64 does not depend on what stands around it, for each of the three alignments."""
    found = []
    for before in range(3):
        text = base64.b64encode(b"\0" * before + key)
        start = -(-before * 8 // 6)
        whole = text[start : (before + len(key)) * 8 // 6]
        found += [whole, whole.translate(bytes.maketrans(b"+/", b"-_"))]
    return list(dict.fromkeys(found))
