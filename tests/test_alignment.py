"""Alignment keeps every promise that the maths stands on, whatever the two tokenizers do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from blackbox_diff.analysis.alignment import align, align_many
from blackbox_diff.findings import Segment
from blackbox_diff.records import Tokens

NATS = st.floats(-30, 0, allow_nan=False)


@st.composite
def sides(draw: st.DrawFn, length: int, missing: bool = False) -> Tokens:
    """Any segmentation of `length` bytes, empty units anywhere."""
    cuts = sorted(draw(st.lists(st.integers(0, length), max_size=12)))
    ends = [*cuts, length] if length or draw(st.booleans()) else cuts
    value = st.one_of(NATS, st.none()) if missing else NATS
    return Tokens.of(ends, draw(st.lists(value, min_size=len(ends), max_size=len(ends))))


@st.composite
def pairs(draw: st.DrawFn, missing: bool = False, shortest: int = 0) -> tuple[Tokens, Tokens]:
    length = draw(st.integers(shortest, 30))
    return draw(sides(length, missing)), draw(sides(length, missing))


def by_hand(target: Tokens, reference: Tokens) -> list[Segment]:
    """The definition, unit by unit."""
    length = int(target.ends[-1])
    cuts = sorted((set(target.ends.tolist()) & set(reference.ends.tolist())) - {0}) if length else [0]

    def sums(side: Tokens) -> list[list[float]]:
        held: list[list[float]] = [[] for _ in cuts]
        start = 0
        for end, nats in zip(side.ends.tolist(), side.logprobs.tolist(), strict=True):
            place = next((k for k, cut in enumerate(cuts) if (cut > end if end == start else cut >= end)), -1)
            held[place].append(nats)
            start = end
        return held

    both = zip([0, *cuts[:-1]], cuts, sums(target), sums(reference), strict=True)
    return [
        Segment(start, end, *(None if any(map(math.isnan, x)) else math.fsum(x) for x in (a, b)))
        for start, end, a, b in both
    ]


@given(pairs())
def test_each_sides_total_is_conserved(pair: tuple[Tokens, Tokens]) -> None:
    found = align(*pair)
    assert math.fsum(s.target for s in found if s.target is not None) == pytest.approx(
        math.fsum(pair[0].logprobs), abs=1e-9
    )
    assert math.fsum(s.reference for s in found if s.reference is not None) == pytest.approx(
        math.fsum(pair[1].logprobs), abs=1e-9
    )


@given(pairs(missing=True, shortest=1))
def test_segments_partition_the_text(pair: tuple[Tokens, Tokens]) -> None:
    found = align(*pair)
    assert [s.start for s in found] == [0, *(s.end for s in found[:-1])]
    assert found[-1].end == pair[0].ends[-1]
    assert all(s.start < s.end for s in found)


@given(pairs())
def test_no_segment_can_be_split_and_none_could_be_joined(pair: tuple[Tokens, Tokens]) -> None:
    common = set(pair[0].ends.tolist()) & set(pair[1].ends.tolist())
    assert {s.end for s in align(*pair)} - {0} == common - {0}


@given(pairs(missing=True, shortest=1))
def test_every_unit_is_where_the_definition_puts_it(pair: tuple[Tokens, Tokens]) -> None:
    found, expected = align(*pair), by_hand(*pair)
    assert [(s.start, s.end) for s in found] == [(s.start, s.end) for s in expected]
    for got, want in zip(found, expected, strict=True):
        assert got.target == (None if want.target is None else pytest.approx(want.target, abs=1e-9))
        assert got.reference == (None if want.reference is None else pytest.approx(want.reference, abs=1e-9))


@given(sides(20))
def test_equal_tokenizations_give_their_own_tokens_and_no_gap(side: Tokens) -> None:
    found = align(side, side)
    assert [s.end for s in found] == sorted(set(side.ends.tolist()) - {0})
    assert all(s.target == s.reference for s in found)


@given(pairs(missing=True))
def test_swapping_the_models_swaps_the_sides(pair: tuple[Tokens, Tokens]) -> None:
    swapped = align(pair[1], pair[0])
    assert [Segment(s.start, s.end, s.reference, s.target) for s in swapped] == list(align(*pair))


@given(st.lists(pairs(missing=True), max_size=6))
@settings(max_examples=60)
def test_a_batch_gives_what_each_text_gives_alone(batch: list[tuple[Tokens, Tokens]]) -> None:
    together = align_many([a for a, _ in batch], [b for _, b in batch])
    assert [together.of(k) for k in range(len(batch))] == [align(a, b) for a, b in batch]


@given(pairs(shortest=1), st.data())
def test_changing_one_unit_changes_one_segment(pair: tuple[Tokens, Tokens], data: st.DataObject) -> None:
    target, reference = pair
    k = data.draw(st.integers(0, len(target) - 1))
    moved = target.logprobs.copy()
    moved[k] -= 100.0
    before, after = align(target, reference), align(Tokens(target.ends, moved), reference)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


@given(pairs(shortest=1), st.data())
def test_joining_two_units_never_adds_a_segment(pair: tuple[Tokens, Tokens], data: st.DataObject) -> None:
    target, reference = pair
    assume(len(target) >= 2)
    k = data.draw(st.integers(0, len(target) - 2))
    logprobs = np.delete(target.logprobs, k)
    joined = Tokens(np.delete(target.ends, k), logprobs)
    assert len(align(joined, reference)) <= len(align(target, reference))


def test_an_empty_unit_belongs_to_the_segment_that_follows_it() -> None:
    found = align(Tokens.of([2, 2, 5], [-1, -10, -1]), Tokens.of([2, 5], [-1, -1]))
    assert [s.target for s in found] == [-1, -11]


def test_trailing_empty_units_belong_to_the_last_segment() -> None:
    found = align(Tokens.of([2, 5, 5, 5], [-1, -1, -10, -10]), Tokens.of([2, 5], [-1, -1]))
    assert [s.target for s in found] == [-1, -21]


def test_a_missing_logprob_is_missing_on_its_own_side_only() -> None:
    found = align(Tokens.of([2, 5], [None, -1]), Tokens.of([2, 5], [-2, -3]))
    assert found == (Segment(0, 2, None, -2.0), Segment(2, 5, -1.0, -3.0))


def test_a_character_split_over_tokens_stays_in_one_segment_where_the_other_side_keeps_it_whole() -> None:
    found = align(Tokens.of([1, 2, 3, 4], [-1, -1, -1, -1]), Tokens.of([3, 4], [-2, -2]))
    assert [(s.start, s.end) for s in found] == [(0, 3), (3, 4)]


def test_an_empty_completion_has_no_segments() -> None:
    assert align(Tokens.of([], []), Tokens.of([], [])) == ()


def test_no_texts_have_no_segments() -> None:
    found = align_many([], [])
    assert [len(found.starts), len(found.lengths), found.offsets.tolist()] == [0, 0, [0]]
    assert found.ends.dtype == found.starts.dtype == np.int64


def test_an_empty_text_keeps_what_stands_on_one_side_only() -> None:
    """Such as an end-of-sequence token, which has a logprob and no bytes."""
    side, nothing = Tokens.of([0], [-1]), Tokens.of([], [])
    assert align(side, nothing) == (Segment(0, 0, -1.0, 0.0),)
    assert align(nothing, side) == (Segment(0, 0, 0.0, -1.0),)


@pytest.mark.parametrize("reference", [[4], [6], []])
def test_texts_of_different_length_are_refused(reference: list[int]) -> None:
    with pytest.raises(ValueError, match="text 0: the target covers 5 bytes"):
        align(Tokens.of([2, 5], [-1, -1]), Tokens.of(reference, [-1.0] * len(reference)))


def test_ends_that_go_back_are_refused() -> None:
    good, bad = Tokens.of([5, 5], [-1, -1]), Tokens.of([3, 2, 5], [-1, -1, -1])  # an empty unit does not go back
    with pytest.raises(ValueError, match="text 1: unit ends must not decrease"):
        align_many([good, bad], [good, good])


def test_a_missing_logprob_entry_is_found_even_where_the_totals_agree() -> None:
    short, long = Tokens.of([2, 5], [-1]), Tokens.of([5], [-1, -1])
    good = Tokens.of([2, 5], [-1, -1])
    with pytest.raises(ValueError, match=r"prose\.raw\.00001: 2 unit ends against 1 logprobs"):
        align_many([good, short, long], [good, good, good], [f"prose.raw.{k:05d}" for k in range(3)])


def test_a_text_of_another_length_is_named_by_its_id() -> None:
    with pytest.raises(ValueError, match=r"prose\.raw\.00007: the target covers 5 bytes, the reference 4"):
        align_many([Tokens.of([5], [-1])], [Tokens.of([4], [-1])], ["prose.raw.00007"])
