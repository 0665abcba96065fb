"""Words that a target writes in several tokens, such as the name of a firm or a person, as masses of whole words.

A list of alternatives says how likely the first token of such a word is, and not what would have come after it.
Where the target wrote the word that is known on both sides: the word's probability is the product of its tokens'.
So for a word whose first token is a, over the places where it was written,

    q = exp(mean of log p(word) - log p(a))        at the target and at the reference

and at every other place at which a is listed, the word's mass is p(a) q. Vocabularies differ: at the reference
p(a) is the mass of all that begins like a (listed_words.py), and its word is the product of its own tokens. Where
target and reference are one model both have one q, so a word is promoted exactly where its first token is.

A word counts where it was written after LEAST_GROUPS unrelated prefills and nothing had named it before: what was
named is copied by any model.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.analysis.words import spans, words_of
from blackbox_diff.records import Alternatives, Listed

Ints = NDArray[np.int64]

LEAST_GROUPS = 2
LEAST_LETTERS = 4  # of a word: what is shorter is a piece of code or an abbreviation


@dataclass(frozen=True, slots=True)
class Written:
    """A word of several tokens where it was written.

    row: the completion's number. position: byte at which the first token begins; first: that token's number.
    target: log p(word) - log p(first) there; reference: log p(word). Nats.
    """

    word: str
    row: int
    position: int
    first: int
    target: float
    reference: float


def written_in(row: int, one: Listed) -> list[Written]:
    """The words of one completion that the target wrote in several tokens and both models have a logprob of."""
    data = one.text.encode("utf-8", "surrogatepass")
    try:
        words = [each for each in spans(one.text) if each[2] < len(data)]  # the last one may be cut off
    except UnicodeEncodeError:  # half a surrogate pair: there are no bytes to count
        return []
    if not words or not len(one.target):
        return []
    target, reference = _Tokens(one.target, data), _Tokens(one.reference, data)
    first, several = target.covering(
        np.asarray([begin for _, begin, _ in words]), np.asarray([end for _, _, end in words])
    )
    named = set(words_of(one.sample.prefill))
    found = []
    for (word, _, end), k, counts in zip(words, first.tolist(), several.tolist(), strict=True):
        if counts and word not in named and word.isalpha() and len(word) >= LEAST_LETTERS:
            position = int(one.target.positions[k])
            begun = target.listed(k)
            mine, theirs = target.logprob(position, end), reference.logprob(position, end)
            if begun is not None and mine is not None and theirs is not None:
                found.append(Written(word, row, position, begun[0], mine - begun[1], theirs))
        named.add(word)
    return found


def continuations(
    written: Sequence[tuple[Written, str, float]], known: Container[str]
) -> dict[str, dict[int, tuple[float, float]]]:
    """Word -> number of its first token -> q at target and at reference.

    written: words where they were written, with the group of the completion and what the reference gives there to
    all that begins like the first token, nats. known: words that tokens begin as a whole, which are left out.
    """
    groups: dict[str, set[str]] = {}
    values: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for one, group, begun in written:
        if one.word not in known:
            groups.setdefault(one.word, set()).add(group)
            pair = one.target, min(0.0, one.reference - begun)
            values.setdefault(one.word, {}).setdefault(one.first, []).append(pair)
    return {
        word: {first: _geometric_means(pairs) for first, pairs in values[word].items()}
        for word, after in groups.items()
        if len(after) >= LEAST_GROUPS
    }


def _geometric_means(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    target, reference = np.exp(np.mean(pairs, axis=0)).tolist()
    return target, reference


@dataclass(frozen=True, slots=True, eq=False)
class _Tokens:
    """The tokens that one model reads a text as, where it has lists."""

    lists: Alternatives
    data: bytes

    def covering(self, starts: Ints, ends: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """First token of each stretch, and whether it is one of several; a space before belongs to the first."""
        positions = self.lists.positions
        first = np.maximum(np.searchsorted(positions, starts, side="right") - 1, 0)
        last = np.minimum(np.searchsorted(positions, ends), len(positions) - 1)
        spaced = np.asarray([self.data[max(0, start - 1) : start] == b" " for start in starts.tolist()])
        begins = (positions[first] == starts) | ((positions[first] == starts - 1) & spaced)
        return first, (positions[last] == ends) & begins & (last - first > 1)

    def logprob(self, start: int, end: int) -> float | None:
        """Nats of the tokens that make up the bytes from start to end; None where one has none."""
        positions = self.lists.positions
        first, last = (int(each) for each in np.searchsorted(positions, (start, end)))
        if last >= len(positions) or positions[first] != start or positions[last] != end:
            return None
        found = [each for k in range(first, last) if (each := self.listed(k)) is not None]
        return sum(value for _, value in found) if len(found) == last - first else None

    def listed(self, k: int) -> tuple[int, float] | None:
        """Number and nats of the token that stands at position k; None where its list has none such."""
        token = self.data[int(self.lists.positions[k]) : int(self.lists.positions[k + 1])]
        here = slice(int(self.lists.offsets[k]), int(self.lists.offsets[k + 1]))
        for number, value in zip(
            self.lists.tokens[here].tolist(), self.lists.logprobs[here].tolist(), strict=True
        ):
            if self.lists.vocabulary[number] == token:
                return number, value
        return None
