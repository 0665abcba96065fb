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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.analysis.listings import Beginnings, Laid, Side, Spelling
from blackbox_diff.analysis.long_words import Read, Written, continuations, written_in
from blackbox_diff.analysis.sums import summed
from blackbox_diff.records import Listed

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.signedinteger[Any]]

CHUNK = 512  # completions that are laid end to end at a time
PEAK = 0.02  # probability more than the reference's from which on a single place is evidence to show
LEAST = 5e-4  # probability from which on an entry counts
OPEN_SHARE = 0.5  # of what a list leaves open, counted for a word that is not in it
LEAST_EXPECTED = 0.25  # uses of a word of several tokens, for it to be looked at
STRETCH = 1 << 22  # entries that are summed at a time
MOST_LONG = 60  # words of several tokens, the likeliest at the target over the reference


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


def places(rows: Ints, positions: Ints) -> Ints:
    """One number for each completion's byte, in their order."""
    return (rows.astype(np.int64) << 32) + positions.astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Mass:
    """Masses of words, summed over the positions of each completion: an entry for each token that begins one.

    rows, words: (e,) numbers of completion and word, in 32 bits since a completion can have a thousand; rows rise
    over the first `ordered` entries, and those of words that take several tokens follow. target, reference: (e,)
    sums of probabilities. names: the words, lower case; from number `whole` on those that take several tokens
    (long_words.py). prefills, ids, texts: of each completion. n: completions.
    """

    rows: Ints
    words: Ints
    target: Floats
    reference: Floats
    peaks: Peaks
    names: tuple[str, ...]
    whole: int
    ordered: int
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


def masses(rows: Iterable[Listed]) -> Mass:
    """The masses of all words over some completions, read in chunks."""
    sums: list[Columns] = []
    peaks: list[Columns] = []
    written: list[Written] = []
    uses = np.zeros(0, dtype=np.int64)  # of each token, by the target
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
        whole_words, high, spelled, standing = _chunk_mass(chunk, spelling)
        uses = np.pad(uses, (0, known - uses.size)) + np.bincount(standing[standing >= 0], minlength=known)
        for parts, found in ((sums, whole_words), (peaks, high)):
            parts.append([narrow(found[0] + len(prefills)), *map(narrow, found[1:])])
        written.append(spelled)
        prefills += [one.sample.prefill for one in chunk]
        ids += [one.sample.id for one in chunk]
        texts += [one.text for one in chunk]
    entries, places = _joined(sums, 4), _joined(peaks, 5)
    whole, ordered, word_of = len(numbers), entries[0].size, narrow(renumber[spelling.word])
    long = _likely(entries, continuations(written, numbers, uses))
    numbers.update((word, whole + k) for k, (word, _) in enumerate(long))
    for columns in (entries, places):
        _add_long(columns, word_of, whole, long)
    row, word, target, reference = entries
    return Mass(
        row, word, target, reference, Peaks(*places),
        tuple(numbers), whole, ordered, tuple(prefills), tuple(ids), tuple(texts),
    )  # fmt: skip


Columns = list[NDArray[Any]]  # rows, tokens, (of peaks: positions,) masses at the target, at the reference
LongWords = Sequence[tuple[str, Mapping[int, tuple[float, float]]]]


def narrow(column: NDArray[Any]) -> NDArray[Any]:
    return column.astype(np.float32 if column.dtype.kind == "f" else np.int32)


def _likely(columns: Columns, long: Mapping[str, Mapping[int, tuple[float, float]]]) -> LongWords:
    """Those words of several tokens that may be promoted, by name: their mass is enough, and more than the
    reference's. A large run writes thousands, and each would be given all masses of its first token."""
    tokens = columns[1]
    size = int(tokens.max(initial=-1)) + 1
    masses = [_summed(tokens, column, size) for column in columns[-2:]]

    def expected(firsts: Mapping[int, tuple[float, float]], side: int) -> float:
        return sum(float(masses[side][first]) * shares[side] for first, shares in firsts.items() if first < size)

    chosen = ((word, firsts, expected(firsts, 0), expected(firsts, 1)) for word, firsts in long.items())
    enough = [each for each in chosen if each[2] > each[3] and each[2] + each[3] >= LEAST_EXPECTED]
    best = sorted(enough, key=lambda each: ((each[3] + 1) / (each[2] + 1), each[0]))[:MOST_LONG]
    return sorted((word, firsts) for word, firsts, _, _ in best)


def _summed(tokens: Ints, column: Floats, size: int) -> Floats:
    """(size,) sums by token, in stretches: bincount takes weights in 64 bits."""
    total = np.zeros(size)
    for first in range(0, tokens.size, STRETCH):
        part = slice(first, first + STRETCH)
        total += np.bincount(tokens[part], weights=column[part], minlength=size)
    return total


def _add_long(columns: Columns, word_of: Ints, whole: int, long: LongWords) -> None:
    """Put words in the place of tokens, and add those of several tokens, numbered from `whole` on: the masses of
    their first tokens, times what goes on as the word. Column by column, since they are large."""
    is_first = np.zeros(word_of.size, dtype=bool)
    is_first[[first for _, firsts in long for first in firsts if first < word_of.size]] = True
    begins = np.flatnonzero(is_first[columns[1]])
    some = [column[begins] for column in columns]
    more: list[Columns] = []
    for number, (_, firsts) in enumerate(long, start=whole):
        for first, shares in firsts.items():
            rows, tokens, *others, target, reference = (column[some[1] == first] for column in some)
            more.append([rows, np.full_like(tokens, number), *others, target * shares[0], reference * shares[1]])
    columns[1] = word_of[columns[1]]
    for k, parts in enumerate(zip(*more, strict=True)):
        columns[k] = np.concatenate([columns[k], *map(narrow, parts)])


_EMPTY: tuple[NDArray[Any], ...] = (np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))


def _joined(parts: list[Columns], columns: int) -> Columns:
    """The columns of all parts, which are let go one after the other: all of them twice would not fit."""
    if not parts:
        return [*(_EMPTY[0] for _ in range(columns - 2)), _EMPTY[1], _EMPTY[1]]
    joined = []
    for _ in range(columns):
        joined.append(np.concatenate([each.pop(0) for each in parts]))
    return joined


def _chunks(rows: Iterable[Listed]) -> Iterator[list[Listed]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _chunk_mass(
    chunk: Sequence[Listed], spelling: Spelling
) -> tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...], Written, Ints]:
    """Columns of Mass without `words`, a (completion, token) pair at most once, and of Peaks, for one chunk; and
    its words of several tokens, and the tokens that the target wrote."""
    laid = Laid([one.text for one in chunk])
    whole = [Side.of([one.target for one in chunk], laid), Side.of([one.reference for one in chunk], laid)]
    if alike := np.array_equal(whole[0].starts, whole[1].starts):  # as two models of one vocabulary mostly read
        shared, sides = whole[0].starts, whole
    else:
        shared, *both = np.intersect1d(whole[0].starts, whole[1].starts, assume_unique=True, return_indices=True)
        sides = [side.only(places) for side, places in zip(whole, both, strict=True)]
    held = [Beginnings(side, spelling) for side in sides]
    completion, opens = laid.rows(shared), laid.opens(shared)
    peaks: tuple[NDArray[Any], ...] = ()
    at, tokens, mine, theirs = [], [], [], []
    for own, other, against_other, turned in (
        (sides[0], sides[1], held[1], False),
        (sides[1], sides[0], held[0], True),
    ):
        word = spelling.word[own.tokens]
        begins = (word >= 0) & (spelling.spaced[own.tokens] | opens[own.at]) & (own.mass >= LEAST)
        against = against_other.held_against(own.at[begins], own.tokens[begins])
        listed = ~np.isnan(against)
        if turned:  # words that the target lists were counted from its side
            begins[np.flatnonzero(begins)[listed]] = False
            against, listed = against[~listed], listed[~listed]
        missing = OPEN_SHARE * np.minimum(other.open[own.at[begins]], own.mass[begins])
        against = np.where(listed, np.nan_to_num(against), missing)
        if not turned:
            high = own.mass[begins] - against >= PEAK
            places, entries = own.at[begins][high], own.tokens[begins][high]
            rows = completion[places]
            positions = shared[places] - laid.bases[rows]
            peaks = (rows, entries, positions, own.mass[begins][high], against[high])
        at.append(completion[own.at[begins]])
        tokens.append(own.tokens[begins])
        mine.append(against if turned else own.mass[begins])
        theirs.append(own.mass[begins] if turned else against)
    key = np.concatenate(at) * max(1, len(spelling.rank)) + np.concatenate(tokens)
    kept, sums = summed(key, [np.concatenate(each) for each in (mine, theirs)])
    rows, numbers = np.divmod(kept, max(1, len(spelling.rank)))
    spelled = laid.spelled(whole[0].starts, spelling)
    read = Read.of(whole[0], spelled)
    read_as = Read.of(whole[1], spelled if alike else laid.spelled(whole[1].starts, spelling))
    written = written_in(chunk, laid, read, read_as, shared, held[1])
    return (rows, numbers, sums[0], sums[1]), peaks, written, read.tokens
