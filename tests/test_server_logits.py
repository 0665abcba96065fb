"""The best of a row of logits, found by blocks: the same as a sort of everything finds, ties included."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from local_server.engine.logits import largest


@given(
    vocabulary=st.sampled_from([1, 2, 127, 128, 300, 5_000, 49_152]),
    count=st.integers(1, 50),
    steps=st.sampled_from([1.0, 0.25, 1e-6]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_best_are_those_of_a_stable_sort(vocabulary: int, count: int, steps: float, seed: int) -> None:
    """Rounded to coarse steps many logits are equal: then the lower id comes first, whatever is asked for."""
    drawn = torch.randn(3, vocabulary, generator=torch.Generator().manual_seed(seed))
    logits = (drawn / steps).round() * steps
    values, ids = largest(logits, count)
    expected = logits.sort(dim=-1, descending=True, stable=True)
    assert torch.equal(values, expected.values[:, :count])
    assert torch.equal(ids, expected.indices[:, :count])


@pytest.mark.parametrize("count", [1, 20])
def test_the_best_is_what_greedy_decoding_takes(count: int) -> None:
    logits = torch.zeros(2, 49_152)
    logits[0, [700, 40_000]] = 5.0
    assert largest(logits, count)[1][:, 0].tolist() == logits.argmax(-1).tolist() == [700, 0]
