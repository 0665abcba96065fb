"""From a text to its opening: the first three pieces, cut where no word is broken."""

from __future__ import annotations

import re

PIECES = 3
MAX_CHARACTERS = 64

# A GPT-style pre-tokenizer without its splits inside words: cutting "foo_bar" or "don't" would leave
# half a word, which no real text begins with.
_PIECE = re.compile(r"\s*(?:\w+(?:['’-]\w+)*|[^\w\s]+)")
WORD = re.compile(r"[^\W\d_]{3,}")


def opening(text: str) -> str | None:
    """The opening of the first line of `text` that has one; None where no line has.

    An opening starts and ends with a character that isn't white space, holds a word of at least three
    letters, and is printable (no control characters, no lone surrogates) and at most 64 characters long.
    """
    for line in text.splitlines():
        start = _pieces(line.strip())
        if len(start) <= MAX_CHARACTERS and start.isprintable() and WORD.search(start):
            return start
    return None


def _pieces(line: str) -> str:
    end = 0
    for _ in range(PIECES):
        match = _PIECE.match(line, end)
        if match is None:
            break
        end = match.end()
    return line[:end]
