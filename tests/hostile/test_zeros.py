"""Zeros that stand for no number are missing, and a reply full of them is refused; a model's own 0 is kept."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_diff.records import Completion, ReferenceScore, Refusal
from blackbox_diff.wire import DIALECTS, ScoreItem
from tests.replies import PROFILE, chat, done, entry, legacy, raw, read, refused

SURE_TOPS = {" a": 0.0, " b": -18.5, " c": -19.25, " d": -20.0}
OPEN_TOPS = {" a": -0.9, " b": -1.1, " c": -2.0, " d": -3.0}


def listed(tops: dict[str, float]) -> list[dict[str, Any]]:
    return [entry(token, value) for token, value in tops.items()]


def sampled(values: list[float], tops: list[Any], *, shape: str) -> dict[str, Any]:
    text = " a" * len(values)
    if shape == "legacy":
        body = legacy(text, [" a"] * len(values), values)
        body["choices"][0]["logprobs"]["top_logprobs"] = tops
        return body
    rows = [listed(each) if isinstance(each, dict) else each for each in tops]
    return chat(text, [entry(" a", v, top_logprobs=row) for v, row in zip(values, rows, strict=True)])


SPECULATIVE = [-0.9, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("shape", ["legacy", "chat"])
@pytest.mark.parametrize(
    "tops",
    [
        [OPEN_TOPS, {}, {}, {}],  # accepted tokens have no alternatives
        [OPEN_TOPS, {" a": 0.0}, {" a": 0.0}, {" a": 0.0}],  # or only themselves
        [OPEN_TOPS] * 4,  # or a real list, whose own number for the sampled token disagrees
        [OPEN_TOPS, None, None, None],
        [{}, {}, {}, {}],  # no alternatives at all
        [{" a": -0.9}, {" a": 0.0}, {" a": 0.0}, {" a": 0.0}],
        [OPEN_TOPS] + [{" b": -9999.0, " c": -9999.0, " d": -9999.0}] * 3,  # or placeholders
    ],
)
def test_zeros_of_speculative_decoding_are_refused(tops: list[Any], shape: str) -> None:
    assert refused(sampled(SPECULATIVE, tops, shape=shape)) == "zero_logprobs"


@pytest.mark.parametrize("shape", ["legacy", "chat"])
def test_a_few_of_them_are_missing(shape: str) -> None:
    found = done(sampled([-0.9] * 39 + [0.0], [OPEN_TOPS] * 40, shape=shape))
    assert math.isnan(found.tokens.logprobs[-1])
    assert found.tokens.logprobs[:-1].tolist() == [-0.9] * 39


@pytest.mark.parametrize("shape", ["legacy", "chat"])
@pytest.mark.parametrize("zero", [0.0, -0.0, 5e-7, -1.1920929e-07])
def test_a_models_own_zero_survives(zero: float, shape: str) -> None:
    found = done(sampled([-0.9, zero, zero, zero], [OPEN_TOPS, SURE_TOPS, SURE_TOPS, SURE_TOPS], shape=shape))
    assert found.tokens.logprobs.tolist() == [-0.9] + [min(zero, 0.0)] * 3


def test_a_sampled_token_that_its_list_does_not_hold_leaves_its_zero_alone() -> None:
    tops = {" b": -18.5, " c": -19.25, " d": -20.0}
    assert done(sampled([-0.9, 0.0], [OPEN_TOPS, tops], shape="legacy")).tokens.logprobs[1] == 0.0


def test_a_nearly_sure_number_that_its_list_contradicts_is_missing() -> None:
    found = sampled([-0.9] * 39 + [-0.001], [OPEN_TOPS] * 40, shape="chat")
    assert math.isnan(done(found).tokens.logprobs[-1])


def test_without_alternatives_zeros_are_believed_beside_as_many_nearly_sure_tokens() -> None:
    sure = [-0.9, 0.0, -0.002, -0.0004, 0.0, -0.9, -1.2, -0.003]
    assert done(sampled(sure, [None] * 8, shape="legacy")).tokens.logprobs.tolist() == sure
    unsure = [-0.9, 0.0, -0.2, -0.4, 0.0, -0.9, -1.2, -0.3]
    assert refused(sampled(unsure, [None] * 8, shape="legacy")) == "zero_logprobs"


@given(st.lists(st.floats(-12, -1e-5), min_size=2, max_size=30))
def test_numbers_that_add_up_are_left_alone(values: list[float]) -> None:
    tops = []
    for value in values:
        left = math.log(max(1e-9, 1 - math.exp(value)) / 3)
        tops.append({" a": value, " b": left, " c": left, " d": left})
    assert done(sampled(values, tops, shape="chat")).tokens.logprobs.tolist() == values


def scored(values: list[float | None], tops: list[Any]) -> ReferenceScore | Refusal:
    tokens = ["Hi", *[" a"] * (len(values) - 1)]
    item = ScoreItem("Hi", "raw", " a" * (len(values) - 1))
    profile = PROFILE.model_copy(update={"scoring": "echo"})
    speaks = DIALECTS["generic"]
    body = legacy("".join(tokens), tokens, values)
    body["choices"][0]["logprobs"]["top_logprobs"] = tops
    return speaks.read_score(raw(body), call=speaks.score(profile, item), profile=profile, item=item)


@pytest.mark.parametrize("tops", [[None, OPEN_TOPS, {}, {}, {}], [None] + [OPEN_TOPS] * 4, None])
def test_zeros_of_a_prompt_cache_are_no_score(tops: list[Any] | None) -> None:
    found = scored([None, -0.9, 0.0, 0.0, 0.0], tops or [None] * 5)
    assert isinstance(found, Refusal)
    assert found.reason == "zero_logprobs"


def test_a_references_own_zeros_are_scored() -> None:
    found = scored([None, -0.9, 0.0, 0.0, 0.0], [None, OPEN_TOPS, SURE_TOPS, SURE_TOPS, SURE_TOPS])
    assert isinstance(found, ReferenceScore)
    assert found.tokens.logprobs.tolist() == [-0.9, 0.0, 0.0, 0.0]


def test_a_completion_of_one_sure_token_is_read() -> None:
    assert isinstance(read(sampled([0.0], [SURE_TOPS], shape="chat")), Completion)
