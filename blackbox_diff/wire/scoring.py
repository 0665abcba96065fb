"""A text under a model that was given it: from echoed prompt entries to a ReferenceScore.

The completion is located as the byte suffix of what was sent, never by counting characters or trusting
offsets: a start-of-sequence token, a template, or a server that lost the first character stand before
it. A token that straddles the join keeps its bytes inside the text and loses its number, because only
a bound on its share is known without the full distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blackbox_diff.records import Alternatives, ReferenceScore, Refusal, Tokens
from blackbox_diff.wire.alternatives import places, read_lists
from blackbox_diff.wire.body import encodable
from blackbox_diff.wire.completion import units
from blackbox_diff.wire.entries import Entries
from blackbox_diff.wire.placing import place
from blackbox_diff.wire.refusals import refuse
from blackbox_diff.wire.sentinels import NAN, all_zero, too_many_missing
from blackbox_diff.wire.tokens import candidates, from_byte_lists, from_escapes, from_strings, looks_special

Context = Literal["ids", "raw", "template", "plain"]
Spelled = tuple[list[bytes], str]  # pieces, and how they were recovered
SPACE = " \t\r\n\v\f"
REPLACEMENT = "\ufffd".encode()
FIRST_TOKEN_CHARS = 24  # the longest first token that may be absent from an echo


@dataclass(frozen=True, slots=True)
class Located:
    """Entries that hold the text, with their bytes and how those were recovered.

    logprobs: of the entries, less those that can't be used. join: byte offset at which the text begins.
    """

    entries: Entries
    pieces: list[bytes]
    decode: str
    logprobs: list[float]
    join: int


def read_echo(
    entries: Entries,
    prefill: str,
    text: str,
    context: Context,
    *,
    prompt_tokens: int | None,
    trims: bool = False,
) -> ReferenceScore | Refusal:
    """Score of `text` from the entries of an echoed `prefill + text`.

    entries: the prompt's, possibly followed by at most one generated token.
    prompt_tokens: how many of them are the prompt's, where the server says so.
    trims: the server's template may strip white space at the end of the text.
    """
    if encodable(prefill + text) is None:
        return refuse("text_not_unicode")
    if _starts_twice(entries):
        return refuse("double_bos")
    trimmed = 0
    located = _locate(entries, prefill, text, prompt_tokens)
    if located is None and trims:
        bare = text.rstrip(SPACE)
        trimmed = len(text.encode()) - len(bare.encode())
        located = _locate(entries, prefill, bare, prompt_tokens) if trimmed and bare else None
    if located is None:
        return refuse("echo_misaligned")
    return _cut(located, trimmed, context)


def read_ids(
    entries: Entries, prompt_ids: tuple[int, ...], ids: tuple[int, ...], text: str
) -> ReferenceScore | Refusal:
    """Score of `text` from the entries of an echoed id prompt, possibly followed by one generated token."""
    start, stop = len(prompt_ids), len(prompt_ids) + len(ids)
    if len(entries) not in (stop, stop + 1):
        return refuse("too_many_ids", f"{len(entries)} entries for {stop} ids")
    sent = [*prompt_ids, *ids]
    if entries.ids is not None and entries.ids[1:stop] != sent[1:]:
        return refuse("too_many_ids")
    own = entries.part(start, stop)
    wanted = encodable(text)
    if wanted is None:
        return refuse("text_not_unicode")
    spelled = _spell(own, wanted) or _spell_lossy(own, text)
    if spelled is None:
        return refuse("echo_misaligned")
    return _cut(Located(own, *spelled, own.logprobs, 0), 0, "ids")


def _starts_twice(entries: Entries) -> bool:
    return len(entries) > 1 and entries.strings[0] == entries.strings[1] and looks_special(entries.strings[0])


def _locate(entries: Entries, prefill: str, text: str, prompt_tokens: int | None) -> Located | None:
    """The entries that spell what was sent: the whole prompt first, else as much of its end as holds the text."""
    total = len(entries)
    counts = [] if prompt_tokens is None else [prompt_tokens]
    stops = [n for n in dict.fromkeys([*counts, total - 1, total]) if 0 < n <= total]
    sent = (prefill + text).encode()
    join = len(prefill.encode())
    parts = [entries.part(start, stop) for stop in stops for start in _starts(entries, stop)]
    for part in parts:
        spelled = _spell(part, sent)
        if spelled is not None:
            return Located(part, *spelled, part.logprobs, join)
    for stop in stops:
        found = _suffix(entries, prefill, text, stop)
        if found is not None:
            return found
    for part in parts:
        spelled = _spell_lossy(part, prefill + text)
        if spelled is not None:
            return Located(part, *spelled, part.logprobs, join)
    return None


def _starts(entries: Entries, stop: int) -> list[int]:
    """Where the text may begin: at the first entry, or after one or two start tokens."""
    found = [0]
    while found[-1] < min(2, stop - 1) and (
        looks_special(entries.strings[found[-1]]) or not entries.strings[found[-1]]
    ):
        found.append(found[-1] + 1)
    return found


def _spell(entries: Entries, wanted: bytes) -> Spelled | None:
    """Pieces that join to `wanted`, by any rendering that keeps all bytes."""
    for name, pieces in (("bytes", from_byte_lists(entries)), ("strings", from_strings(entries))):
        if pieces is not None and b"".join(pieces) == wanted:
            return _closed(pieces, name)
    walked: list[bytes] = []
    names: dict[str, None] = {}
    position = 0
    for index, token in enumerate(entries.strings):
        raw = None if entries.raw_bytes is None else entries.raw_bytes[index]
        for name, piece in candidates(token, raw):
            if name == "pieces" and not position and not wanted.startswith(piece):
                piece = piece.removeprefix(b" ")  # SentencePiece spells a text's first word as if a space led it
            if wanted.startswith(piece, position):
                walked.append(piece)
                names[name] = None
                position += len(piece)
                break
        else:
            break
    if len(walked) == len(entries) and position == len(wanted):
        return _closed(walked, "+".join(names))
    return None


def _spell_lossy(entries: Entries, text: str) -> Spelled | None:
    """Pieces that join to `text` where strings lost bytes: some of them stand for several tokens."""
    placed = place(entries.strings, text)
    return None if placed is None else _closed([piece.encode() for piece in placed.pieces], "placed")


def _closed(pieces: list[bytes], decode: str) -> Spelled | None:
    """A prompt is whole, so its last entry closes a unit; if not, tokens were lost."""
    return (pieces, decode) if pieces and pieces[-1] else None


def _suffix(entries: Entries, prefill: str, text: str, stop: int) -> Located | None:
    """Entries before `stop` whose bytes end in what was sent, or in its end.

    A template stands before it; a server may leave out its first token (Fireworks) or lose the character
    that begins it (vLLM). So the bytes must end in the text, and before that agree with the prefill up to
    a damaged or absent first token.
    """
    wanted, before = text.encode(), prefill.encode()
    renderings = (("bytes", from_byte_lists), ("strings", from_strings), ("escapes", from_escapes))
    for decode, rendering in renderings:
        pieces = rendering(entries)
        if pieces is None or not pieces[stop - 1]:
            continue
        joined = b"".join(pieces[:stop])
        if not joined.endswith(wanted):
            continue
        ahead = joined[: len(joined) - len(wanted)]
        if ahead.endswith(before):
            return Located(entries, pieces[:stop], decode, entries.logprobs[:stop], len(ahead))
        if _agrees(ahead, before):
            kept = _without_lost(pieces, entries.logprobs)[:stop]
            return Located(entries, pieces[:stop], decode, kept, len(ahead))
    return None


def _without_lost(pieces: list[bytes], logprobs: list[float]) -> list[float]:
    """Empty pieces after a damaged first token may belong to the character it lost: no numbers for them."""
    first = next((i for i, piece in enumerate(pieces) if REPLACEMENT in piece), None)
    found = list(logprobs)
    if first is not None:
        for index in range(first + 1, len(pieces)):
            if pieces[index]:
                break
            found[index] = NAN
    return found


def _agrees(ahead: bytes, before: bytes) -> bool:
    """Whether the echoed bytes before the text are the prefill's end, all but its first token."""
    same = 0
    while same < min(len(ahead), len(before)) and ahead[-1 - same] == before[-1 - same]:
        same += 1
    lost = before[: len(before) - same].decode("utf-8", "ignore")
    if same == len(ahead):
        return bool(before) and 0 < len(lost) <= FIRST_TOKEN_CHARS
    return ahead[: len(ahead) - same].endswith(REPLACEMENT) and len(lost) <= 1


def _cut(located: Located, trimmed: int, context: Context) -> ReferenceScore | Refusal:
    """The units after the join, from 0; a straddling unit and a trimmed end have no number."""
    ends, logprobs = units(located.pieces, located.logprobs)
    out_ends: list[int] = []
    out_values: list[float] = []
    missing = 0
    notes: list[str] = []
    for start, end, value in zip([0, *ends], ends, logprobs, strict=False):
        if end <= located.join:
            continue
        if start < located.join:
            value = NAN
            notes.append("straddles")
        elif value != value and out_ends:  # a first unit may have no number
            missing += 1
        out_ends.append(end - located.join)
        out_values.append(value)
    if trimmed:
        out_ends.append((out_ends[-1] if out_ends else 0) + trimmed)
        out_values.append(NAN)
        notes.append("trimmed")
    if all_zero(out_values):
        return refuse("zero_logprobs")
    if too_many_missing(missing, len(out_values)) or all(value != value for value in out_values):
        return refuse("missing_logprobs", f"{missing} of {len(out_values)}")
    return ReferenceScore(Tokens.of(out_ends, out_values), context, tuple(notes), _alternatives(located))


def _alternatives(located: Located) -> Alternatives | None:
    """The lists of the entries that begin in the text."""
    where = places(located.pieces, range(len(located.pieces)), start=-located.join)
    where = [place for place in where if place.position >= 0]
    if located.decode == "placed":
        where = [place for place in where if place.token is not None]
    return read_lists(located.entries, where, located.decode)
