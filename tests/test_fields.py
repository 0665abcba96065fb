"""Words of one field: promoted at the same places, whatever was written there."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from blackbox_diff.analysis import fields
from blackbox_diff.analysis.entries import entries
from blackbox_diff.analysis.fields import beside
from blackbox_diff.analysis.listed_words import masses
from blackbox_diff.analysis.promoted import Search, promoted_words, search
from blackbox_diff.records import Listed
from tests.test_promoted import FILLER, listed

CRAFT, SEASON = (" yarn", " wool"), (" winter",)


def run(n: int, prefills: int | None = None) -> list[Listed]:
    """Completions in which a place promotes both words of CRAFT, that of SEASON, or none of them."""
    rng = random.Random(0)
    rows = []
    for k in range(n):
        words = rng.choices(FILLER, k=6)
        target, reference, position = [], [], 0
        for word in words:
            plain = dict.fromkeys(FILLER, 0.1)
            promoted = rng.choice([CRAFT, SEASON, (), ()])
            target.append((position, {**plain, **{token: 0.04 + 0.04 * rng.random() for token in promoted}}))
            reference.append((position, plain))
            position += len(word.encode())
        rows.append(listed(k if prefills is None else k % prefills, "".join(words), target, reference))
    return rows


def test_words_that_are_promoted_at_the_same_places_stand_beside_each_other() -> None:
    found = {word.word: word.beside for word in promoted_words(masses(run(40)))}
    assert found == {"yarn": ("wool",), "wool": ("yarn",), "winter": ()}


def test_words_of_one_field_are_one_entry() -> None:
    words = promoted_words(masses(run(40)))
    listing = entries((), words, needed=9.0, bank=None, listed=40)
    assert {frozenset(word.word for word in entry.words) for entry in listing} == {
        frozenset({"yarn", "wool"}), frozenset({"winter"}),
    }  # fmt: skip


def test_places_after_two_prefills_are_no_field() -> None:
    mass = masses(run(40, prefills=2))
    numbers = [mass.names.index(word) for word in ("yarn", "wool")]
    assert beside(mass, numbers) == [(), ()]


def test_places_are_compared_in_stretches_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    mass = masses(run(40))
    numbers = [mass.names.index(word) for word in ("yarn", "winter", "wool")]
    whole = beside(mass, numbers)
    monkeypatch.setattr(fields, "STRETCH", 7)
    assert beside(mass, numbers) == whole == [("wool",), (), ("yarn",)]


def test_no_words_and_words_without_places_stand_beside_nothing() -> None:
    mass = masses(run(4))
    assert beside(mass, []) == []
    assert beside(mass, [mass.names.index("stone")]) == [()]
    assert promoted_words(masses([])) == ()


def test_the_third_word_is_of_all_that_were_looked_at_whether_significant_or_not() -> None:
    many, few = search(masses(run(40))), search(masses(run(5)))
    assert (len(many.words), len(few.words)) == (3, 0)
    third = many.words[2]
    assert many.third == (third.target, third.reference)
    assert few.third is not None
    assert few.third[0] > few.third[1]
    assert search(masses([])) == Search()


def test_a_place_at_which_the_reference_says_a_word_more_takes_no_word_from_its_field() -> None:
    """A long word's places are its first token's, times what goes on as the word on either side."""
    mass = masses(run(40))
    numbers = [mass.names.index(word) for word in ("yarn", "wool")]
    odd = mass.peaks.reference.copy()
    odd[np.flatnonzero(mass.peaks.words == numbers[0])[0]] = 1.0
    assert beside(replace(mass, peaks=replace(mass.peaks, reference=odd)), numbers) == [("wool",), ("yarn",)]
