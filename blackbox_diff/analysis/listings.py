"""Lists of alternatives of many texts, laid end to end, and what the tokens of one vocabulary spell.

Everything is done on some hundred texts at once. Text k's bytes begin at bases[k], with one byte of room after
each text, so that one sorted array holds the positions of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import regex
from numpy.typing import NDArray

from blackbox_diff.analysis.words import is_unspaced
from blackbox_diff.records import Alternatives

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MOST_PREFIXES = 8  # shorter tokens that a token is held against
LEAST_LETTERS = 2  # of a shorter token, for it to stand for the words that it begins
_WORD = regex.compile(r"\w[\w'’-]*", regex.V1)
_BEGINS = regex.compile(r"^\s*[\"'“‘(\[*_#>-]*$", regex.V1)
_NO_WORD_GOES_ON = np.asarray([not (chr(k).isalnum() or chr(k) in "_'") for k in range(128)])  # after this byte


class Spelling:
    """What the tokens of one vocabulary spell: words, and which tokens begin like which.

    number: the place of each token's bytes in the vocabulary. rank: (v,) place of each token in the order of
    bytes; low, high: (v,) the range of ranks of tokens that a token begins; parent: (v,) the longest shorter token
    that begins it, -1 for none; word: (v,) number of the word that a token begins, -1 where it can't begin one;
    spaced: (v,) whether it brings the white space before the word.
    """

    def __init__(self, vocabulary: Sequence[bytes]) -> None:
        order = sorted(range(len(vocabulary)), key=vocabulary.__getitem__)
        letters = [_letters(token) for token in vocabulary]
        size = len(vocabulary)
        self.number = {token: k for k, token in enumerate(vocabulary)}
        self.rank = np.empty(size, dtype=np.int64)
        self.rank[order] = np.arange(size)
        self.low, self.high = self.rank.copy(), np.empty(size, dtype=np.int64)
        self.parent = np.full(size, -1, dtype=np.int64)
        self.word = np.full(size, -1, dtype=np.int64)
        self.spaced = np.zeros(size, dtype=bool)
        self.names: list[str] = []
        numbers: dict[str, int] = {}
        stack: list[int] = []
        for place, token in enumerate(order):
            while stack and not vocabulary[token].startswith(vocabulary[stack[-1]]):
                self.high[stack.pop()] = place
            self.parent[token] = next((k for k in reversed(stack) if letters[k] >= LEAST_LETTERS), -1)
            stack.append(token)
            word, spaced = _begun(vocabulary[token])
            self.spaced[token] = spaced
            if word is not None:
                self.word[token] = numbers.setdefault(word, len(self.names))
                if self.word[token] == len(self.names):
                    self.names.append(word)
        for token in stack:
            self.high[token] = size


def _letters(token: bytes) -> int:
    return sum(character.isalnum() for character in token.decode("utf-8", "ignore"))


def _begun(token: bytes) -> tuple[str | None, bool]:
    """The word that a token begins, in lower case, and whether white space or an opening mark comes with it:
    an apostrophe and a low line are none, since "'ll" and "_to" go on with a word."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return None, False
    match = _WORD.search(text)
    before = text[: match.start()] if match is not None else ""
    if match is None or not _BEGINS.match(before):
        return None, False
    return match.group().lower().rstrip("'’-_"), before not in ("", "'", "_")


class Laid:
    """m texts laid end to end. joined: their bytes; bases: (m+1,) where each begins."""

    def __init__(self, texts: Sequence[str]) -> None:
        data = [text.encode("utf-8", "surrogatepass") for text in texts]
        self.joined = b"\0".join([*data, b""])
        self.bases = np.concatenate([[0], np.cumsum([len(each) + 1 for each in data])]).astype(np.int64)
        self.bytes = np.frombuffer(self.joined, dtype=np.uint8)

    def rows(self, places: Ints) -> Ints:
        """The text that each byte stands in."""
        return np.asarray(np.searchsorted(self.bases, places, side="right") - 1)

    def spelled(self, starts: Ints, spelling: Spelling) -> Ints:
        """(p,) number of the token that is spelled from each position to the next one; -1 for none, as at the last
        position of a text."""
        number, joined = spelling.number, self.joined
        tokens = np.full(starts.size, -1, dtype=np.int64)
        tokens[:-1] = [number.get(joined[first:last], -1) for first, last in pairwise(starts.tolist())]
        rows = self.rows(starts)
        tokens[:-1][rows[1:] != rows[:-1]] = -1
        return tokens

    def opens(self, places: Ints) -> Bools:
        """Whether a word can begin at a byte: not inside of another, but in a script without spaces.

        Nor at a text's first byte: the prefill stands before, and may end within a word.
        """
        rows = self.rows(places)
        starts = self.bases[rows]
        found = places > starts
        before = self.bytes[np.maximum(places - 1, 0)]
        ascii_ = before < len(_NO_WORD_GOES_ON)
        found[ascii_] &= _NO_WORD_GOES_ON[before[ascii_]]
        for k in np.flatnonzero(found & ~ascii_).tolist():
            last = self.joined[max(int(starts[k]), int(places[k]) - 4) : int(places[k])].decode("utf-8", "ignore")[
                -1:
            ]
            found[k] = not last or not (last.isalnum() or last == "’") or is_unspaced(last)
        return np.asarray(found)


@dataclass(frozen=True, eq=False)
class Side:
    """One model's lists over some texts.

    starts: (p,) byte of each position. at: (e,) position's number of each entry, which never falls; tokens, mass:
    (e,) token and probability; open: (p,) what a token outside of a position's list can have at most.
    """

    starts: Ints
    at: Ints
    tokens: Ints
    mass: Floats
    open: Floats

    @classmethod
    def of(cls, lists: Sequence[Alternatives], laid: Laid) -> Side:
        starts = np.concatenate([one.positions + base for one, base in zip(lists, laid.bases[:-1], strict=True)])
        counts = np.concatenate([one.offsets[1:] - one.offsets[:-1] for one in lists])
        return cls(
            starts,
            np.repeat(np.arange(starts.size), counts),
            np.concatenate([one.tokens for one in lists]).astype(np.int64),
            np.exp(np.concatenate([one.logprobs for one in lists]).astype(np.float64)),
            np.exp(np.concatenate([one.unlisted for one in lists]).astype(np.float64)),
        )

    def only(self, places: Ints) -> Side:
        """The lists at some positions, given in rising order."""
        if places.size == self.starts.size:
            return self
        number = np.full(self.starts.size, -1, dtype=np.int64)
        number[places] = np.arange(places.size)
        at = number[self.at]
        kept = at >= 0
        return Side(self.starts[places], at[kept], self.tokens[kept], self.mass[kept], self.open[places])

    def standing(self, spelled: Ints) -> tuple[Ints, Floats]:
        """(p,) number of the token that stands at each position, given as laid.spelled says, and its nats; -1 and
        NaN where the position's list has none such."""
        tokens = spelled.copy()
        nats = np.full(tokens.size, np.nan)
        hit = np.flatnonzero(tokens[self.at] == self.tokens)[::-1]  # of two entries of one token the first counts
        with np.errstate(divide="ignore"):
            nats[self.at[hit]] = np.log(self.mass[hit])
        nats[np.isinf(nats)] = np.nan
        tokens[np.isnan(nats)] = -1
        return tokens, nats


class Beginnings:
    """A side's masses by what its tokens begin with."""

    def __init__(self, side: Side, spelling: Spelling) -> None:
        self._spelling, self._size = spelling, max(1, len(spelling.rank))
        keys = side.at * self._size + spelling.rank[side.tokens]
        order = np.argsort(keys, kind="stable")
        self._keys = np.append(keys[order], np.iinfo(np.int64).max)
        self._running = np.concatenate([[0.0], np.cumsum(side.mass[order])])

    def held_against(self, at: Ints, tokens: Ints) -> Floats:
        """(k,) mass of the side's tokens that begin like each token at its position; NaN where none is listed."""
        spelling = self._spelling
        found, there = self._between(at, spelling.low[tokens], spelling.high[tokens])
        shorter, where = spelling.parent[tokens], np.arange(tokens.size)
        for _ in range(MOST_PREFIXES):
            has = shorter >= 0
            shorter, where = shorter[has], where[has]
            if not where.size:
                break
            extra, listed = self._between(at[where], spelling.rank[shorter], spelling.rank[shorter] + 1)
            found[where[listed]] += extra[listed]
            there[where[listed]] = True
            shorter = spelling.parent[shorter]
        return np.where(there, found, np.nan)

    def _between(self, at: Ints, low: Ints, high: Ints) -> tuple[Floats, Bools]:
        """Mass of the tokens of these ranks at each position, and whether any is listed."""
        first = np.searchsorted(self._keys, at * self._size + low)
        # Mostly one token is in between, or none, and looking at the next key is cheaper than a search.
        stop = at * self._size + high
        last = first + (self._keys[first] < stop)
        more = np.flatnonzero(self._keys[last] < stop)
        last[more] = np.searchsorted(self._keys, stop[more])
        return self._running[last] - self._running[first], last > first
