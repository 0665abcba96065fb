"""What is computed for many entries at once says what the plain rule says of each."""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_diff.analysis import rank
from blackbox_diff.analysis.listings import LEAST_LETTERS, Beginnings, Laid, Side, Spelling
from blackbox_diff.analysis.sums import stable_order, summed
from blackbox_diff.config.model import AuditConfig, EndpointConfig
from blackbox_diff.errors import RunFileError
from blackbox_diff.records import Tokens
from blackbox_diff.run.commands import manifest
from blackbox_diff.run.results import results_of
from blackbox_diff.runfile.encoding import pack_tokens, unpack_tokens
from blackbox_diff.runfile.store import Store

# Few values that lie many digits apart, so that keys are equal often and every digit matters.
KEYS = st.lists(st.one_of(st.integers(0, 5), st.sampled_from([2**15, 2**16, 2**16 + 1, 2**31, 2**40, 2**62])))
VOCABULARY = [b" o", b" ow", b" owl", b" owls", b" owlish", b" ox", b"o", b" lamp"]


@given(KEYS)
def test_keys_are_ordered_and_equal_ones_stay_in_their_order(keys: Sequence[int]) -> None:
    column = np.asarray(keys, dtype=np.int64)
    assert stable_order(column).tolist() == sorted(range(len(keys)), key=keys.__getitem__)


@given(KEYS, st.randoms(use_true_random=False))
def test_sums_are_those_of_adding_entry_by_entry(keys: Sequence[int], rng: random.Random) -> None:
    values = [rng.random() for _ in keys]
    expected: dict[int, float] = {}
    for key, value in zip(keys, values, strict=True):
        expected[key] = expected.get(key, 0.0) + value
    kept, (found,) = summed(np.asarray(keys, dtype=np.int64), [np.asarray(values)])
    assert dict(zip(kept.tolist(), found.tolist(), strict=True)) == expected  # to the last bit
    assert kept.tolist() == sorted(expected)


Entry = tuple[int, int]  # position, token


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, len(VOCABULARY) - 1)), max_size=20),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, len(VOCABULARY) - 1)), min_size=1, max_size=20),
)
def test_a_token_is_held_against_all_that_begin_like_it(listed: list[Entry], asked: list[Entry]) -> None:
    listed = sorted(listed, key=lambda entry: entry[0])
    at, tokens = (np.asarray([entry[k] for entry in listed], dtype=np.int64) for k in (0, 1))
    mass = 0.5 ** np.arange(1, at.size + 1)  # sums of these are exact
    side = Side(np.arange(3), at, tokens, mass, np.zeros(3))

    def plain(position: int, token: bytes) -> float:
        begun = [
            share
            for (place, number), share in zip(listed, mass.tolist(), strict=True)
            for other in (VOCABULARY[number],)
            if place == position
            and (other.startswith(token) or (token.startswith(other) and len(other.strip()) >= LEAST_LETTERS))
        ]
        return math.fsum(begun) if begun else math.nan

    found = Beginnings(side, Spelling(VOCABULARY)).held_against(
        np.asarray([place for place, _ in asked]), np.asarray([token for _, token in asked])
    )
    assert found.tolist() == pytest.approx([plain(place, VOCABULARY[k]) for place, k in asked], nan_ok=True)


@given(st.text(st.sampled_from("ab \0\n"), min_size=8, max_size=60))
def test_windows_are_counted_alike_in_ascii_and_in_other_scripts(text: str) -> None:
    windows = {text[k : k + rank.LOOP_GRAM] for k in range(len(text) - 7)}
    assert rank._distinct(text) == rank._distinct(text.replace("a", "ä")) == len(windows) / (len(text) - 7)


@given(
    st.lists(st.lists(st.sampled_from([b" o", b" owl", b"s", b" lamp", b"?"]), min_size=1), min_size=1, max_size=4)
)
def test_the_token_at_a_position_is_what_the_text_spells_until_the_next(texts: list[list[bytes]]) -> None:
    laid, spelling = Laid([b"".join(parts).decode() for parts in texts]), Spelling(VOCABULARY)
    starts = [
        int(base) + sum(map(len, parts[:k]))
        for base, parts in zip(laid.bases[:-1], texts, strict=True)
        for k in range(len(parts))
    ]
    expected = [
        VOCABULARY.index(part) if k + 1 < len(parts) and part in VOCABULARY else -1
        for parts in texts
        for k, part in enumerate(parts)
    ]
    assert laid.spelled(np.asarray(starts, dtype=np.int64), spelling).tolist() == expected


@given(st.lists(st.integers(-2, 9), max_size=4))
def test_token_ends_are_read_where_they_never_fall(ends: list[int]) -> None:
    tokens = Tokens(np.asarray(ends, dtype=np.int64), np.zeros(len(ends)))
    if ends == sorted(ends) and all(end >= 0 for end in ends):
        assert unpack_tokens(*pack_tokens(tokens)).ends.tolist() == ends
    else:
        with pytest.raises(ValueError, match="do not follow each other"):
            unpack_tokens(*pack_tokens(tokens))


def test_reading_a_run_leaves_the_search_for_cycles_as_it_was(tmp_path: Path) -> None:
    endpoint = EndpointConfig(url="http://127.0.0.1:9/v1", model="made")
    for enabled in (True, False):
        with Store.create(tmp_path / str(enabled), manifest(AuditConfig(target=endpoint))) as store:
            (gc.enable if enabled else gc.disable)()
            try:
                with pytest.raises(RunFileError):
                    results_of(store, "run")
                assert gc.isenabled() is enabled
            finally:
                gc.enable()
