"""Replies that are not the target's own text: another model's, reasoning's, a failed generation's."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import httpx2
import pytest

from blackbox_diff.buying.buyer import settlement
from blackbox_diff.buying.ledger import Ledger
from blackbox_diff.buying.retry import decide
from blackbox_diff.records import Call, Completion, Refusal
from blackbox_diff.run.results import read_run
from blackbox_diff.wire import DIALECTS, ScoreItem, error_of
from blackbox_diff.wire.identity import akin, is_other
from tests.fake_endpoint import FakeEndpoint
from tests.replies import PROFILE, chat, entry, legacy, raw, read, refused
from tests.test_drift import PROBE_CALLS, audit

CALL = Call("/completions", {"prompt": "Hi", "max_tokens": 16})
HELLO = [entry("Hi", -1.0), entry(" you", -2.0)]


@pytest.mark.parametrize(
    ("asked", "told", "same"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("gpt-4-0613", "gpt-4", True),
        ("gemini-2.0-flash", "gemini-2.0-flash-001", True),
        ("meta-llama/Llama-3-8B", "llama-3-8b", True),
        ("llama3", "llama3:latest", True),
        ("/models/tiny.gguf", "tiny", True),
        ("acme-ft", "ACME-FT", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4", "gpt-4.1", False),
        ("llama-3", "llama-3-8b", False),
        ("acme-ft", "fallback-small", False),
    ],
)
def test_aliases_of_a_model_are_told_from_other_models(asked: str, told: str, same: bool) -> None:
    assert akin(asked, told) is same
    assert akin(told, asked) is same


def test_a_reply_is_another_models_only_where_the_probe_saw_a_name() -> None:
    seen = PROFILE.model_copy(update={"model": "deployment-7", "answers_as": "gpt-4o-2024-08-06"})
    assert not is_other("gpt-4o-2024-08-06", seen)
    assert not is_other("gpt-4o", seen)
    assert not is_other("deployment-7", seen)
    assert not is_other(None, seen)
    assert is_other("gpt-4o-mini", seen)
    assert not is_other("gpt-4o-mini", seen.model_copy(update={"answers_as": None}))


class Router(FakeEndpoint):
    """Answers `share` of the completions, or all of them, with another model that it names."""

    def __init__(self, every: int, after: int = 0) -> None:
        super().__init__()
        self.every, self.after = every, after

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        response = super().answer(request)
        if request.method == "GET":
            return response
        body = response.json()
        fallen = len(self.calls) > self.after and len(self.calls) % self.every == 0
        return httpx2.Response(200, json=body | {"model": "fallback-small" if fallen else "m"})


def test_completions_of_another_model_are_refused_and_told(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert audit(Router(3, after=PROBE_CALLS), run, completions=30) == 0
    summary = read_run(run).summary
    assert 6 <= summary.refused["other_model"] <= 11
    assert summary.scored == 30 - summary.refused["other_model"]
    assert any("fallback-small" in warning for warning in summary.warnings), summary.warnings


def test_another_model_from_the_first_reply_on_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert audit(Router(1), run, "--json", completions=6) == 0
    said = json.loads(capsys.readouterr().out)["warnings"]
    assert any("m answers as 'fallback-small'" in warning for warning in said), said


def test_a_score_of_another_model_is_refused() -> None:
    item = ScoreItem("Hi", "raw", " you")
    profile = PROFILE.model_copy(update={"scoring": "echo", "answers_as": "m"})
    speaks = DIALECTS["generic"]
    body = legacy("Hi you", ["Hi", " you"], [None, -2.0], model="n")
    found = speaks.read_score(raw(body), call=speaks.score(profile, item), profile=profile, item=item)
    assert isinstance(found, Refusal)
    assert found.reason == "other_model"


@pytest.mark.parametrize(
    "message",
    [
        {"reasoning": "hm"},
        {"reasoning_content": "hm"},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "xx"}]},
        {"thinking": "hm"},
        {"thinking_blocks": [{"thinking": "hm"}]},
        {"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "Hi you"}]},
    ],
)
def test_reasoning_in_any_field_is_refused(message: dict[str, Any]) -> None:
    assert refused(chat("Hi you", HELLO, message=message)) == "reasoning"


@pytest.mark.parametrize(
    "message", [{"reasoning_content": "\n"}, {"reasoning": ""}, {"reasoning_details": []}, {"thinking": None}]
)
def test_empty_reasoning_is_harmless(message: dict[str, Any]) -> None:
    assert isinstance(read(chat("Hi you", HELLO, message=message)), Completion)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 90},
        {"prompt_tokens": 3, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 7}},
        {"prompt_tokens": 3, "completion_tokens": 9, "output_tokens_details": {"reasoning_tokens": 7}},
        {"prompt_tokens": 3, "completion_tokens": 9, "reasoning_tokens": 7},
    ],
)
def test_reasoning_that_only_the_usage_counts_is_refused(usage: dict[str, Any]) -> None:
    assert refused(chat("Hi you", HELLO, usage=usage)) == "hidden_reasoning"


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 4},
        {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
        {"completion_tokens": 2, "total_tokens": 9},
        {"prompt_tokens": 3, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 0}},
    ],
)
def test_usage_that_adds_up_hides_nothing(usage: dict[str, Any]) -> None:
    assert isinstance(read(chat("Hi you", HELLO, usage=usage)), Completion)


def broken(**choice: Any) -> dict[str, Any]:
    body = legacy("Hi", ["Hi"], [-1.0])
    body["choices"][0] |= choice
    return body


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (broken(error={"code": 429, "message": "slow"}), 429),
        (broken(error={"code": "503", "message": "busy"}), 503),
        (broken(error="upstream"), 500),
        (broken(finish_reason="error"), 502),
        (broken(finish_reason="network_error"), 502),
        (broken(finish_reason="ABORT"), 502),
        ({**broken(), "error": {"code": 502, "message": "provider died"}}, 502),
        ({**broken(), "errors": [{"message": "x"}]}, 500),
        ({"code": 1302, "msg": "rate limit reached"}, 500),
        ({"error_code": 18, "error_msg": "Open api qps request limit reached"}, 500),
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}, "choices": None}, 500),
    ],
)
def test_a_failed_generation_is_an_error_by_its_code_and_never_a_completion(
    body: dict[str, Any], status: int
) -> None:
    found = error_of(raw(body))
    assert found is not None
    assert found.status == status
    assert found.message
    assert refused(body) == "error_reply"
    assert decide(raw(body), 1).action == "retry"


@pytest.mark.parametrize(
    "body",
    [
        {**broken(), "error": None},
        {**broken(), "error": {}},
        {**broken(), "error": {"code": 0, "message": ""}},
        {**broken(), "errors": []},
        {**broken(), "code": 200, "msg": "success"},
        {**broken(), "base_resp": {"status_code": 0, "status_msg": "success"}},
        broken(error=None, finish_reason="stop"),
    ],
)
def test_an_error_field_that_says_all_is_well_is_none(body: dict[str, Any]) -> None:
    assert error_of(raw(body)) is None
    assert isinstance(read(body), Completion)


def test_a_generation_that_broke_off_is_paid_for_by_its_usage() -> None:
    body = broken(finish_reason="error") | {"usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    found, ledger = raw(body), Ledger()
    assert settlement(CALL, found, decide(found, 1), ledger.worst(CALL), ledger)[0].output_tokens == 1


@pytest.mark.parametrize("reason", ["content_filter", "SAFETY", "sensitive", "RECITATION"])
def test_a_filter_by_any_name_is_refused(reason: str) -> None:
    assert refused(broken(finish_reason=reason)) == "content_filter"


def test_ids_for_the_whole_conversation_are_not_kept_beyond_what_was_sent() -> None:
    body = legacy("Hi", ["Hi"], [-1.0], prompt_token_ids=list(range(100_000)))
    found = read(body)
    assert isinstance(found, Completion)
    assert found.prompt_ids is None
    assert math.isfinite(found.tokens.logprobs[0])
