"""Entries and text of one reply to a Completion, or to the Refusal that says why not.

The completion's text is the content tokens' bytes joined, and every step below keeps that true: tokens
that the text does not hold become side tokens (end of sequence, other special tokens, a character cut
off by max_tokens), never text; what follows a special token is left out; a text that the tokens do not
spell is refused. One kind of completion is another: where the model writes a whole conversation, its turns are
what the special tokens mark, so those are content, by their names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

from blackbox_diff.records import Alternatives, Completion, Refusal, SideToken, Tokens, Usage
from blackbox_diff.wire.alternatives import places, read_lists
from blackbox_diff.wire.api_errors import is_filtered
from blackbox_diff.wire.body import encodable
from blackbox_diff.wire.entries import Entries
from blackbox_diff.wire.fitting import Fit, fit
from blackbox_diff.wire.placing import REPLACEMENT
from blackbox_diff.wire.refusals import refuse
from blackbox_diff.wire.sentinels import NAN, all_zero, too_many_missing
from blackbox_diff.wire.tokens import complete_length, looks_special
from blackbox_diff.wire.zeros import one_number, without_contradicted, without_unfounded

SPACE = " \t\r\n"
CUT = 3  # tokens of one character that may be cut off: it has at most four
MORE_TOKENS = 8  # entries beyond max_tokens that are still believed: end of sequence, a stop string
BYTES_PER_TOKEN = 256  # a longer token on average is no token
SLACK = 2  # entries that a server may leave out of its list: end of sequence, a stop token


@dataclass(slots=True)
class Meta:
    """What a reply says besides its tokens."""

    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    model: str | None = None
    fingerprint: str | None = None
    prompt_ids: list[int] | None = None
    only_choice: bool = True  # usage counts this choice alone


def complete(
    entries: Entries | None,
    text: str,
    prefill: str,
    meta: Meta,
    most_tokens: int | None = None,
    *,
    specials: bool = False,
) -> Completion | Refusal:
    """The completion that `entries` and `text` spell, without the prefill that some servers repeat.

    most_tokens: as many were asked for at most, where that is known. specials: special tokens that are named are
    part of the text, and what follows them, too.
    """
    if is_filtered(meta.finish_reason or ""):
        return refuse("content_filter")
    encoded = encodable(text)
    if encoded is None:
        return refuse("text_not_unicode")
    if entries is None or len(entries) == 0:
        return _without_entries(text, prefill, meta)
    if most_tokens is not None and _is_too_long(len(entries), len(encoded) - len(prefill.encode()), most_tokens):
        return refuse("too_long", f"{len(entries)} tokens, {len(encoded)} bytes for max_tokens {most_tokens}")
    if all_zero(entries.logprobs):
        return refuse("zero_logprobs", "all of them")
    unfounded = without_unfounded(entries)
    if too_many_missing(unfounded, len(entries)):
        return refuse("zero_logprobs", f"{unfounded} of {len(entries)}")
    contradicted = without_contradicted(entries)
    if too_many_missing(contradicted, len(entries)):
        return refuse("contradicted_logprobs", f"{contradicted} of {len(entries)}")
    stopped = meta.finish_reason not in ("length", "max_tokens", "MAX_TOKENS")
    found = fit(entries, text, prefill, stopped)
    if isinstance(found, Refusal):
        return found
    if specials:
        _take_in_specials(entries, found)
    _cut_at_special(found)
    hidden = _hidden(entries, found, meta)
    if isinstance(hidden, Refusal):
        return hidden
    if one_number(entries):
        return refuse("constant_logprobs", f"{entries.logprobs[0]:g} for {len(entries)} tokens")
    return _assemble(entries, found, hidden, meta)


def _is_too_long(tokens: int, size: int, most_tokens: int) -> bool:
    return tokens > most_tokens + MORE_TOKENS or size > (most_tokens + MORE_TOKENS) * BYTES_PER_TOKEN


def _without_entries(text: str, prefill: str, meta: Meta) -> Completion | Refusal:
    """No list is fine where there is no text: the model stopped at once, or was cut inside a character.

    The token that was cut may begin with white space, which llama.cpp then shows without an entry, with
    (/completions) or without (chat) a replacement character after it.
    """
    content = text.removeprefix(prefill) if prefill else text
    if content.strip(SPACE + REPLACEMENT):
        return refuse("no_logprobs")
    generated = meta.usage.output_tokens
    if generated is None:
        generated = CUT + 1 if content else 0
    if REPLACEMENT not in content and generated > CUT:
        return refuse("no_logprobs")
    side = (SideToken(content, None, "tail"),) if content else ()
    return Completion(
        text="",
        tokens=Tokens.of([], []),
        prompt_ids=None if meta.prompt_ids is None else tuple(meta.prompt_ids),
        side=side,
        finish_reason=meta.finish_reason,
        usage=meta.usage,
        model=meta.model,
        fingerprint=meta.fingerprint,
        decode="none",
        notes=("empty",),
    )


def _take_in_specials(entries: Entries, found: Fit) -> None:
    """Make content of the special tokens that have a name; one that ends the sequence for good stays aside."""
    named = {index for index, kind in found.aside if kind == "special" and looks_special(entries.strings[index])}
    if not named or found.decode == "placed":
        return
    pieces = dict(zip(found.content, found.pieces, strict=True))
    pieces |= {index: entries.strings[index].encode() for index in named}
    found.aside = [(index, kind) for index, kind in found.aside if index not in named]
    found.content = sorted(pieces)
    found.pieces = [pieces[index] for index in found.content]


def _cut_at_special(found: Fit) -> None:
    """End the completion at the first special token that content stands on both sides of.

    What follows was written after a token that the text does not show (an end of document, the start of a
    message): scored as plain text it would look far less likely than it was, whichever model wrote it.
    """
    kept = _before_special(found)
    if kept == len(found.content):
        return
    while kept and not (found.pieces[kept - 1] and _whole(found.pieces[:kept])):
        kept -= 1  # a character that the special token cut off
    del found.content[kept:], found.pieces[kept:]
    found.notes.append("cut_at_special")


def _before_special(found: Fit) -> int:
    """How many content entries stand before the first special token.

    Some servers show a special token as "". They show the beginning of a character so, too, but the entry that
    ends such a character is outside of ASCII.
    """
    specials = {index for index, kind in found.aside if kind == "special"}
    for place in range(1, len(found.content)):
        if specials.intersection(range(found.content[place - 1] + 1, found.content[place])):
            return place
        shown = found.pieces[place]
        if found.decode != "placed" and shown[:1].isascii() and shown and not found.pieces[place - 1]:
            while place and not found.pieces[place - 1]:
                place -= 1
            if place:
                return place
    return len(found.content)


def _whole(pieces: list[bytes]) -> bool:
    joined = b"".join(pieces)
    return complete_length(joined) == len(joined)


def _hidden(entries: Entries, found: Fit, meta: Meta) -> set[int] | Refusal:
    """Content entries that stand for more tokens than the one whose logprob they carry.

    llama.cpp adds no entry while the text ends inside a character, so the entry that completes it holds
    the whole character and only its last token's logprob. Its own alternatives tell: the same id has
    other bytes there. An id that is not among them can't be told apart, and counts as merged.
    """
    generated = meta.usage.output_tokens
    if generated is None or not meta.only_choice:
        return set()
    absent = generated - len(entries)
    if absent <= 0:
        return set()
    merged = set()
    if entries.own_ids:
        odd = [index for index in found.content if not entries.strings[index].isascii()]
        merged = {index for index in odd if _merged(entries, index)}
    cut = found.cut_tail or bool(found.dropped)
    if not merged and not cut and absent > max(SLACK, 0.05 * generated):
        return refuse("entries_missing", f"{len(entries)} entries for {generated} tokens")
    return merged


def _merged(entries: Entries, index: int) -> bool:
    if entries.ids is None or index >= len(entries.tops) or entries.raw_bytes is None:
        return True
    tops = entries.tops[index]
    for top in tops if isinstance(tops, list) else []:
        if isinstance(top, dict) and top.get("id", top.get("token_id")) == entries.ids[index]:
            return bool(top.get("bytes") != entries.raw_bytes[index])
    return True


def _assemble(entries: Entries, found: Fit, merged: set[int], meta: Meta) -> Completion | Refusal:
    content, pieces = found.content, found.pieces
    logprobs = [entries.logprobs[index] for index in content]
    missing = sum(value != value for value in logprobs)
    if too_many_missing(missing, len(logprobs)):
        return refuse("missing_logprobs", f"{missing} of {len(logprobs)}")
    merged = merged | found.unknown
    if merged:
        logprobs = [NAN if index in merged else value for index, value in zip(content, logprobs, strict=True)]
        if 2 * sum(value != value for value in logprobs) > len(logprobs):
            return refuse("merged_characters", f"{len(merged)} of {len(logprobs)} entries")
    ends, values = units(pieces, logprobs)
    ids = entries.ids
    notes = list(found.notes)
    if merged:
        notes.append("merged_characters")
    if missing:
        notes.append("missing_logprobs")
    return Completion(
        text=b"".join(pieces).decode(),
        tokens=Tokens.of(ends, values),
        ids=None if ids is None or merged else tuple(ids[index] for index in content),
        prompt_ids=None if meta.prompt_ids is None else tuple(meta.prompt_ids),
        side=tuple(found.side(entries)),
        finish_reason=meta.finish_reason,
        usage=meta.usage,
        model=meta.model,
        fingerprint=meta.fingerprint,
        decode=found.decode,
        notes=tuple(notes),
        alternatives=_alternatives(entries, found, merged),
    )


def _alternatives(entries: Entries, found: Fit, merged: set[int]) -> Alternatives | None:
    """The lists of the content entries; that of an entry for several tokens belongs to the last of them."""
    where = [place for place in places(found.pieces, found.content) if place.entry not in merged]
    if found.decode == "placed":
        where = [place for place in where if place.token is not None]
    return read_lists(entries, where, found.decode)


def units(pieces: list[bytes], logprobs: list[float]) -> tuple[list[int], list[float]]:
    """Ends and summed logprobs of the units that `pieces` form.

    A piece of width zero joins the unit that follows: vLLM renders the tokens of a character as "" until
    the one that completes it, and a run that can only be placed as a whole is spelled by its last piece.
    """
    ends = list(accumulate(map(len, pieces)))
    if all(pieces):
        return ends, logprobs
    out_ends: list[int] = []
    out_values: list[float] = []
    pending = 0.0
    for piece, end, value in zip(pieces, ends, logprobs, strict=True):
        pending += value
        if piece:
            out_ends.append(end)
            out_values.append(pending)
            pending = 0.0
    return out_ends, out_values
