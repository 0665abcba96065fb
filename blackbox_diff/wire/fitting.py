"""Fitting a reply's entries to its text: which entries are content, and which bytes each one holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from blackbox_diff.records import Refusal, SideToken
from blackbox_diff.wire.entries import Entries
from blackbox_diff.wire.placing import REPLACEMENT, place
from blackbox_diff.wire.refusals import refuse
from blackbox_diff.wire.tokens import candidates, incomplete_utf8, looks_special, renderings

SPACE = b" \t\r\n"
LOST_BYTES = "\ufffd".encode()
Kind = Literal["end", "special", "tail"]
Options = tuple[tuple[str, bytes], ...]


@dataclass(slots=True)
class Fit:
    """content: indices of the content entries; pieces: their bytes, which join to the text.

    A piece of width zero belongs to the unit that the next non-empty piece closes. aside: (index, kind)
    of the others. dropped: what the text holds beyond the tokens (replacement characters of a cut-off
    character, white space before a stop string). unknown: content entries whose logprob can't be used,
    because it also covers a cut-off tail.
    """

    content: list[int]
    pieces: list[bytes]
    decode: str
    aside: list[tuple[int, Kind]] = field(default_factory=list)
    dropped: str = ""
    notes: list[str] = field(default_factory=list)
    unknown: set[int] = field(default_factory=set)

    @property
    def cut_tail(self) -> bool:
        return any(kind == "tail" for _, kind in self.aside)

    def side(self, entries: Entries) -> list[SideToken]:
        tokens = []
        for index, kind in sorted(self.aside):
            logprob = entries.logprobs[index]
            tokens.append(SideToken(entries.strings[index], None if math.isnan(logprob) else logprob, kind))
        if self.dropped and not self.cut_tail:
            tokens.append(SideToken(self.dropped, None, "tail"))
        return tokens


def fit(entries: Entries, text: str, prefill: str, stopped: bool) -> Fit | Refusal:
    """Fit the entries to the text, or to the text without the prefill where a server repeats it.

    `stopped`: the model ended by itself, so the last entry may be its end-of-sequence token.
    `text` must be encodable.
    """
    variants = [(text, "")]
    if prefill and text.startswith(prefill):
        variants.append((text[len(prefill) :], "prefill_echoed"))
    for variant, note in variants:
        if REPLACEMENT in variant:
            continue
        wanted = variant.encode()
        for name, pieces in renderings(entries):
            if b"".join(pieces) == wanted:
                found = Fit(list(range(len(pieces))), pieces, name, notes=[note] if note else [])
                return _without_empty_end(found, stopped)
    replaced = False
    for variant, note in variants:
        kept = variant.rstrip(REPLACEMENT)
        if REPLACEMENT in kept:
            replaced = True
            continue
        walked = _explained(entries, kept, variant[len(kept) :], stopped)
        if walked is not None:
            if note:
                walked.notes.insert(0, note)
            return walked
    return refuse("replacement_character" if replaced else "text_mismatch")


def _explained(entries: Entries, text: str, dropped: str, stopped: bool) -> Fit | None:
    """The text by one rendering for the whole reply, by a mixture of them, or by what was not lost."""
    whole = list(renderings(entries))
    for name, pieces in whole:
        found = _walk(entries, text, dropped, stopped, [((name, piece),) for piece in pieces], pieces)
        if found is not None:
            return found
    mixed = [tuple(candidates(string, _raw(entries, i))) for i, string in enumerate(entries.strings)]
    for _, pieces in whole[:2] or [("", [])]:
        found = _walk(entries, text, dropped, stopped, mixed, pieces)
        if found is not None:
            return found
    return _placed(entries, text, dropped, stopped)


def _without_empty_end(found: Fit, stopped: bool) -> Fit:
    """Entries of width zero after the last byte are no content: an end token, or a character cut off."""
    last = True
    while found.pieces and not found.pieces[-1]:
        found.pieces.pop()
        found.aside.append((found.content.pop(), "end" if stopped and last else "tail"))
        last = False
    return found


def _untrimmed(wanted: bytes, pieces: list[bytes]) -> bytes:
    """The text with the leading white space of the first tokens, where a server stripped it from the text."""
    joined = b"".join(pieces)
    bare = joined.lstrip(SPACE)
    space = joined[: len(joined) - len(bare)]
    if space and not wanted.startswith(space) and bare[:16].startswith(wanted[:16].rstrip(SPACE)):
        return space + wanted
    return wanted


def _walk(
    entries: Entries,
    text: str,
    dropped: str,
    stopped: bool,
    options: Sequence[Options],
    pieces: list[bytes],
) -> Fit | None:
    """Take the entries in order, each by the first of its options that continues the text."""
    wanted = _untrimmed(text.encode(), pieces)
    found = Fit([], [], "", dropped=dropped)
    position, index, total = 0, 0, len(entries)
    names: dict[str, None] = {}
    while index < total:
        for name, piece in options[index]:
            if wanted.startswith(piece, position):
                found.content.append(index)
                found.pieces.append(piece)
                position += len(piece)
                if piece:
                    names[name] = None
                break
        else:
            if not looks_special(entries.strings[index]):
                break
            found.aside.append((index, "end" if stopped and index == total - 1 else "special"))
        index += 1
    found.decode = "+".join(names) or "strings"
    rest, left = range(index, total), wanted[position:]
    if not _take_rest(found, entries, rest, left, stopped):
        return None
    if b"".join(found.pieces) != text.encode():
        found.notes.append("content_trimmed")
    return _without_empty_end(found, stopped and not rest)


def _raw(entries: Entries, index: int) -> object:
    return None if entries.raw_bytes is None else entries.raw_bytes[index]


def _take_rest(found: Fit, entries: Entries, rest: range, left: bytes, stopped: bool) -> bool:
    """Set the entries that the text does not hold aside; False if they can't be explained."""
    if left:
        if (
            not rest
        ):  # white space that no entry spells: before a stop string, or of a token cut inside a character
            found.dropped = left.decode("utf-8", "replace") + found.dropped
            return not left.strip(SPACE)
        first = next(iter(candidates(entries.strings[rest[0]], _raw(entries, rest[0]))), ("", b""))[1]
        ended_inside = stopped and first.startswith(left) and len(rest) <= 8
        if ended_inside or _is_tail(entries, rest, bool(found.dropped), left):
            found.aside += [(index, "tail") for index in rest]
            found.dropped = left.decode("utf-8", "replace") + found.dropped
            return True
        return False
    for number, index in enumerate(rest):
        piece = next(iter(candidates(entries.strings[index], _raw(entries, index))), ("", b""))[1]
        if not found.aside and piece and not piece.strip(SPACE):  # the server stripped the text's end
            found.content.append(index)
            found.pieces.append(piece)
        elif looks_special(entries.strings[index]) or not piece:
            found.aside.append((index, "end" if stopped and index == rest[-1] else "special" if piece else "tail"))
        elif _is_tail(entries, rest[number:], bool(found.dropped)):
            found.aside += [(later, "tail") for later in rest[number:]]
            return True
        elif stopped and index == rest[-1]:
            found.aside.append((index, "end"))
        else:
            return False
    return True


def _is_tail(entries: Entries, rest: range, replaced: bool, left: bytes = b"") -> bool:
    """Whether the last entries are the beginning of a character that was cut off, behind `left` of the text:

    a token may be a space and the first byte of what follows it.
    """
    if len(rest) > 3:
        return False
    joined = b""
    for index in rest:
        if entries.strings[index].strip(REPLACEMENT) == "" and replaced:
            continue
        options = dict(candidates(entries.strings[index], _raw(entries, index)))
        piece = options.get("bytes", options.get("escapes", options.get("latin1", b"")))
        if piece in (b"", LOST_BYTES):
            return replaced and not left
        joined += piece
    if not joined.startswith(left):
        return False
    return incomplete_utf8(joined.removeprefix(left)) if joined else replaced


def _placed(entries: Entries, text: str, dropped: str, stopped: bool) -> Fit | None:
    """The renderings that lose bytes: anchor what is known, and keep unknown runs together."""
    total = len(entries)
    aside: list[tuple[int, Kind]] = []
    while total and looks_special(entries.strings[total - 1]) and not text.endswith(entries.strings[total - 1]):
        total -= 1
        aside.append((total, "end" if stopped and not aside else "special"))
    if any("\\x" in string for string in entries.strings[:total]):
        return None  # escapes that did not fit are a mismatch, not a loss
    spelled = place(entries.strings[:total], text)
    if spelled is None:
        return None
    found = Fit(list(range(total)), [piece.encode() for piece in spelled.pieces], "placed", aside, dropped)
    if spelled.open_end is not None and not stopped:
        found.unknown = {spelled.open_end}
    return _without_empty_end(found, stopped and not aside)
