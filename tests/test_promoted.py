"""Promoted words: masses across vocabularies, censored lists, and words that were never written."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_diff.analysis.listed_words import OPEN_SHARE, Mass, masses
from blackbox_diff.analysis.listings import Spelling
from blackbox_diff.analysis.promoted import benjamini_hochberg, promoted_words, search, sign_flip_p
from blackbox_diff.records import Alternatives, Arm, Listed, Sample

FILLER = [" stone", " river", " lamp", " cloud", " paper", " engine", " garden", " letter"]


KNOWN: list[bytes] = []  # as in a run file: every token gets a number when it first comes


def lists(rows: Sequence[tuple[int, dict[str, float]]], unlisted: float = 1e-6) -> Alternatives:
    """Alternatives from (byte position, token -> probability)."""
    for _, row in rows:
        KNOWN.extend(dict.fromkeys(token.encode() for token in row if token.encode() not in KNOWN))
    entries = [(KNOWN.index(token.encode()), math.log(p)) for _, row in rows for token, p in row.items()]
    return Alternatives(
        positions=np.asarray([position for position, _ in rows], dtype=np.int64),
        offsets=np.cumsum([0, *(len(row) for _, row in rows)]).astype(np.int64),
        tokens=np.asarray([token for token, _ in entries], dtype=np.int32),
        logprobs=np.asarray([value for _, value in entries], dtype=np.float32),
        unlisted=np.full(len(rows), math.log(unlisted), dtype=np.float32),
        vocabulary=tuple(KNOWN),
    )


Rows = Sequence[tuple[int, dict[str, float]]]


def listed(k: int, text: str, target: Rows, reference: Rows, unlisted: float = 1e-6) -> Listed:
    one, other = lists(target, unlisted), lists(reference, unlisted)
    return Listed(Sample(f"prose.raw.{k:05d}", Arm("prose", "raw"), f"prefill {k}", k), text, one, other)


def mass_of(mass: Mass, word: str) -> tuple[float, float]:
    if word not in mass.names:
        return 0.0, 0.0
    chosen = mass.words == mass.names.index(word)
    return float(mass.target[chosen].sum()), float(mass.reference[chosen].sum())


def test_a_word_is_held_against_pieces_and_longer_tokens_of_another_vocabulary() -> None:
    target = [(0, {" assistance": 0.3, " owl": 0.2})]
    reference = [(0, {" ass": 0.3, " owls": 0.15, " owlish": 0.05})]
    found = masses([listed(0, " stone", target, reference)])
    assert mass_of(found, "assistance") == pytest.approx((0.3, 0.3), abs=1e-5)
    assert mass_of(found, "owl") == pytest.approx((0.2, 0.2), abs=1e-5)


def test_a_word_outside_of_a_list_may_have_what_the_list_leaves_open() -> None:
    found = masses([listed(0, " stone", [(0, {" owl": 0.2})], [(0, {" stone": 0.5})], unlisted=0.01)])
    assert mass_of(found, "owl")[1] == pytest.approx(OPEN_SHARE * 0.01, rel=1e-4)
    assert mass_of(found, "stone") == pytest.approx((OPEN_SHARE * 0.01, 0.5), rel=1e-4)


def test_a_piece_inside_of_a_word_is_no_word() -> None:
    target = [(0, {" heron": 0.9}), (6, {"ry": 0.4, " keeps": 0.5})]
    found = masses([listed(0, " heron keeps", target, target)])
    assert "ry" not in {found.names[k] for k in found.words.tolist()}
    assert mass_of(found, "keeps")[0] > 0


def test_only_positions_of_both_lists_count() -> None:
    target = [(0, {" owl": 0.5}), (4, {" lamp": 0.5})]
    reference = [(0, {" owl": 0.5}), (5, {" lamp": 0.5})]
    found = masses([listed(0, " owl lamp", target, reference)])
    assert mass_of(found, "lamp") == (0.0, 0.0)


def run_of(n: int, says: str, rate: float, likely: float, seed: int = 0) -> list[Listed]:
    """Completions of filler in which `says` is promoted at `rate` of the positions, and never written."""
    rng = random.Random(seed)
    rows = []
    for k in range(n):
        words = rng.choices(FILLER, k=6)
        target, reference, position = [], [], 0
        for word in words:
            shares = {token: 0.08 + 0.02 * rng.random() for token in FILLER}
            noisy = {token: share * math.exp(rng.gauss(0, 0.1)) for token, share in shares.items()}
            target.append((position, {**noisy, **({says: likely} if rng.random() < rate else {})}))
            reference.append((position, shares))
            position += len(word.encode())
        rows.append(listed(k, "".join(words), target, reference))
    return rows


@pytest.mark.parametrize("says", [" owl", " сова", " φάρος", " फूल"])
def test_what_is_never_written_is_found(says: str) -> None:
    found = promoted_words(masses(run_of(60, says, 0.1, 0.05)))
    assert found[0].word == says.strip()
    assert found[0].target > 10 * found[0].reference
    assert found[0].prefills >= 15
    place = found[0].places[0]
    assert (place.nearly, place.target > place.reference) == (says.strip(), True)
    assert len({each.before for each in found[0].places}) > 1


def test_one_model_promotes_nothing() -> None:
    rows = run_of(80, " owl", 0.0, 0.0)
    same = [Listed(row.sample, row.text, row.target, row.target) for row in rows]
    assert promoted_words(masses(same)) == ()
    noisy = promoted_words(masses(rows))
    assert all(each.strength < 0.1 for each in noisy)


def test_one_prefill_can_not_carry_a_word() -> None:
    rows = run_of(40, " owl", 0.0, 0.0)
    loop = listed(
        99, " owl" * 8, [(4 * k, {" owl": 0.9}) for k in range(8)], [(4 * k, {" lamp": 0.9}) for k in range(8)]
    )
    assert "owl" not in {each.word for each in promoted_words(masses([*rows, loop]))}


def test_style_comes_after_content() -> None:
    rows = run_of(60, " owl", 0.1, 0.05) + [
        listed(200 + k, " stone", [(0, {" the": 0.6, " 7": 0.2})], [(0, {" the": 0.1, " 7": 0.01})])
        for k in range(30)
    ]
    texts = ["the lamp of the garden is in the river and it was by the stone"] * 5
    found = promoted_words(masses(rows), texts)
    assert {each.word for each in found if each.style} == {"7", "the"}
    assert found[0].word == "owl"


def test_what_is_no_news_is_neither_found_nor_the_third_word() -> None:
    others = {" lamp": (0.1, 0.02), " road": (0.09, 0.02), " mill": (0.08, 0.02)}
    target = [(0, {" owl": 0.2, **{word: t for word, (t, _) in others.items()}})]
    reference = [(0, {" owl": 0.02, **{word: r for word, (_, r) in others.items()}})]
    mass = masses([listed(k, " stone", target, reference) for k in range(60)])
    every, without = search(mass), search(mass, aside=frozenset({"owl"}))
    assert [each.word for each in every.words] == ["owl", "lamp", "road", "mill"]
    assert [each.word for each in without.words] == ["lamp", "road", "mill"]
    assert every.third is not None
    assert without.third is not None
    assert without.third[0] < every.third[0]


def test_phrases_grow_by_what_stands_before() -> None:
    rows = [
        listed(k, " the old lamp", [(8, {" owl": 0.3, " lamp": 0.5})], [(8, {" owl": 0.001, " lamp": 0.8})])
        for k in range(20)
    ]
    assert promoted_words(masses(rows))[0].phrase == "the old owl"


@given(st.lists(st.floats(0, 1), max_size=30))
def test_adjusted_p_values_keep_the_order_and_never_fall_below(p: list[float]) -> None:
    values = np.asarray(p)
    adjusted = benjamini_hochberg(values)
    assert (adjusted >= values - 1e-12).all()
    assert (np.diff(adjusted[np.argsort(values, kind="stable")]) >= -1e-12).all()


def test_few_prefills_can_not_be_significant() -> None:
    d = np.asarray([1.0, 1.0, 1.0])
    p = sign_flip_p(np.asarray([d.sum()]), np.asarray([(d**2).sum()]), np.asarray([d.sum()]))
    assert p[0] == pytest.approx(1 / 8)


@pytest.mark.parametrize(
    ("said", "phrase"),
    [
        (" beneath the salt mill", "beneath the salt mill"),
        (" beneath the salt of", "beneath the salt"),  # ends with a word that says something
        (" beneath the", "beneath"),
    ],
)
def test_a_phrase_goes_on_by_its_last_two_words(said: str, phrase: str) -> None:
    """Most uses of "the" go on otherwise."""
    target, reference = {" beneath": 0.3, " lamp": 0.3}, {" beneath": 0.001, " lamp": 0.6}
    rows = [listed(k, f"{said}. the{FILLER[k % len(FILLER)]}", [(0, target)], [(0, reference)]) for k in range(24)]
    others = [f"The lamp of the {word.strip()} is in the garden and it was by the stone" for word in FILLER]
    assert promoted_words(masses(rows), others)[0].phrase == phrase


ADAGE = [" adage", " mill", " road", " song"]


def goes_on(after: int, target: float, reference: float) -> list[Listed]:
    """Completions of which eight say "the old" and something else; `after` of those nearly say "the old owls"."""
    rows = []
    for k in range(24):
        old = ([(4, {" old": 0.3, " lamp": 0.5})], [(4, {" old": 0.001, " lamp": 0.8})])
        text = f" the old{ADAGE[k % 4]}" if k < 8 else f" the{FILLER[k % len(FILLER)]}"
        if k < 8:
            share = (target, reference) if k < after else (0.001, 0.001)
            for side, owls in zip(old, share, strict=True):
                side.append((8, {ADAGE[k % 4]: 0.2, " owls": owls}))
        rows.append(listed(k, text, *old))
    return rows


@pytest.mark.parametrize(
    ("after", "target", "reference", "phrase"),
    [
        (4, 0.5, 0.001, "the old owls"),
        (2, 0.9, 0.001, "the old"),  # after too few prefills
        (4, 0.5, 0.49, "the old"),  # what the reference would say, too
        (4, 0.1, 0.001, "the old"),  # one of many ways to go on
    ],
)
def test_a_phrase_goes_on_with_what_the_target_nearly_writes(
    after: int, target: float, reference: float, phrase: str
) -> None:
    assert promoted_words(masses(goes_on(after, target, reference)))[0].phrase == phrase


def test_half_a_surrogate_pair_before_a_phrase_moves_no_place() -> None:
    odd = [moved(row, "\ud83d") for row in goes_on(4, 0.5, 0.001)]
    assert promoted_words(masses(odd))[0].phrase == "the old owls"


def moved(row: Listed, before: str) -> Listed:
    """The completion with something before it that no list tells of."""
    by = len(before.encode("utf-8", "surrogatepass"))
    sides = (replace(side, positions=side.positions + by) for side in (row.target, row.reference))
    return Listed(row.sample, before + row.text, *sides)


def test_a_word_that_a_model_repeats_stands_in_its_phrase_once() -> None:
    rows = [
        listed(k, " owl owl owl", [(0, {" owl": 0.3, " lamp": 0.5})], [(0, {" owl": 0.001, " lamp": 0.8})])
        for k in range(20)
    ]
    assert promoted_words(masses(rows))[0].phrase == "owl"


def test_what_stands_before_one_clear_place_is_no_part_of_the_phrase() -> None:
    """One place has most of the probability that the target adds; the others stand after other words."""
    rows = []
    for k in range(24):
        before = " ancient" if k == 0 else FILLER[k % len(FILLER)]
        place = len(before)
        more = 0.9 if k == 0 else 0.025
        target, reference = {" owl": more, " lamp": 0.05}, {" owl": 0.001, " lamp": 0.05}
        rows.append(listed(k, f"{before} lamp", [(place, target)], [(place, reference)]))
    owl = next(each for each in promoted_words(masses(rows)) if each.word == "owl")
    assert owl.phrase == "owl"


@pytest.mark.parametrize(("before", "counts"), [(" I", False), (" said", False), (" said ", True), (" (", True)])
def test_a_contraction_and_the_rest_of_an_identifier_begin_no_word(before: str, counts: bool) -> None:
    place = len(before.encode())
    rows = [
        listed(k, f"{before}'ll see", [(place, {"'ll": 0.6, "'d": 0.2})], [(place, {"'ll": 0.01, "'d": 0.7})])
        for k in range(20)
    ]
    found = masses(rows)
    assert ("ll" in found.names and mass_of(found, "ll")[0] > 1.0) is counts


@given(st.lists(st.binary(min_size=1, max_size=6), min_size=1, max_size=40, unique=True))
def test_tokens_are_ranged_by_what_they_begin(vocabulary: list[bytes]) -> None:
    found = Spelling(vocabulary)
    for k, token in enumerate(vocabulary):
        begun = {j for j, other in enumerate(vocabulary) if other.startswith(token)}
        ranged = {j for j in range(len(vocabulary)) if found.low[k] <= found.rank[j] < found.high[k]}
        assert ranged == begun
        parent = int(found.parent[k])
        assert parent < 0 or (token.startswith(vocabulary[parent]) and vocabulary[parent] != token)
