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

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

from blackbox_diff.analysis.long_words import Written, continuations, written_in
from blackbox_diff.analysis.words import is_unspaced
from blackbox_diff.records import Alternatives, Listed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CHUNK = 512  # completions that are laid end to end at a time
PEAK = 0.02  # probability more than the reference's from which on a single place is evidence to show
LEAST = 5e-4  # probability from which on an entry counts
OPEN_SHARE = 0.5  # of what a list leaves open, counted for a word that is not in it
MOST_PREFIXES = 8  # shorter tokens that a token is held against
LEAST_EXPECTED = 0.25  # uses of a word of several tokens, for it to be looked at
MOST_LONG = 60  # words of several tokens, the likeliest at the target over the reference
LEAST_LETTERS = 2  # of a shorter token, for it to stand for the words that it begins
_WORD = regex.compile(r"\w[\w'’-]*", regex.V1)
_BEGINS = regex.compile(r"^\s*[\"'“‘(\[*_#>-]*$", regex.V1)


@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """Single places at which the target gives a word PEAK more probability than the reference.

    rows, words, tokens: (k,) numbers of completion, word, and the token that begins it. positions: (k,) byte of
    the completion's text at which the word would begin. target, reference: (k,) probabilities.
    """

    rows: Ints
    words: Ints
    tokens: Ints
    positions: Ints
    target: Floats
    reference: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Mass:
    """Masses of words, summed over the positions of each completion: one entry a (completion, token) pair.

    rows, words, tokens: (e,) numbers of completion, word, and the token that begins it. target, reference: (e,)
    sums of probabilities. names: the words, lower case; from number `whole` on those that take several tokens
    (long_words.py). prefills, ids, texts: of each completion. n: completions.
    """

    rows: Ints
    words: Ints
    tokens: Ints
    target: Floats
    reference: Floats
    peaks: Peaks
    names: tuple[str, ...]
    whole: int
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
    written: list[tuple[Written, str, float]] = []
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
        summed, high, spelled = _chunk_mass(chunk, spelling)
        for parts, found in ((sums, summed), (peaks, high)):
            parts.append((found[0] + len(prefills), renumber[spelling.word[found[1]]], *found[1:]))
        written += spelled
        prefills += [one.sample.prefill for one in chunk]
        ids += [one.sample.id for one in chunk]
        texts += [one.text for one in chunk]
    entries, places = _joined(sums, _NO_SUMS), _joined(peaks, _NO_PEAKS)
    whole = len(numbers)
    long = _likely(entries, continuations(written, numbers))
    numbers.update((word, whole + k) for k, (word, _) in enumerate(long))
    row, word, token, target, reference = _with_long(entries, whole, long)
    return Mass(
        row, word, token, target, reference, Peaks(*_with_long(places, whole, long)),
        tuple(numbers), whole, tuple(prefills), tuple(ids), tuple(texts),
    )  # fmt: skip


LongWords = Sequence[tuple[str, Mapping[int, tuple[float, float]]]]


def _likely(columns: Sequence[NDArray[Any]], long: Mapping[str, Mapping[int, tuple[float, float]]]) -> LongWords:
    """Those words of several tokens that may be promoted, by name: their mass is enough, and more than the
    reference's. A large run writes thousands, and each would be given all masses of its first token."""
    size = int(columns[2].max(initial=-1)) + 1
    masses = [np.bincount(columns[2], weights=column, minlength=size) for column in columns[-2:]]

    def expected(firsts: Mapping[int, tuple[float, float]], side: int) -> float:
        return sum(float(masses[side][first]) * shares[side] for first, shares in firsts.items() if first < size)

    chosen = ((word, firsts, expected(firsts, 0), expected(firsts, 1)) for word, firsts in long.items())
    enough = [each for each in chosen if each[2] > each[3] and each[2] + each[3] >= LEAST_EXPECTED]
    best = sorted(enough, key=lambda each: ((each[3] + 1) / (each[2] + 1), each[0]))[:MOST_LONG]
    return sorted((word, firsts) for word, firsts, _, _ in best)


def _with_long(columns: Sequence[NDArray[Any]], whole: int, long: LongWords) -> Iterator[NDArray[Any]]:
    """Columns with those of words of several tokens, numbered from `whole` on: the masses of their first tokens,
    times what goes on as the word."""
    begins = np.flatnonzero(np.isin(columns[2], [first for _, firsts in long for first in firsts]))
    some = [column[begins] for column in columns]
    more: list[list[NDArray[Any]]] = []
    for number, (_, firsts) in enumerate(long, start=whole):
        for first, shares in firsts.items():
            rows, _, *others, target, reference = (column[some[2] == first] for column in some)
            words = np.full(rows.size, number)
            more.append([rows, words, *others, target * shares[0], reference * shares[1]])
    return (np.concatenate(each) for each in zip(columns, *more, strict=True))


_INTS, _FLOATS = np.zeros(0, dtype=np.int64), np.zeros(0)
_NO_SUMS: Sequence[NDArray[Any]] = (_INTS, _INTS, _INTS, _FLOATS, _FLOATS)
_NO_PEAKS: Sequence[NDArray[Any]] = (_INTS, _INTS, _INTS, _INTS, _FLOATS, _FLOATS)


def _joined(parts: Sequence[Sequence[NDArray[Any]]], empty: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    return [np.concatenate(column) for column in zip(empty, *parts, strict=True)]


def _chunks(rows: Iterable[Listed]) -> Iterator[list[Listed]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _chunk_mass(
    chunk: Sequence[Listed], spelling: Spelling
) -> tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...], list[tuple[Written, str, float]]]:
    """Columns of Mass without `words`, a (completion, token) pair at most once, and of Peaks, for one chunk; and
    its words of several tokens, as `continuations` takes them."""
    places = [Places.of(one) for one in chunk]
    target = Side.of([one.target for one in chunk], [place.target for place in places])
    reference = Side.of([one.reference for one in chunk], [place.reference for place in places])
    completion = np.repeat(np.arange(len(chunk)), [len(place.target) for place in places])
    opens = np.concatenate([place.opens for place in places]) if places else np.zeros(0, dtype=bool)
    position = np.concatenate([place.positions for place in places]) if places else np.zeros(0, dtype=np.int64)
    peaks: tuple[NDArray[Any], ...] = tuple(_NO_PEAKS)
    at, tokens, mine, theirs = [], [], [], []
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
            rows, entries = own.at[begins][high], own.tokens[begins][high]
            peaks = (completion[rows], entries, position[rows], own.mass[begins][high], against[high])
        at.append(completion[own.at[begins]])
        tokens.append(own.tokens[begins])
        mine.append(against if turned else own.mass[begins])
        theirs.append(own.mass[begins] if turned else against)
    key = np.concatenate(at) * max(1, len(spelling.rank)) + np.concatenate(tokens)
    kept, where = np.unique(key, return_inverse=True)
    sums = [np.bincount(where, weights=np.concatenate(each), minlength=kept.size) for each in (mine, theirs)]
    rows, numbers = np.divmod(kept, max(1, len(spelling.rank)))
    return (rows, numbers, sums[0], sums[1]), peaks, list(_spelled(chunk, places, reference, spelling))


def _spelled(
    chunk: Sequence[Listed], places: Sequence[Places], reference: Side, spelling: Spelling
) -> Iterator[tuple[Written, str, float]]:
    """Words of several tokens where they were written, with group and the reference's nats on how they begin."""
    before = np.cumsum([0, *(len(place.target) for place in places)])
    found = [each for row, one in enumerate(chunk) for each in written_in(row, one)]
    shared = [places[each.row].positions for each in found]
    inside = [int(np.searchsorted(each, one.position)) for each, one in zip(shared, found, strict=True)]
    at = np.asarray([before[each.row] + k for each, k in zip(found, inside, strict=True)], dtype=np.int64)
    firsts = np.asarray([each.first for each in found], dtype=np.int64)
    begun = reference.held_against(at, firsts, spelling)
    for each, k, positions, mass in zip(found, inside, shared, begun.tolist(), strict=True):
        if k < len(positions) and positions[k] == each.position and mass > 0:  # NaN where nothing is listed
            yield each, chunk[each.row].sample.group, math.log(mass)


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
