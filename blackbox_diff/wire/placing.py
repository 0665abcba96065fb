"""Placing tokens in a text when some of their strings lost bytes.

Two kinds of loss: bytes of an incomplete character became U+FFFD (older vLLM, Ollama, TGI), or they
were left out, so that a token may be empty or shorter than it was (llama-cpp-python). Strings that are
whole are anchors; what lies between two anchors is one unit, whose logprob is the sum of its tokens.
Every edge between units is a true token edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

REPLACEMENT = "\ufffd"
CHARS_PER_TOKEN = 4  # the most characters of text that one damaged token is expected to stand for


@dataclass(frozen=True, slots=True)
class Placed:
    """pieces: one string per token; all but the last of a run are empty. open_end: the last run's end,
    where no anchor closes it."""

    pieces: list[str]
    open_end: int | None


def place(strings: Sequence[str], text: str) -> Placed | None:
    """Pieces that join to `text`, or None where the anchors do not fit it or nothing was lost."""
    lossy = any(REPLACEMENT in string or not string for string in strings)
    if not lossy or not strings:
        return None
    pieces: list[str] = []
    run = 0  # tokens in the open run, none of them closed in `pieces` yet
    silent = False  # whether the open run may reach into its neighbours, its loss being unmarked
    position = 0
    for string in strings:
        whole = bool(string) and REPLACEMENT not in string
        if run == 0:
            if whole and text.startswith(string, position):
                pieces.append(string)
                position += len(string)
                continue
            if not string or whole:  # an unmarked loss: the token before may have lost its end
                silent = True
                position -= _reopen(pieces)
                run = _trailing_empty(pieces)
            pieces.append("")
            run += 1
            continue
        at = _anchor(string, text, position, run) if whole else None
        silent = silent or not string
        if at is None:
            pieces.append("")
            run += 1
        elif silent:  # the anchor may have lost its own beginning: it belongs to the run
            pieces.append(text[position : at + len(string)])
            position, run, silent = at + len(string), 0, False
        else:
            pieces[-1] = text[position:at]
            pieces.append(string)
            position, run = at + len(string), 0
    if run == 0:
        return Placed(pieces, None) if position == len(text) else None
    if position < len(text):
        pieces[-1] = text[position:]
        return Placed(pieces, len(pieces) - 1)
    return Placed(pieces, None)


def _reopen(pieces: list[str]) -> int:
    """Empty the last piece, so that it joins the run that follows; its length."""
    if not pieces:
        return 0
    length = len(pieces[-1])
    pieces[-1] = ""
    return length


def _trailing_empty(pieces: list[str]) -> int:
    found = 0
    for piece in reversed(pieces):
        if piece:
            break
        found += 1
    return found


def _anchor(string: str, text: str, position: int, run: int) -> int | None:
    """Where `string` closes a run of `run` damaged tokens, if that is a single place."""
    limit = position + CHARS_PER_TOKEN * run + len(string)
    at = text.find(string, position + 1, limit)
    if at < 0 or text.find(string, at + 1, limit) >= 0:
        return None
    return at
