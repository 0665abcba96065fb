"""Replies of servers that misbehave, one per report in the wild: refused by name, or read right; never a score."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from blackbox_diff.records import Completion, Refusal
from blackbox_diff.wire import DIALECTS, ScoreItem, drift, error_of, usage
from blackbox_diff.wire.api_errors import allowed_maximum
from tests.replies import PROFILE, chat, done, entry, legacy, pieces, raw, read, refused

WORDS = [" word"] * 40


def many(values: list[Any], **more: Any) -> dict[str, Any]:
    return legacy("".join(WORDS[: len(values)]), WORDS[: len(values)], values, **more)


@pytest.mark.parametrize("empty", [None, {}, {"content": None}, {"content": []}, [], "x", 0])
def test_a_reply_without_logprobs_is_refused(empty: Any) -> None:
    body = chat("Hello", None)
    body["choices"][0]["logprobs"] = empty
    assert refused(body) == "no_logprobs"
    del body["choices"][0]["logprobs"]
    assert refused(body) == "no_logprobs"


def test_a_legacy_reply_without_logprobs_is_refused() -> None:
    assert refused({"choices": [{"text": "Hello", "logprobs": None}]}) == "no_logprobs"


def test_all_zero_logprobs_are_refused() -> None:
    assert refused(many([0.0] * 10)) == "zero_logprobs"
    assert refused(many([0] * 10)) == "zero_logprobs"


def test_only_zeros_and_placeholders_are_refused() -> None:
    assert refused(many([0.0, -9999.0] * 5)) == "zero_logprobs"


@pytest.mark.parametrize(
    "sentinel",
    [-9999.0, -9999, -99999.0, -100.0, -3.4028234663852886e38, -1e31, 2.5, 1e300, None, "nan", True, []],
)
def test_placeholders_are_missing_and_never_numbers(sentinel: Any) -> None:
    found = done(many([-1.0] * 39 + [sentinel]))
    assert math.isnan(found.tokens.logprobs[-1])
    assert "missing_logprobs" in found.notes
    assert refused(many([-1.0] * 30 + [sentinel] * 10)) == "missing_logprobs"


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "-1e999"])
def test_literals_that_are_not_json_numbers_are_missing(literal: str) -> None:
    body = json.dumps(many([-1.0] * 39 + [-123456.0])).replace("-123456.0", literal).encode()
    assert math.isnan(done(body).tokens.logprobs[-1])


def test_a_sampled_token_at_the_floor_beside_an_unrelated_certain_one_is_refused() -> None:
    row = entry(" a", -9999.0)
    row["top_logprobs"] = [entry("{", 0.0)]
    assert refused(chat(" a a a", [row, row, row])) == "missing_logprobs"


def test_rounding_above_zero_is_zero() -> None:
    assert done(many([-1.0] * 39 + [5e-7])).tokens.logprobs.tolist() == [-1.0] * 39 + [0.0]


def test_tokens_accepted_by_speculation_have_no_number() -> None:
    content = [entry(" a", -1.0, top_logprobs=[entry(" a", -1.0)]) for _ in range(39)]
    content.append(entry(" a", 0.0, top_logprobs=[]))
    assert math.isnan(done(chat(" a" * 40, content)).tokens.logprobs[-1])


def test_entries_that_group_several_tokens_are_refused() -> None:
    counted = {"usage": {"prompt_tokens": 1, "completion_tokens": 40}}
    assert refused(many([-1.0] * 20, **counted)) == "entries_missing"


def test_an_end_token_that_has_no_entry_is_fine() -> None:
    counted = {"usage": {"prompt_tokens": 1, "completion_tokens": 21}}
    assert len(done(many([-1.0, -2.0] * 10, finish="stop", **counted)).tokens) == 20


def test_merged_characters_have_no_number_and_single_ones_keep_theirs() -> None:
    merged = entry("日", -0.02, id=115, top_logprobs=[entry("\ufffd", -0.02, [165], id=115)])
    single = entry("本", -0.05, id=40993, top_logprobs=[entry("本", -0.05, id=40993)])
    body = chat("日本", [merged, single], usage={"completion_tokens": 3})
    found = done(body, dialect="llamacpp")
    assert math.isnan(found.tokens.logprobs[0])
    assert found.tokens.logprobs[1] == -0.05
    assert found.ids is None


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_is_refused_with_advice(field: str) -> None:
    assert refused(chat("Yes", [entry("hm"), entry("Yes")], message={field: "hm"})) == "reasoning"


def test_a_reasoning_list_beside_the_content_list_is_refused() -> None:
    body = chat("Yes", [entry("Yes")])
    body["choices"][0]["logprobs"]["reasoning_content"] = [entry("hm")]
    assert refused(body) == "reasoning"


def test_a_list_that_covers_reasoning_and_not_the_content_is_refused() -> None:
    content = [entry("<think>"), *[entry(" hm")] * 9, entry("</think>"), entry("Yes")]
    assert refused(chat("Yes", content)) == "text_mismatch"


def test_a_tool_call_is_refused() -> None:
    assert refused(chat(None, [entry("{")], message={"tool_calls": [{}]})) == "no_text"


def test_filtered_content_is_refused() -> None:
    assert refused(chat("Yes", [entry("Yes")], finish="content_filter")) == "content_filter"


def test_top_logprobs_may_be_missing_null_a_dict_or_without_the_sampled_token() -> None:
    for tops in ([], None, {"x": -1.0}, [entry("x", -0.1)], "x", 3):
        assert done(chat("Hi you", [entry("Hi", -1.0, top_logprobs=tops), entry(" you", -1.0)])).text == "Hi you"


def test_alternatives_spelled_in_the_vocabularys_alphabet_leave_the_sampled_number() -> None:
    row = entry(" Hello", -0.1, top_logprobs=[entry("ĠHello", -0.1), entry("ĠHi", -3.0)])
    found = done(chat(" Hello Hello", [row, row]))
    assert (found.text, found.tokens.logprobs.tolist()) == (" Hello Hello", [-0.1, -0.1])


@pytest.mark.parametrize("floor", ["-100.0", "-Infinity", "-3.4028234663852886e+38"])
def test_rows_that_are_mostly_floor_are_refused(floor: str) -> None:
    body = json.dumps(many([-1.0, -123456.0] * 10)).replace("-123456.0", floor).encode()
    assert refused(body) == "missing_logprobs"


def test_legacy_alternatives_that_collide_do_not_touch_the_sampled_number() -> None:
    body = legacy("é x", ["", "é", " x"], [-1.0, -2.0, -3.0])
    body["choices"][0]["logprobs"]["top_logprobs"] = [{"": -5.0}, {"é": -2.0}, {" x": -3.0}]
    assert done(body).tokens.logprobs.tolist() == [-3.0, -3.0]


def test_chat_shape_under_completions_and_legacy_shape_under_chat_are_read() -> None:
    body = {"choices": [{"text": "Hi", "logprobs": {"content": [entry("Hi")]}}]}
    assert done(body).text == "Hi"
    lists = {"tokens": ["Hi", " all"], "token_logprobs": [-1.0, -2.0], "token_ids": [1.0, 2.0]}
    found = done({"choices": [{"message": {"content": "Hi all"}, "logprobs": lists}]})
    assert (found.text, found.ids) == ("Hi all", (1, 2))


def test_probabilities_in_place_of_logprobs_are_read_as_such() -> None:
    content = [{"token": "Hi", "bytes": [72, 105], "prob": 0.5, "top_probs": []}]
    assert done(chat("Hi", content)).tokens.logprobs[0] == pytest.approx(math.log(0.5))


def test_a_stream_that_was_not_asked_for_is_read_whole() -> None:
    chunks = [
        {"choices": [{"text": t, "logprobs": {"tokens": [t], "token_logprobs": [-1.0]}}]} for t in ("a", " b")
    ]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    assert pieces(done(body.encode())) == ["a", " b"]


@pytest.mark.parametrize(
    ("status", "body", "want"),
    [
        (400, {"error": {"message": "bad", "type": "t", "param": "top_k", "code": None}}, (400, "bad", "top_k")),
        (404, {"error": {"message": "no model", "code": 404}}, (404, "no model", None)),
        (400, {"object": "error", "message": "bad", "code": 400}, (400, "bad", None)),
        (424, {"error": "too big", "error_type": "generation"}, (424, "too big", None)),
        (500, {"error": "broken"}, (500, "broken", None)),
        (
            422,
            {"detail": [{"loc": ["body", "top_k"], "msg": "not allowed"}]},
            (422, "body.top_k: not allowed", None),
        ),
        (404, {"detail": "Not Found"}, (404, "Not Found", None)),
        (400, [{"error": {"code": 400, "message": "bad", "status": "X"}}], (400, "bad", None)),
        (200, {"error": {"code": 429, "message": "slow", "metadata": {}}, "user_id": "u"}, (429, "slow", None)),
        (200, {"error": {"message": "odd"}}, (500, "odd", None)),
        (502, b"<html>bad gateway</html>", (502, "<html>bad gateway</html>", None)),
        (503, b"", (503, "HTTP 503 with an empty body", None)),
    ],
)
def test_errors_of_every_shape_are_read(status: int, body: Any, want: tuple[int, str, str | None]) -> None:
    found = error_of(raw(body, status))
    assert found is not None
    assert (found.status, found.message, found.param) == want


def test_a_good_reply_is_no_error() -> None:
    assert error_of(raw(many([-1.0]))) is None


def test_an_error_at_status_200_is_refused_with_its_words() -> None:
    found = read({"error": {"code": 429, "message": "slow\x1b[31m down"}})
    assert "429 slow [31m down" in getattr(found, "advice", "")


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        ("Requested sample logprobs of 1000, which is greater than max allowed: 50 (parameter=logprobs)", 50),
        ("5 is greater than the maximum of 1 - 'logprobs'", 1),
        ("Invalid value: must be less than or equal to 20", 20),
        ("Field 'top_logprobs': Value must be between 0 and 8", 8),
        ("logprobs are not supported", None),
    ],
)
def test_the_limit_that_an_error_names_is_found(message: str, limit: int | None) -> None:
    assert allowed_maximum(message) == limit


def test_usage_of_every_provider_is_read() -> None:
    openai = {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 2},
        "cost": 0.5,
    }
    assert usage(raw({"usage": openai})) == usage(raw({"usage": {**openai, "total_tokens": "x"}}))
    found = usage(raw({"usage": openai}))
    assert (found.input_tokens, found.output_tokens, found.cached_tokens, found.cost_usd) == (7, 3, 2, 0.5)
    assert usage(raw({"usage": {"prompt_cache_hit_tokens": 4}})).cached_tokens == 4
    assert usage(raw({"meta_info": {"prompt_tokens": 1, "completion_tokens": 2}})).output_tokens == 2
    assert usage(raw({"details": {"generated_tokens": 9, "prefill": [{}, {}]}})).input_tokens == 2
    for odd in (b"", b"[", {"usage": None}, {"usage": {"prompt_tokens": -1}}, {"usage": {"prompt_tokens": True}}):
        assert usage(raw(odd)).input_tokens is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"<html>", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "not_json"),
        (b'{"choices": ' + b"9" * 5000 + b"}", "not_json"),
        (b"null", "not_json"),
        (b"[]", "not_json"),
        (b'{"choices": []}', "no_choices"),
        (b'{"choices": [null]}', "no_choices"),
        (b'{"choices": [{}]}', "no_choices"),
        (b'{"choices": [{"text": 7}]}', "no_text"),
        (b'{"choices": [{"text": "\\ud800", "logprobs": {"content": []}}]}', "text_not_unicode"),
    ],
)
def test_bodies_that_are_no_reply_are_refused(body: bytes, reason: str) -> None:
    assert refused(body) == reason


def test_a_long_hostile_list_is_read_in_time() -> None:
    tokens = ["", "\ufffd"] * 50_000
    assert refused(legacy("x" * 100_000, tokens, [-1.0] * 100_000)) in ("text_mismatch", "missing_logprobs")


def test_a_changed_fingerprint_is_flagged() -> None:
    found = done({**many([-1.0, -2.0]), "system_fingerprint": "new"})
    assert drift(found, PROFILE) is None
    profile = PROFILE.model_copy(update={"fingerprint": "old"})
    assert "changed from 'old' to 'new'" in str(drift(found, profile))


def test_logprobs_that_vanish_under_way_are_flagged() -> None:
    assert "came without logprobs" in str(drift(read({"choices": [{"text": "x"}]}), PROFILE))  # type: ignore[arg-type]


def test_ids_that_vanish_under_way_are_flagged() -> None:
    profile = PROFILE.model_copy(update={"token_ids": True})
    assert "token ids" in str(drift(done(many([-1.0, -2.0])), profile))


def test_tgi_replies_are_read() -> None:
    tokens = [
        {"id": 1, "text": " a", "logprob": -1.0, "special": False},
        {"id": 2, "text": "</s>", "logprob": -0.5},
    ]
    body = {
        "generated_text": " a",
        "details": {"finish_reason": "eos_token", "generated_tokens": 2, "tokens": tokens},
    }
    found = done(body, dialect="tgi")
    assert (found.text, found.ids, found.side[0].kind) == (" a", (1,), "end")


def test_content_in_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "Hi"}, {"type": "text", "text": " you"}]
    assert done(chat(parts, [entry("Hi"), entry(" you")])).text == "Hi you"


def test_a_completion_is_a_completion() -> None:
    assert isinstance(read(many([-1.0, -2.0])), Completion)


def test_white_space_of_a_token_cut_inside_a_character_is_a_tail() -> None:
    body = chat("Hi there. ", [entry("Hi"), entry(" there"), entry(".")], usage={"completion_tokens": 5})
    found = done(body)
    assert (found.text, [(side.text, side.kind) for side in found.side]) == ("Hi there.", [(" ", "tail")])


@pytest.mark.parametrize("tops", [[], None, "absent", [{}], [None]])
def test_no_alternatives_in_any_form_still_leave_the_sampled_number(tops: Any) -> None:
    body = legacy("Hi you", ["Hi", " you"], [-1.0, -2.0])
    if tops == "absent":
        del body["choices"][0]["logprobs"]["top_logprobs"]
    else:
        body["choices"][0]["logprobs"]["top_logprobs"] = tops
    assert done(body).tokens.logprobs.tolist() == [-1.0, -2.0]


def test_alternatives_in_any_order_with_the_sampled_token_first_last_or_as_one_object() -> None:
    first = [entry(" a", -3.0), entry(" b", -0.1), entry(" c", -2.0)]
    for tops in (first, first[::-1], first[1:], {" a": -3.0, " b": -0.1}):
        assert done(chat(" a", [entry(" a", -3.0, top_logprobs=tops)])).tokens.logprobs.tolist() == [-3.0]


def test_a_prompt_list_of_one_null_is_no_score() -> None:
    body = {**legacy(" x", [" x"], [-1.0]), "prompt_logprobs": [None]}
    item = ScoreItem("Hello", "chat", " world")
    profile = PROFILE.model_copy(update={"scores_template": True})
    dialect = DIALECTS["vllm"]
    found = dialect.read_score(raw(body), call=dialect.score(profile, item), profile=profile, item=item)
    assert isinstance(found, Refusal)
    assert found.reason == "echo_ignored"


def test_replacement_bytes_of_older_servers_are_not_taken_for_the_tokens_own() -> None:
    content = [entry("\ufffd", -1.0, [239, 191, 189]), entry("\ufffd", -2.0, [239, 191, 189]), entry(" x", -0.5)]
    found = done(chat("é x", content))
    assert pieces(found) == ["é", " x"]
    assert found.tokens.logprobs.tolist() == [-3.0, -0.5]


def test_the_placeholder_of_a_filtered_token_is_missing_and_a_sure_one_is_kept() -> None:
    found = done(many([-1.0] * 38 + [0.0, -9999.0]))
    assert found.tokens.logprobs[-2] == 0.0
    assert math.isnan(found.tokens.logprobs[-1])


@pytest.mark.parametrize(("text", "generated"), [(" ", 4), (" ", None), (" a", 2), ("", 4), (" a\ufffd", 2)])
def test_white_space_without_logprobs_is_a_cut_character_only_where_few_tokens_were_written(
    text: str, generated: int | None
) -> None:
    body = legacy(text, [], [])
    body["choices"][0]["logprobs"] = None
    if generated is not None:
        body["usage"] = {"completion_tokens": generated}
    assert refused(body) == "no_logprobs"
    assert (
        done({**body, "choices": [{**body["choices"][0], "text": " "}], "usage": {"completion_tokens": 2}}).text
        == ""
    )
