"""The lists of alternatives in a reply, as columns.

Shapes of one position's list, in whatever shape the reply is:
    objects    [{token, bytes, logprob}, ...]            chat; llama.cpp: `prob` after sampling
    strings    {"<token>": logprob, ...}                 legacy; Together: a list of such
    by id      {"<id>": {logprob, decoded_token}, ...}   vLLM prompt_logprobs
    triples    [[logprob, id, text], ...]                SGLang /generate
    records    [{id, text, logprob}, ...]                TGI top_tokens

A list can be trusted where it agrees with the token that stands at its position: the probabilities add up to at
most 1, and a token that is likelier than the list's last entry is in the list. A reply in which many lists fail
that is not believed in any of them (rows that belong to other positions were seen, see docs/endpoints.md).
A token whose bytes are lost (a part of a character, shown as U+FFFD or "") can't be compared and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.records import Alternatives, Json
from blackbox_diff.wire.entries import Entries
from blackbox_diff.wire.sentinels import FLOOR, NAN, ROUNDING, censor, from_probability
from blackbox_diff.wire.tokens import rendered

LOST_BYTES = "\ufffd".encode()
MOST_LISTED = 64  # entries that are read of one list: no server was seen to list more than 50
LONGEST_TOKEN = 256  # bytes
MOST_VOCABULARY = 1 << 20  # bytes of a reply's different tokens: 4,096 lists of 20 have a third of that
TOO_MUCH = 1.01  # a list whose probabilities add up to more is none; servers round them to three digits or so
SAME = 1e-6
SLACK = 0.1  # nats that the sampled token's two numbers may differ by in one reply
MOST_FALSE = 0.05  # share of a reply's lists that may contradict it

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry's list belongs: the byte of the text at which its tokens would begin.

    token: the bytes of the token that stands there; None where the entry is only a part of what does.
    """

    entry: int
    position: int
    token: bytes | None


def places(pieces: Sequence[bytes], entries: Iterable[int], *, start: int = 0) -> list[Place]:
    """The places of entries with these `pieces`, the first of which begins at byte `start`.

    Of several entries that make up one unit only the first one's list has a place in the text.
    """
    found = []
    position, opened = start, True
    for piece, entry in zip(pieces, entries, strict=True):
        if opened:
            found.append(Place(entry, position, piece or None))
        position += len(piece)
        opened = bool(piece)
    return found


def read_lists(entries: Entries, where: Sequence[Place], decode: str) -> Alternatives | None:
    """The lists of `entries` at these places; None where the reply has none, or contradicts those it has.

    decode: how the bytes of the reply's tokens were recovered, which holds for the alternatives, too.
    """
    if not any(entries.tops):
        return None
    names = frozenset(decode.split("+"))
    reader = _Reader(names)
    here = [place for place in where if place.entry < len(entries.tops) and entries.tops[place.entry]]
    for place in here:
        reader.take(entries.tops[place.entry])
    if not reader.values:
        return None
    rows = np.repeat(np.arange(len(here)), reader.counts)
    own = np.asarray([reader.number(place.token) for place in here], dtype=np.int64)
    sampled = np.asarray([entries.logprobs[place.entry] for place in here])
    return _checked(
        np.asarray([place.position for place in here], dtype=np.int64),
        rows,
        np.asarray(reader.tokens, dtype=np.int64),
        _censored(reader.values),
        own,
        sampled,
        tuple(reader.vocabulary),
    )


def first_list(entries: Entries | None) -> Alternatives | None:
    """The list at a reply's first entry, whatever was drawn there: the end, or a part of a character."""
    if entries is None or not len(entries):
        return None
    return read_lists(entries.part(0, 1), [Place(0, 0, None)], "bytes+escapes+pieces+gpt2")


class _Reader:
    """Collects lists: token numbers (-1 where a token's bytes are not known), values as sent, entries of each."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self.vocabulary: dict[bytes, int] = {}
        self.known: dict[str, int] = {}  # numbers of token strings that say all there is to say
        self.tokens: list[int] = []
        self.values: list[Json] = []
        self.counts: list[int] = []
        self._size = 0  # of the vocabulary, in bytes

    def number(self, token: bytes | None) -> int:
        if token is None or not token or len(token) > LONGEST_TOKEN or LOST_BYTES in token:
            return -1
        found = self.vocabulary.get(token)
        if found is None:
            self._size += len(token)
            if self._size > MOST_VOCABULARY:
                return -1
            found = self.vocabulary[token] = len(self.vocabulary)
        return found

    def take(self, tops: Json) -> None:
        before = len(self.values)
        for token, raw, value in islice(listed(tops), MOST_LISTED):
            self.tokens.append(self._numbered(token, raw))
            self.values.append(value)
        self.counts.append(len(self.values) - before)

    def _numbered(self, token: Json, raw: Json) -> int:
        if token.__class__ is not str:
            return -1
        found = self.known.get(token)
        if found is None:
            found = self.number(rendered(token, raw, self.names))
            if raw is None or token.isascii():  # other strings may stand for several byte lists
                self.known[token] = found
        return found


def listed(tops: Json) -> Iterator[tuple[Json, Json, Json]]:
    """(token string, byte list, logprob) of each entry; what has no such shape has no entry."""
    if tops.__class__ is dict:
        for token, value in tops.items():
            if value.__class__ is dict:
                yield value.get("decoded_token"), None, value.get("logprob")
            else:
                yield token, None, value
    elif tops.__class__ is list:
        for entry in tops:
            if entry.__class__ is dict:
                if "token" in entry:
                    value = entry["logprob"] if "logprob" in entry else from_probability(entry.get("prob"))
                    yield entry["token"], entry.get("bytes"), value
                elif "text" in entry:
                    yield entry["text"], None, entry.get("logprob")
                else:
                    for token, value in entry.items():
                        yield token, None, value
            elif entry.__class__ is list and len(entry) >= 3:
                yield entry[2], None, entry[0]


def _censored(values: list[Json]) -> Floats:
    """Logprobs in nats, NaN for what is none."""
    if not set(map(type, values)) <= {float, int}:
        return np.asarray([censor(value) for value in values])
    try:
        found = np.asarray(values, dtype=np.float64)
    except OverflowError:
        return np.asarray([censor(value) for value in values])
    usable = (found > FLOOR) & (found <= ROUNDING) & (found != -100.0)
    return np.where(usable, np.minimum(found, 0.0), NAN)


def _checked(
    positions: Ints,
    rows: Ints,
    tokens: Ints,
    logprobs: Floats,
    own: Ints,
    sampled: Floats,
    vocabulary: tuple[bytes, ...],
) -> Alternatives | None:
    """The lists that agree with what stands at their positions, with that token in them."""
    p = len(positions)
    listed = ~np.isnan(logprobs)
    known = own >= 0
    is_own = (tokens == own[rows]) & known[rows]
    # A token whose bytes are lost is told from the others by its number alone.
    is_own |= (tokens < 0) & ~known[rows] & (np.abs(logprobs - sampled[rows]) < SAME)
    others = np.where(listed & ~is_own, logprobs, np.inf)
    last = np.full(p, np.inf)
    np.minimum.at(last, rows, others)
    there = np.zeros(p, dtype=bool)
    there[rows[is_own & listed]] = True
    lowest = np.full(p, np.inf)
    np.minimum.at(lowest, rows, np.where(listed, logprobs, np.inf))

    differs = np.zeros(p, dtype=bool)
    differs[rows[is_own & (np.abs(logprobs - sampled[rows]) > SLACK)]] = True
    add = known & ~there & ~np.isnan(sampled)  # a token outside of the best ones joins its list
    rows = np.concatenate([rows, np.flatnonzero(add)])
    tokens = np.concatenate([tokens, own[add]])
    logprobs = np.concatenate([logprobs, sampled[add]])
    mass = np.bincount(rows, weights=np.exp(np.nan_to_num(logprobs, nan=-np.inf)), minlength=p)
    missed = add & (sampled > lowest + SLACK) & np.isfinite(lowest)
    false = (mass > TOO_MUCH) | missed | differs
    if false.sum() > MOST_FALSE * p and false.sum() > 1:
        return None

    # What can't be listed: at most as likely as the last entry, or all that the entries leave.
    left = np.log(np.clip(1.0 - mass, TOO_MUCH - 1.0, 1.0))
    unlisted = np.minimum(np.where(np.isfinite(last), last, left), 0.0)
    good = ~np.isnan(logprobs) & (tokens >= 0) & ~false[rows]
    rows, tokens, logprobs = rows[good], tokens[good], logprobs[good]
    order = np.lexsort((tokens, rows))
    rows, tokens, logprobs = rows[order], tokens[order], logprobs[order]
    fresh = np.ones(rows.size, dtype=bool)
    fresh[1:] = (rows[1:] != rows[:-1]) | (tokens[1:] != tokens[:-1])
    if rows.size and not fresh.all():  # several ids with the same bytes are one token
        logprobs = np.minimum(np.logaddexp.reduceat(logprobs, np.flatnonzero(fresh)), 0.0)
        rows, tokens = rows[fresh], tokens[fresh]
    order = np.lexsort((-logprobs, rows))
    rows, tokens, logprobs = rows[order], tokens[order], logprobs[order]
    kept = np.flatnonzero(~false)
    counts = np.bincount(rows, minlength=p)[kept]
    return Alternatives(
        positions=positions[kept],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        tokens=tokens.astype(np.int32),
        logprobs=logprobs.astype(np.float32),
        unlisted=unlisted[kept].astype(np.float32),
        vocabulary=vocabulary,
    )
