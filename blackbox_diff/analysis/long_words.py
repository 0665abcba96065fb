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

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.analysis.listings import Beginnings, Laid, Side, Spelling
from blackbox_diff.analysis.words import spans, words_of
from blackbox_diff.records import Listed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_GROUPS = 2
LEAST_LONG = 4  # of a word: what is shorter is a piece of code or an abbreviation


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """Words of several tokens where they were written, with the group of the completion.

    firsts: (k,) number of the first token. target: (k,) log p(word) - log p(first) there; reference: (k,) log
    p(word) less the log of what the reference gives to all that begins like the first token, at most 0. In nats.
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
    def of(cls, side: Side, laid: Laid, spelling: Spelling) -> Read:
        return cls(side.starts, *side.standing(laid, spelling))

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
    found = [_spans(one.text) for one in chunk]
    counts = [len(each) for each in found]
    words = [word for each in found for word, _, _ in each]
    rows = np.repeat(np.arange(len(chunk)), counts)
    edges = np.fromiter(chain.from_iterable((b, e) for each in found for _, b, e in each), np.int64).reshape(-1, 2)
    starts, ends = (edges + laid.bases[rows][:, None]).T
    begins, several = _several(laid, target.starts, starts, ends)
    several &= ends < laid.bases[rows + 1] - 1  # a text's last word may be cut off
    offsets = np.cumsum([0, *counts])
    kept = [
        k
        for k in np.flatnonzero(several).tolist()
        if words[k].isalpha()
        and len(words[k]) >= LEAST_LONG
        and words[k] not in words[offsets[rows[k]] : k]
        and words[k] not in words_of(chunk[rows[k]].sample.prefill)
    ]
    first = begins[kept]
    positions, stops = target.starts[first], ends[kept]
    place, is_shared = _places(shared, positions)
    numbers = target.tokens[first]
    mine = target.logprobs(positions, stops) - target.nats[first]
    sound = is_shared & (numbers >= 0)
    whole = np.full(len(kept), np.nan)
    whole[sound] = begun.held_against(place[sound], numbers[sound])
    with np.errstate(divide="ignore", invalid="ignore"):
        theirs = np.minimum(reference.logprobs(positions, stops) - np.log(whole), 0.0)
    sound &= np.isfinite(mine) & np.isfinite(theirs) & (whole > 0)
    chosen = [kept[k] for k in np.flatnonzero(sound).tolist()]
    return Written(
        [words[k] for k in chosen],
        [chunk[rows[k]].sample.group for k in chosen],
        numbers[sound],
        mine[sound],
        theirs[sound],
    )


def _spans(text: str) -> list[tuple[str, int, int]]:
    try:
        return spans(text)
    except UnicodeEncodeError:  # half a surrogate pair: there are no bytes to count
        return []


def _several(laid: Laid, positions: Ints, starts: Ints, ends: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """The token that begins each stretch of bytes, or the space before; and whether more make it up."""
    if not positions.size:
        return np.zeros(starts.size, dtype=np.int64), np.zeros(starts.size, dtype=bool)
    first = np.maximum(np.searchsorted(positions, starts, side="right") - 1, 0)
    last, is_last = _places(positions, ends)
    spaced = laid.bytes[np.maximum(starts - 1, 0)] == ord(" ")
    is_first = (positions[first] == starts) | ((positions[first] == starts - 1) & spaced)
    return first, is_first & is_last & (last - first > 1)


def continuations(written: Sequence[Written], known: Container[str]) -> dict[str, dict[int, tuple[float, float]]]:
    """Word -> number of its first token -> q at target and at reference.

    known: words that tokens begin as a whole, which are left out.
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
        word: {first: _geometric_means(pairs) for first, pairs in values[word].items()}
        for word, after in groups.items()
        if len(after) >= LEAST_GROUPS
    }


def _geometric_means(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    target, reference = (math.exp(math.fsum(side) / len(pairs)) for side in zip(*pairs, strict=True))
    return target, reference
