"""Placing tokens in a text when some of their strings lost bytes.

Two kinds of loss: bytes of an incomplete character became U+FFFD (older vLLM, Ollama, TGI), or they
were left out, so that a token may be empty or shorter than it was (llama-cpp-python). Strings that are
whole are anchors; what lies between two anchors is one unit, whose logprob is the sum of its tokens.
Every edge between units is a true token edge, and what is known of a unit's tokens is in its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

REPLACEMENT = "\ufffd"
CHARS_PER_TOKEN = 4  # the most characters of text that one damaged token is expected to stand for
LONGEST_RUN = 512  # tokens; a longer unit says nothing, and hostile replies must not cost more than linear time


@dataclass(frozen=True, slots=True)
class Placed:
    """pieces: one string per token; all but the last of a run are empty. open_end: index of the last
    piece where a run reaches the end of the text with no anchor to close it."""

    pieces: list[str]
    open_end: int | None


def place(strings: Sequence[str], text: str) -> Placed | None:
    """Pieces that join to `text`, or None where the strings do not fit it, or tell nothing."""
    lossy = [REPLACEMENT in string or not string for string in strings]
    if not any(lossy) or all(lossy):
        return None
    walk = _Walk(strings, text)
    for index, damaged in enumerate(lossy):
        walk.take(index, damaged)
        if walk.begun is not None and index - walk.begun > LONGEST_RUN:
            return None
    return walk.end()


class _Walk:
    """One pass over the tokens. `begun`: first token of the open run, None while anchors follow each other."""

    def __init__(self, strings: Sequence[str], text: str) -> None:
        self.strings = strings
        self.text = text
        self.pieces: list[str] = []
        self.position = 0
        self.begun: int | None = None
        self.damaged = 0  # tokens of the open run that stand for unknown text
        self.silent = False  # some loss in the run is unmarked, so it may reach into the anchors beside it

    def take(self, index: int, damaged: bool) -> None:
        string = self.strings[index]
        if self.begun is None:
            if not damaged and self.text.startswith(string, self.position):
                self.pieces.append(string)
                self.position += len(string)
                return
            self._open(index, marked=REPLACEMENT in string)
        elif not damaged:
            at = self._anchor(string)
            if at is not None:
                self._close(at, string)
                return
        self.pieces.append("")
        self.damaged += 1
        self.silent = self.silent or REPLACEMENT not in string

    def end(self) -> Placed | None:
        left = self.text[self.position :]
        if self.begun is None:
            return None if left else Placed(self.pieces, None)
        if not left:
            return Placed(self.pieces, None)
        if not self._plausible(left, len(self.strings)):
            return None
        self.pieces[-1] = left
        return Placed(self.pieces, len(self.pieces) - 1)

    def _open(self, index: int, *, marked: bool) -> None:
        """Begin a run; where its loss is unmarked the unit before may have lost its end, and joins it."""
        self.begun, self.damaged, self.silent = index, 0, not marked
        if marked or not self.pieces:
            return
        self.position -= len(self.pieces[-1])
        self.pieces[-1] = ""
        while self.begun and not self.pieces[self.begun - 1]:
            self.begun -= 1

    def _close(self, at: int, string: str) -> None:
        if self.silent:  # the anchor may have lost its own beginning: it belongs to the run
            self.pieces.append(self.text[self.position : at + len(string)])
        else:
            self.pieces[-1] = self.text[self.position : at]
            self.pieces.append(string)
        self.position, self.begun = at + len(string), None

    def _anchor(self, string: str) -> int | None:
        """Where `string` closes the run, if that is a single place and the run is plausible there."""
        limit = self.position + self._room() + len(string)
        first = self.position + (0 if self.silent and self.pieces[-1:] == [""] else 1)
        at = self.text.find(string, first, limit)
        if at < 0 or self.text.find(string, at + 1, limit) >= 0:
            return None
        return at if self._plausible(self.text[self.position : at], len(self.pieces)) else None

    def _room(self) -> int:
        """The most characters that the open run may cover."""
        known = sum(len(string) for string in self.strings[self.begun : len(self.pieces)])
        return known + CHARS_PER_TOKEN * self.damaged

    def _plausible(self, covered: str, stop: int) -> bool:
        """Whether the run up to token `stop` can be `covered`: not too long, and holding what is known of it."""
        if len(covered) > self._room():
            return False
        place = 0
        for string in self.strings[self.begun : stop]:
            for part in string.split(REPLACEMENT):
                place = covered.find(part, place)
                if place < 0:
                    return False
                place += len(part)
        return True
