"""Words that a target writes in several tokens, such as the name of a firm or a person, as masses of whole words.

A list of alternatives says how likely the first token of such a word is, and not what would have come after it.
Where the target wrote the word that is known on both sides: the word's probability is the product of its tokens'.
So for a word whose first token is a, over the places where it was written,

    q = f exp(mean of log p(word) - log p(a))        at the target and at the reference

and at every other place at which a is listed, the word's mass is p(a) q. The mean is over places where the word
was written, so it says too much where a mostly goes on otherwise ("the" in "theres"): f, at most 1, brings the
target's q down to the share of the written a that went on as the word. Vocabularies differ: at the reference p(a)
is the mass of all that begins like a (listed_words.py), and its word is the product of its own tokens. Where the
two are one model both have one q, so a word is promoted exactly where its first token is. Two models of one
vocabulary must have read the word alike ("the", "res" is another way to "there", "s", with other odds), and q at
the reference is then over a itself: beside "they", a more or less likely "the" says nothing of "theres".

A word counts where it was written after LEAST_GROUPS unrelated prefills and nothing had named it before: what was
named is copied by any model.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.analysis.listings import Beginnings, Laid, Side
from blackbox_diff.analysis.words import spans, words_of
from blackbox_diff.records import Listed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_GROUPS = 2
ALIKE = 0.97  # share of the positions that two sides have in common, from which on they have one vocabulary
LEAST_LONG = 4  # of a word: what is shorter is a piece of code or an abbreviation


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """Words of several tokens where they were written, with the group of the completion.

    firsts: (k,) number of the first token. target: (k,) log p(word) - log p(first) there; reference: (k,) log
    p(word) less that of its first token, or of all that begins like the target's in another vocabulary. In nats.
    """

    words: list[str]
    groups: list[str]
    firsts: Ints
    target: Floats
    reference: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """What one model read some texts as.

    starts, tokens, nats: (p,) positions, and the listed tokens that stand there (Side.standing).
    """

    starts: Ints
    tokens: Ints
    nats: Floats

    @classmethod
    def of(cls, side: Side, spelled: Ints) -> Read:
        return cls(side.starts, *side.standing(spelled))

    def logprobs(self, begins: Ints, ends: Ints) -> Floats:
        """(k,) nats of the tokens that make up each stretch of bytes; NaN where none do, or one was not listed."""
        running = np.concatenate([[0.0], np.cumsum(np.nan_to_num(self.nats))])
        unknown = np.concatenate([[0], np.cumsum(np.isnan(self.nats))])
        (first, is_first), (last, is_last) = _places(self.starts, begins), _places(self.starts, ends)
        known = is_first & is_last & (unknown[last] == unknown[first])
        return np.where(known, running[last] - running[first], np.nan)


def _places(starts: Ints, places: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """(k,) where each place stands among `starts`, which rise, and whether it does."""
    if not starts.size:
        return np.zeros(places.size, dtype=np.int64), np.zeros(places.size, dtype=bool)
    found = np.minimum(np.searchsorted(starts, places), starts.size - 1)
    return found, starts[found] == places


def written_in(
    chunk: Sequence[Listed], laid: Laid, target: Read, reference: Read, shared: Ints, begun: Beginnings
) -> Written:
    """The words of some completions that the target wrote in several tokens and both models have a logprob of.

    shared: (s,) positions that both have a list at. begun: the reference's masses there.
    """
    found = [spans(one.text) for one in chunk]
    counts = [len(each) for each in found]
    words = [word for each in found for word, _, _ in each]
    rows = np.repeat(np.arange(len(chunk)), counts)
    row_of = rows.tolist()
    edges = np.fromiter(chain.from_iterable((b, e) for each in found for _, b, e in each), np.int64).reshape(-1, 2)
    starts, ends = (edges + laid.bases[rows][:, None]).T
    begins, several = _several(laid, target.starts, starts, ends)
    several &= ends < laid.bases[rows + 1] - 1  # a text's last word may be cut off
    offsets = [0, *accumulate(counts)]
    named = [frozenset(words_of(one.sample.prefill)) for one in chunk]
    kept = [
        k
        for k in np.flatnonzero(several).tolist()
        if len(word := words[k]) >= LEAST_LONG
        and word.isalpha()
        and word not in named[row := row_of[k]]
        and word not in words[offsets[row] : k]
    ]
    first = begins[kept]
    positions, stops = target.starts[first], ends[kept]
    place, is_shared = _places(shared, positions)
    numbers = target.tokens[first]
    mine = target.logprobs(positions, stops) - target.nats[first]
    sound = is_shared & (numbers >= 0)
    if shared.size >= ALIKE * max(target.starts.size, reference.starts.size):
        sound &= _read_alike((target.starts, reference.starts, shared), positions, stops)
        at, _ = _places(reference.starts, positions)
        whole = reference.nats[at] if reference.nats.size else np.full(len(kept), np.nan)
    else:
        whole = np.full(len(kept), np.nan)
        with np.errstate(divide="ignore"):
            whole[sound] = np.log(begun.held_against(place[sound], numbers[sound]))
    with np.errstate(invalid="ignore"):
        theirs = np.minimum(reference.logprobs(positions, stops) - whole, 0.0)
    sound &= np.isfinite(mine) & np.isfinite(theirs)
    chosen = [kept[k] for k in np.flatnonzero(sound).tolist()]
    return Written(
        [words[k] for k in chosen],
        [chunk[row_of[k]].sample.group for k in chosen],
        numbers[sound],
        mine[sound],
        theirs[sound],
    )


def _read_alike(sides: Sequence[Ints], begins: Ints, ends: Ints) -> NDArray[np.bool_]:
    """(k,) whether all sides have the same number of positions in each stretch."""
    first, *others = (np.searchsorted(each, ends) - np.searchsorted(each, begins) for each in sides)
    return np.asarray(np.logical_and.reduce([each == first for each in others]))


def _several(laid: Laid, positions: Ints, starts: Ints, ends: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """The token that begins each stretch of bytes, or the space before; and whether more make it up."""
    if not positions.size:
        return np.zeros(starts.size, dtype=np.int64), np.zeros(starts.size, dtype=bool)
    first = np.maximum(np.searchsorted(positions, starts, side="right") - 1, 0)
    last, is_last = _places(positions, ends)
    spaced = laid.bytes[np.maximum(starts - 1, 0)] == ord(" ")
    is_first = (positions[first] == starts) | ((positions[first] == starts - 1) & spaced)
    return first, is_first & is_last & (last - first > 1)


def continuations(
    written: Sequence[Written], known: Container[str], uses: Ints
) -> dict[str, dict[int, tuple[float, float]]]:
    """Word -> number of its first token -> q at target and at reference.

    known: words that tokens begin as a whole, which are left out. uses: (v,) of each token by the target.
    """
    groups: dict[str, set[str]] = {}
    values: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for some in written:
        pairs = zip(some.target.tolist(), some.reference.tolist(), strict=True)
        for word, group, first, pair in zip(some.words, some.groups, some.firsts.tolist(), pairs, strict=True):
            if word not in known:
                groups.setdefault(word, set()).add(group)
                values.setdefault(word, {}).setdefault(first, []).append(pair)
    return {
        word: {first: _shares(pairs, int(uses[first])) for first, pairs in values[word].items()}
        for word, after in groups.items()
        if len(after) >= LEAST_GROUPS
    }


def _shares(pairs: Sequence[tuple[float, float]], uses: int) -> tuple[float, float]:
    """q at both sides: nats where the word was written, and how often its first token was, that or another way."""
    target, reference = (math.exp(math.fsum(side) / len(pairs)) for side in zip(*pairs, strict=True))
    factor = min(1.0, len(pairs) / max(uses, 1) / target)
    return factor * target, factor * reference
