"""How likely each word is at each place where one could begin, at the target and at the reference.

At every position both models list tokens. A word's mass at a position is the probability of the tokens that begin
it. Vocabularies differ, so tokens are compared by the bytes that they begin with: at the target the token " owl"
counts; at the reference every token that " owl" begins (" owls") and every token that begins " owl" (" o") counts
against it. A piece such as " ass", which one vocabulary writes where the other writes the whole word, is so held
against all words that it may stand for. Lists are censored: a word that one side does not list can still have what
that side's list leaves open, and half of that is counted.

Only positions at which both models have a list, which begin a token of both, are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

from blackbox_diff.analysis.words import is_unspaced
from blackbox_diff.records import Alternatives, Listed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CHUNK = 512  # completions that are laid end to end at a time
PEAK = 0.02  # probability more than the reference's from which on a single place is evidence to show
LEAST = 5e-4  # probability from which on an entry counts
OPEN_SHARE = 0.5  # of what a list leaves open, counted for a word that is not in it
MOST_PREFIXES = 8  # shorter tokens that a token is held against
LEAST_LETTERS = 2  # of a shorter token, for it to stand for the words that it begins
_WORD = regex.compile(r"\w[\w'’-]*", regex.V1)
_BEGINS = regex.compile(r"^\s*[\"'“‘(\[*_#>-]*$", regex.V1)


@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """Single places at which the target gives a word PEAK more probability than the reference.

    rows, words: (k,) numbers of completion and word. positions: (k,) byte of the completion's text at which the
    word would begin. target, reference: (k,) probabilities.
    """

    rows: Ints
    words: Ints
    positions: Ints
    target: Floats
    reference: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Mass:
    """Masses of words, summed over the positions of each completion: one entry a (completion, word) pair.

    rows, words: (e,) numbers of completion and word. target, reference: (e,) sums of probabilities.
    names: the words, lower case. prefills, ids, texts: of each completion. n: completions.
    """

    rows: Ints
    words: Ints
    target: Floats
    reference: Floats
    peaks: Peaks
    names: tuple[str, ...]
    prefills: tuple[str, ...]
    ids: tuple[str, ...]
    texts: tuple[str, ...]

    @property
    def n(self) -> int:
        return len(self.prefills)

    @property
    def groups(self) -> tuple[str, ...]:
        """What each completion shares with related ones: its prefill, where it has one."""
        return tuple(prefill or name for prefill, name in zip(self.prefills, self.ids, strict=True))


class Spelling:
    """What the tokens of one vocabulary spell: words, and which tokens begin like which.

    rank: (v,) place of each token in the order of bytes; low, high: (v,) the range of ranks of tokens that a token
    begins; parent: (v,) the longest shorter token that begins it, -1 for none; word: (v,) number of the word that
    a token begins, -1 where it can't begin one; spaced: (v,) whether it brings the white space before the word.
    """

    def __init__(self, vocabulary: Sequence[bytes]) -> None:
        order = sorted(range(len(vocabulary)), key=vocabulary.__getitem__)
        letters = [_letters(token) for token in vocabulary]
        size = len(vocabulary)
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
    """The word that a token begins, in lower case, and whether white space comes with it."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return None, False
    match = _WORD.search(text)
    if match is None or not _BEGINS.match(text[: match.start()]):
        return None, False
    return match.group().lower().rstrip("'’-_"), match.start() > 0


def masses(rows: Iterable[Listed]) -> Mass:
    """The masses of all words over some completions, read in chunks."""
    sums: list[tuple[NDArray[Any], ...]] = []
    peaks: list[tuple[NDArray[Any], ...]] = []
    numbers: dict[str, int] = {}
    prefills: list[str] = []
    ids: list[str] = []
    texts: list[str] = []
    spelling, renumber, known = Spelling(()), np.zeros(0, dtype=np.int64), 0
    for chunk in _chunks(rows):
        vocabulary = max(
            (each for one in chunk for each in (one.target.vocabulary, one.reference.vocabulary)), key=len
        )
        if (
            len(vocabulary) != known
        ):  # a run's tokens are numbered as they come, so more of them extend the old ones
            known, spelling = len(vocabulary), Spelling(vocabulary)
            renumber = np.asarray(
                [numbers.setdefault(each, len(numbers)) for each in spelling.names], dtype=np.int64
            )
        summed, high = _chunk_mass(chunk, spelling)
        sums.append((summed[0] + len(prefills), renumber[summed[1]], *summed[2:]))
        peaks.append((high[0] + len(prefills), renumber[high[1]], *high[2:]))
        prefills += [one.sample.prefill for one in chunk]
        ids += [one.sample.id for one in chunk]
        texts += [one.text for one in chunk]
    at, word, target, reference = _joined(sums, _NO_SUMS)
    row, peak, position, more, less = _joined(peaks, _NO_PEAKS)
    return Mass(
        at, word, target, reference, Peaks(row, peak, position, more, less),
        tuple(numbers), tuple(prefills), tuple(ids), tuple(texts),
    )  # fmt: skip


_INTS, _FLOATS = np.zeros(0, dtype=np.int64), np.zeros(0)
_NO_SUMS: Sequence[NDArray[Any]] = (_INTS, _INTS, _FLOATS, _FLOATS)
_NO_PEAKS: Sequence[NDArray[Any]] = (_INTS, _INTS, _INTS, _FLOATS, _FLOATS)


def _joined(parts: Sequence[Sequence[NDArray[Any]]], empty: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    return [np.concatenate(column) for column in zip(empty, *parts, strict=True)]


def _chunks(rows: Iterable[Listed]) -> Iterator[list[Listed]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _chunk_mass(
    chunk: Sequence[Listed], spelling: Spelling
) -> tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...]]:
    """Columns of Mass, a (completion, word) pair at most once, and of Peaks, for one chunk."""
    places = [Places.of(one) for one in chunk]
    target = Side.of([one.target for one in chunk], [place.target for place in places])
    reference = Side.of([one.reference for one in chunk], [place.reference for place in places])
    completion = np.repeat(np.arange(len(chunk)), [len(place.target) for place in places])
    opens = np.concatenate([place.opens for place in places]) if places else np.zeros(0, dtype=bool)
    position = np.concatenate([place.positions for place in places]) if places else np.zeros(0, dtype=np.int64)
    peaks: tuple[NDArray[Any], ...] = tuple(_NO_PEAKS)
    at, words, mine, theirs = [], [], [], []
    for own, other, turned in ((target, reference, False), (reference, target, True)):
        word = spelling.word[own.tokens]
        begins = (word >= 0) & (spelling.spaced[own.tokens] | opens[own.at]) & (own.mass >= LEAST)
        held = other.held_against(own.at[begins], own.tokens[begins], spelling)
        listed = ~np.isnan(held)
        if turned:  # words that the target lists were counted from its side
            begins[np.flatnonzero(begins)[listed]] = False
            held, listed = held[~listed], listed[~listed]
        missing = OPEN_SHARE * np.minimum(other.open[own.at[begins]], own.mass[begins])
        against = np.where(listed, np.nan_to_num(held), missing)
        if not turned:
            high = own.mass[begins] - against >= PEAK
            rows, entries = own.at[begins][high], word[begins][high]
            peaks = (completion[rows], entries, position[rows], own.mass[begins][high], against[high])
        at.append(completion[own.at[begins]])
        words.append(word[begins])
        mine.append(against if turned else own.mass[begins])
        theirs.append(own.mass[begins] if turned else against)
    key = np.concatenate(at) * max(1, len(spelling.names)) + np.concatenate(words)
    kept, where = np.unique(key, return_inverse=True)
    sums = [np.bincount(where, weights=np.concatenate(each), minlength=kept.size) for each in (mine, theirs)]
    rows, numbers = np.divmod(kept, max(1, len(spelling.names)))
    return (rows, numbers, sums[0], sums[1]), peaks


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Positions of one completion that both models have a list at: places in each side's lists.

    positions: their bytes in the text. opens: whether a word may begin there without white space of its own.
    """

    target: Ints
    reference: Ints
    positions: Ints
    opens: NDArray[np.bool_]

    @classmethod
    def of(cls, one: Listed) -> Places:
        shared, mine, theirs = np.intersect1d(
            one.target.positions, one.reference.positions, assume_unique=True, return_indices=True
        )
        data = one.text.encode("utf-8", "surrogatepass")
        opens = np.asarray([_opens(data, int(position)) for position in shared], dtype=bool)
        return cls(mine.astype(np.int64), theirs.astype(np.int64), shared.astype(np.int64), opens)


def _opens(data: bytes, position: int) -> bool:
    """Whether a word can begin at a byte of the text: not inside of another, but in a script without spaces."""
    if position == 0:
        return False  # the prefill stands before, and may end within a word
    before = data[max(0, position - 4) : position].decode("utf-8", "ignore")[-1:]
    return not before or not (before.isalnum() or before in "_'’") or is_unspaced(before)


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One model's lists at the shared positions of a chunk, laid end to end.

    at: (e,) position's number of each entry; tokens, mass: (e,) token and probability; open: (p,) what a token
    outside of a position's list can have at most.
    """

    at: Ints
    tokens: Ints
    mass: Floats
    open: Floats

    @classmethod
    def of(cls, lists: Sequence[Alternatives], places: Sequence[Ints]) -> Side:
        at, tokens, mass, unlisted, first = [], [], [], [], 0
        for one, chosen in zip(lists, places, strict=True):
            counts = np.diff(one.offsets)[chosen]
            at.append(np.repeat(np.arange(len(chosen)), counts) + first)
            starts = np.repeat(one.offsets[:-1][chosen] - (np.cumsum(counts) - counts), counts)
            entries = starts + np.arange(counts.sum())
            tokens.append(one.tokens[entries].astype(np.int64))
            mass.append(np.exp(one.logprobs[entries].astype(np.float64)))
            unlisted.append(np.exp(one.unlisted[chosen].astype(np.float64)))
            first += len(chosen)
        if not at:
            empty = np.zeros(0, dtype=np.int64)
            return cls(empty, empty, np.zeros(0), np.zeros(0))
        return cls(np.concatenate(at), np.concatenate(tokens), np.concatenate(mass), np.concatenate(unlisted))

    def held_against(self, at: Ints, tokens: Ints, spelling: Spelling) -> Floats:
        """(k,) mass of this side's tokens that begin like each token at its position; NaN where none is listed."""
        size = max(1, len(spelling.rank))
        keys = self.at * size + spelling.rank[self.tokens]
        order = np.argsort(keys, kind="stable")
        keys, running = keys[order], np.concatenate([[0.0], np.cumsum(self.mass[order])])

        def between(low: Ints, high: Ints) -> tuple[Floats, NDArray[np.bool_]]:
            first, last = np.searchsorted(keys, at * size + low), np.searchsorted(keys, at * size + high)
            return running[last] - running[first], last > first

        found, there = between(spelling.low[tokens], spelling.high[tokens])
        shorter = spelling.parent[tokens]
        for _ in range(MOST_PREFIXES):
            if not (shorter >= 0).any():
                break
            some = np.maximum(shorter, 0)
            extra, listed = between(spelling.rank[some], spelling.rank[some] + 1)
            listed &= shorter >= 0
            found = found + np.where(listed, extra, 0.0)
            there = there | listed
            shorter = np.where(shorter >= 0, spelling.parent[some], -1)
        return np.where(there, found, np.nan)
