"""Lists of alternatives, in every shape that servers send: columns, bounded, and not believed where they lie."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_diff.records import Alternatives, EndpointProfile, ReferenceScore
from blackbox_diff.wire import DIALECTS, ScoreItem
from tests.replies import chat, done, entry, legacy, raw

ITEM = ScoreItem("A", "raw", " b c")


def lists(found: Alternatives | None) -> list[tuple[int, dict[bytes, float]]]:
    """(byte of the text, token -> logprob) of each list."""
    assert found is not None
    bounds = zip(found.offsets[:-1], found.offsets[1:], strict=True)
    return [
        (
            int(at),
            {
                found.vocabulary[token]: pytest.approx(float(value), abs=1e-5)
                for token, value in zip(found.tokens[low:high], found.logprobs[low:high], strict=True)
            },
        )
        for at, (low, high) in zip(found.positions, bounds, strict=True)
    ]


def scored(name: str, body: dict[str, Any], **profile: Any) -> ReferenceScore:
    given_ = EndpointProfile(base_url="http://server/v1", model="m", dialect=name, **profile)
    found = DIALECTS[name].read_score(raw(body), call=None, profile=given_, item=ITEM)  # type: ignore[arg-type]
    assert isinstance(found, ReferenceScore), found
    return found


def legacy_reply(tops: list[Any], first: float = -1.0) -> dict[str, Any]:
    body = legacy(" b c", [" b", " c"], [first, -2.0])
    body["choices"][0]["logprobs"]["top_logprobs"] = tops
    return body


def test_chat_lists_have_their_byte_and_the_bound_of_what_they_leave_out() -> None:
    tops = [entry(" é", -0.6), entry(" b", -1.0), entry(" c", -3.0)]
    found = done(chat(" é b", [entry(" é", -0.6, top_logprobs=tops), entry(" b", -1.0, top_logprobs=tops[1:])]))
    assert lists(found.alternatives) == [
        (0, {" é".encode(): -0.6, b" b": -1.0, b" c": -3.0}),
        (3, {b" b": -1.0, b" c": -3.0}),
    ]
    assert found.alternatives is not None
    assert found.alternatives.unlisted.tolist() == [-3.0, -3.0]


def test_legacy_lists_get_the_sampled_token_where_it_is_none_of_the_best() -> None:
    found = done(legacy_reply([{" x": -0.9, " y": -0.95}, {" c": -2.0, " y": -0.3}], first=-2.5))
    assert lists(found.alternatives) == [
        (0, {b" x": -0.9, b" y": -0.95, b" b": -2.5}),
        (2, {b" y": -0.3, b" c": -2.0}),
    ]


def test_a_list_that_leaves_out_a_likelier_token_is_not_believed() -> None:
    found = done(legacy_reply([{" x": -1.7, " y": -4.5}, {" c": -2.0, " y": -0.3}]))
    assert [at for at, _ in lists(found.alternatives)] == [2]


def test_the_appended_token_is_no_bound() -> None:
    """vLLM lists the sampled token beside the best ones: its own logprob says nothing about the others."""
    found = done(legacy_reply([{" b": -1.0, " y": -0.9}, {" c": -2.0, " y": -0.3}])).alternatives
    assert found is not None
    assert found.unlisted.tolist() == pytest.approx([-0.9, -0.3])


def test_a_reply_whose_lists_belong_to_other_positions_is_believed_in_none() -> None:
    rows = [entry(f" {k}", -0.2, top_logprobs=[entry(f" {k + 1}", -0.2), entry(" z", -4.0)]) for k in range(10)]
    text = "".join(row["token"] for row in rows)
    assert done(chat(text, rows)).alternatives is None


def test_a_list_with_more_than_all_probability_is_left_out() -> None:
    tops = [entry(" b", -1.0), entry(" x", -0.1), entry(" y", -0.1)]
    good = [entry(" c", -2.0), entry(" y", -0.3)]
    body = chat(" b c", [entry(" b", -1.0, top_logprobs=tops), entry(" c", -2.0, top_logprobs=good)])
    assert [at for at, _ in lists(done(body).alternatives)] == [2]


@pytest.mark.parametrize("junk", [None, "x", 5, [], {}, [5], [None], [{}], [{"token": 5}], [[1]], {"a": []}])
def test_what_is_no_list_has_no_entries(junk: Any) -> None:
    found = done(legacy_reply([junk, {" c": -2.0, " y": -0.3}]))
    assert lists(found.alternatives)[-1] == (2, {b" y": -0.3, b" c": -2.0})


def test_placeholders_never_enter() -> None:
    bad = {f" {k}": value for k, value in enumerate([None, "0.5", True, False, -9999.0, -100.0, 3.0, math.nan])}
    found = done(legacy_reply([{" b": -1.0, " y": -1.1, **bad}, None]))
    assert lists(found.alternatives) == [(0, {b" b": -1.0, b" y": -1.1})]


def test_tokens_of_the_same_bytes_are_one() -> None:
    tops = [entry(" b", -1.0), entry(" x", math.log(0.2)), entry(" x", math.log(0.1))]
    body = chat(" b", [entry(" b", -1.0, top_logprobs=tops)])
    assert lists(done(body).alternatives) == [(0, {b" b": -1.0, b" x": math.log(0.3)})]


def test_parts_of_characters_are_left_out_and_still_count_as_listed() -> None:
    tops = {" b": -1.0, "": -1.2, "\ufffd": -2.5, " y": -4.0}
    found = done(legacy_reply([tops, None])).alternatives
    assert lists(found) == [(0, {b" b": -1.0, b" y": -4.0})]
    lossy = done(legacy_reply([{" b": -1.0, "\ufffd": -2.5}, None])).alternatives
    assert lossy is not None
    assert lossy.unlisted.tolist() == [-2.5]


def test_echo_lists_begin_at_the_text() -> None:
    body = legacy("A b c", ["A", " b", " c", "!"], [None, -1.0, -2.0, -1.0])
    body["choices"][0]["logprobs"]["top_logprobs"] = [None, {" b": -1.0, " x": -2.0}, {" c": -2.0}, {"!": -1.0}]
    body["usage"] = {"prompt_tokens": 3, "completion_tokens": 1}
    assert lists(scored("generic", body, scoring="echo").alternatives) == [
        (0, {b" b": -1.0, b" x": -2.0}),
        (2, {b" c": -2.0}),
    ]


def test_vllm_prompt_logprobs_list_by_id() -> None:
    cell = {"logprob": -1.0, "rank": 1, "decoded_token": " b"}
    rows = [
        None,
        {"3": cell | {"decoded_token": "A"}},
        {"4": cell, "9": {"logprob": -1.5, "rank": 2, "decoded_token": " x"}},
        {"5": cell | {"decoded_token": " c"}},
    ]
    body = {
        "choices": [{"text": "!", "prompt_logprobs": rows, "prompt_token_ids": [2, 3, 4, 5], "logprobs": None}]
    }
    found = scored("vllm", body, scoring="echo")
    assert lists(found.alternatives)[0] == (0, {b" b": -1.0, b" x": -1.5})


def test_sglang_lists_come_beside_its_triples() -> None:
    meta = {
        "input_token_logprobs": [[None, 3, "A"], [-1.0, 4, " b"], [-2.0, 5, " c"]],
        "input_top_logprobs": [None, [[-1.0, 4, " b"], [-1.5, 9, " x"]], [[-2.0, 5, " c"]]],
        "prompt_tokens": 3,
    }
    found = scored("sglang", {"text": "!", "meta_info": meta, "choices": []}, scoring="generate")
    assert lists(found.alternatives)[0] == (0, {b" b": -1.0, b" x": -1.5})


entries_ = st.dictionaries(
    st.text(max_size=6), st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=2)), max_size=80
)


@given(st.lists(entries_, min_size=2, max_size=2))
def test_whatever_is_listed_the_columns_fit(tops: list[dict[str, Any]]) -> None:
    found = done(legacy_reply(tops)).alternatives
    if found is None:
        return
    assert found.offsets[0] == 0
    assert found.offsets[-1] == len(found.tokens) == len(found.logprobs)
    assert (np.diff(found.offsets) >= 0).all()
    assert (np.diff(found.offsets) <= 65).all()
    assert (found.logprobs <= 0).all()
    assert (found.unlisted <= 0).all()
    for low, high in zip(found.offsets[:-1], found.offsets[1:], strict=True):
        assert np.exp(found.logprobs[low:high]).sum() <= 1.02
        assert len(set(found.tokens[low:high].tolist())) == high - low


def test_a_list_of_a_million_entries_costs_what_is_read_of_it() -> None:
    huge = {f" {k}": -20.0 for k in range(1_000_000)}
    started = time.process_time()
    found = done(legacy_reply([huge, {" c": -2.0, " y": -0.3}])).alternatives
    assert found is not None
    assert len(found.tokens) < 100
    assert time.process_time() - started < 5
