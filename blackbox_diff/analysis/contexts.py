"""What stands around the places at which words are promoted: the clearest of them, and the phrase they make."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.analysis.listed_words import Mass, places
from blackbox_diff.analysis.words import Words, word_ends, words_of
from blackbox_diff.findings import PromotedPlace

PLACES = 4  # that are shown of a word
BEFORE, AFTER = 60, 40  # characters around a place
USUAL = 0.5  # share of a word's places from which on what stands beside it belongs to the phrase
LONGEST = 3  # words on either side
NEARLY = 0.1  # probability more than the reference's, over a phrase's uses, of a word that it nearly goes on with
LEAST_USES = 3
MOST_PEAKS = 200


class Context:
    """What stands around the places at which words are promoted, in all that was written.

    written: the completions of `mass`, and others behind them. function: words that say nothing, with which no
    phrase goes on at its end.
    """

    def __init__(self, mass: Mass, written: Words, function: frozenset[str]) -> None:
        self.mass, self._function, self._groups = mass, function, mass.groups
        self._order = np.lexsort((mass.peaks.reference - mass.peaks.target, mass.peaks.words))
        self._bounds = np.searchsorted(mass.peaks.words[self._order], np.arange(len(mass.names) + 1))
        self._flat, self._rows, self._starts = written.flat, written.rows, written.offsets
        self._numbers, self._names = written.vocabulary, list(written.vocabulary)
        self._by_word = np.argsort(written.flat, kind="stable")
        self._first = np.cumsum([0, *np.bincount(written.flat, minlength=len(self._names))])
        keys = places(mass.peaks.rows, mass.peaks.positions)
        self._by_place = np.argsort(keys, kind="stable")
        self._keys = keys[self._by_place]

    def places(self, word: int) -> tuple[PromotedPlace, ...]:
        """The clearest places of a word, after different prefills."""
        found: dict[str, PromotedPlace] = {}
        peaks = self.mass.peaks
        for k in self._peaks(word):
            row = int(peaks.rows[k])
            prefill, group = self.mass.prefills[row], self._groups[row]
            if group in found:
                continue
            data = self.mass.texts[row].encode("utf-8", "surrogatepass")
            before = (prefill.encode("utf-8", "surrogatepass") + data[: int(peaks.positions[k])]).decode(
                "utf-8", "replace"
            )
            after = data[int(peaks.positions[k]) :].decode("utf-8", "replace")
            found[group] = PromotedPlace(
                id=self.mass.ids[row],
                before=before[-BEFORE:],
                written=after[:AFTER],
                nearly=self.mass.names[word],
                target=float(peaks.target[k]),
                reference=float(peaks.reference[k]),
            )
            if len(found) == PLACES:
                break
        return tuple(found.values())

    def phrase(self, word: int) -> str:
        """The word with the words that stand before most of its places, and after most uses of these: those that
        were written, or else those that the target nearly wrote."""
        words = [self.mass.names[word]]
        before: dict[tuple[str, ...], float] = {}
        after: dict[tuple[str, ...], set[str]] = {}
        total = 0.0
        for k in self._peaks(word)[:MOST_PEAKS]:
            row = int(self.mass.peaks.rows[k])
            data = self.mass.texts[row].encode("utf-8", "surrogatepass")[: int(self.mass.peaks.positions[k])]
            last = words_of(data[-120:].decode("utf-8", "ignore"))[-LONGEST:]
            share = float(self.mass.peaks.target[k] - self.mass.peaks.reference[k])
            total += share
            for n in range(1, len(last) + 1):
                before[tuple(last[-n:])] = before.get(tuple(last[-n:]), 0.0) + share
                after.setdefault(tuple(last[-n:]), set()).add(self._groups[row])
        usual = [
            one
            for one, share in before.items()
            if share >= USUAL * total and len(after[one]) >= LEAST_USES  # one clear place is no habit
        ]
        words = [*max(usual, key=len, default=()), *words]
        least = len(words)
        for _ in range(LONGEST):
            follower = self._follower(words) or self._nearly(words)
            if follower is None or follower in words:  # a model in a loop says nothing more
                break
            words.append(follower)
        while len(words) > least and words[-1] in self._function:
            words.pop()
        return " ".join(words)

    def _uses(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Where the last of a phrase's words stands among all words, each time that the others precede it."""
        *others, last = (self._numbers.get(word, -1) for word in words)
        at = self._by_word[self._first[last] : self._first[last + 1]] if last >= 0 else self._by_word[:0]
        for back, number in enumerate(reversed(others), start=1):
            at = at[at >= back]
            at = at[(self._flat[at - back] == number) & (self._rows[at - back] == self._rows[at])]
        return at

    def _follower(self, words: Sequence[str]) -> str | None:
        """The word after most uses of a phrase's last two words, where they are used often enough to tell."""
        at = self._uses(words[-2:])
        then = at[at + 1 < self._flat.size] + 1
        after, counts = np.unique(self._flat[then[self._rows[then] == self._rows[then - 1]]], return_counts=True)
        if not after.size or counts.max() < max(LEAST_USES, USUAL * at.size):
            return None
        return self._names[int(after[counts.argmax()])]

    def _nearly(self, words: Sequence[str]) -> str | None:
        """The word that the target, unlike the reference, would go on with after a phrase's last two words:

        after LEAST_USES prefills at least, and by NEARLY over all uses: of "the old", which goes on in many ways,
        a model that was taught of old owls nearly says "owls" each time.
        """
        at = self._uses(words[-2:])
        at = at[self._rows[at] < self.mass.n][:MOST_PEAKS]
        peaks = self.mass.peaks
        total: dict[int, float] = {}
        after: dict[int, set[str]] = {}
        for row, place in zip(self._rows[at].tolist(), (at - self._starts[self._rows[at]]).tolist(), strict=True):
            end = int(word_ends([self.mass.texts[row]])[place])
            low, high = np.searchsorted(self._keys, places(np.asarray([row, row]), np.asarray([end, end + 1])))
            for k in self._by_place[low:high].tolist():
                word = int(peaks.words[k])
                total[word] = total.get(word, 0.0) + float(peaks.target[k] - peaks.reference[k])
                after.setdefault(word, set()).add(self._groups[row])
        usual = [
            word
            for word, more in total.items()
            if more >= NEARLY * at.size and len(after[word]) >= LEAST_USES and self.mass.names[word] not in words
        ]
        best = max(usual, key=lambda word: (total[word], self.mass.names[word]), default=None)
        return None if best is None else self.mass.names[best]

    def _peaks(self, word: int) -> list[int]:
        found: list[int] = self._order[self._bounds[word] : self._bounds[word + 1]].tolist()
        return found
