"""Members of each kind that nobody had listed, over a socket: what is read, how often bought, what is booked."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from blackbox_diff.buying.buyer import Bought
from blackbox_diff.config.model import Budget
from blackbox_diff.errors import BudgetError
from blackbox_diff.records import Completion, Lost
from blackbox_diff.runfile.rows import Spent
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire import DIALECTS
from blackbox_diff.wire.drift import drift
from tests.fault_server import http, serving
from tests.hostile.scripted import Answer, Scripted, plainly, purchases
from tests.replies import PROFILE, chat, entry, legacy

PROBED = PROFILE.model_copy(update={"answers_as": "m", "fingerprint": "host-a"})
WORDS = [" one", " two", " three", " four"]
TEXT = "".join(WORDS)
NUMBERS = [-0.5, -3.0, -7.0, -1.5]
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def listing(numbers: list[float]) -> list[dict[str, float]]:
    """A list for every word: the word with its number, and another word."""
    return [{word: number, " x": -9.0} for word, number in zip(WORDS, numbers, strict=True)]


def told(numbers: list[float] = NUMBERS, tops: Any = None, **more: Any) -> dict[str, Any]:
    """A completion of WORDS with these numbers and lists, and these fields in its choice."""
    body = legacy(TEXT, WORDS, numbers, usage=USAGE, model="m")
    body["choices"][0]["logprobs"]["top_logprobs"] = tops
    body["choices"][0] |= more
    return body


def talked(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    entries = [entry(word, number) for word, number in zip(WORDS, NUMBERS, strict=True)]
    return chat(TEXT, entries, message=message, **{"usage": USAGE, "model": "m", **more})


def events(*parts: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(part).encode() + b"\n\n" for part in parts) + b"data: [DONE]\n\n"


def part(place: int, index: int = 0, model: str = "m") -> dict[str, Any]:
    lists = {"tokens": [WORDS[place]], "token_logprobs": [NUMBERS[place]]}
    return {"model": model, "choices": [{"index": index, "text": WORDS[place], "logprobs": lists}]}


async def bought(answer: Answer, run: Path, n: int = 1, **more: Any) -> tuple[list[Any], Spent, int]:
    """Outcomes of buying, what it cost, and how many requests came."""
    server = Scripted(answer)
    with serving(server), Store.create(run, {"config": {}}) as store:
        outcomes = await purchases(server, store, n, **more)
        return outcomes, store.spent("target"), server.requests


def always(body: Any, status: int = 200, **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()).encode()
    return lambda number, request: http(status, data, extra)


def reading(outcome: Any) -> str:
    """How a bought reply is read: the completion's text, or why it is refused."""
    assert isinstance(outcome, Bought), outcome
    found = DIALECTS["generic"].read_sample(outcome.reply, call=None, profile=PROBED, prefill="", framing="raw")  # type: ignore[arg-type]
    return found.text if isinstance(found, Completion) else found.reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        # The rows slipped by one: each list is its word's, each number the word's before it.
        (told([-1.0, -0.5, -3.0, -7.0], listing(NUMBERS)), "contradicted_logprobs"),
        # A draft model's numbers beside the target's lists.
        (told([-0.5, -2.0, -5.0, -1.5], listing(NUMBERS)), "contradicted_logprobs"),
        # One number for every token, which is no zero.
        (legacy(" a" * 20, [" a"] * 20, [-0.6931] * 20), "constant_logprobs"),
        # A model that takes over in the middle of a stream.
        (events(part(0), part(1), part(2, model="fallback"), part(3, model="fallback")), "other_model"),
        (events(part(0, model="fallback"), part(1), part(2), part(3)), "other_model"),
        # Thoughts under other names, and in other places.
        (told(reasoning_content="Hm, "), "reasoning"),
        (talked({"thoughts": "Hm, "}), "reasoning"),
        (talked({"encrypted_reasoning": "AAAA"}), "reasoning"),
        (talked({"content": [{"type": "thought", "thought": "Hm"}, {"type": "text", "text": TEXT}]}), "reasoning"),
        (talked({}, usage=USAGE | {"thoughts_token_count": 90}), "hidden_reasoning"),
        (talked({}, usage=USAGE | {"output_tokens_details": {"thinking_tokens": 90}}), "hidden_reasoning"),
    ],
)
async def test_numbers_that_are_not_the_targets_own_are_refused(body: Any, reason: str, tmp_path: Path) -> None:
    (outcome,), _, requests = await bought(always(body), tmp_path, max_tokens=24)
    assert (reading(outcome), requests) == (reason, 1)


@pytest.mark.parametrize(
    "body",
    [
        told(tops=listing(NUMBERS)),
        told(tops=listing([number + 0.04 for number in NUMBERS])),  # within what rounding does
        told(tops=[{"\ufffd": -4.0}] * 4),  # a string that names many tokens contradicts none
        events(part(0), part(1), part(2, model="org/m:latest"), part(3)),
        talked({"reasoning_details": [], "thoughts": "\n"}, usage=USAGE | {"thoughts_token_count": 0}),
        json.dumps(told()).encode("utf-16"),
        b"\xef\xbb\xbf\r\n" + json.dumps(told()).encode(),
    ],
)
async def test_what_looks_alike_and_is_sound_is_read(body: Any, tmp_path: Path) -> None:
    (outcome,), spent, requests = await bought(always(body), tmp_path)
    assert (reading(outcome), requests, spent.output_tokens) == (TEXT, 1, 4)


@pytest.mark.parametrize(
    "body",
    [
        told(finish_reason="upstream_failure"),
        told(finish_reason="MALFORMED_RESPONSE"),
        told(finish_reason="preempted"),
        told() | {"status": "failed"},
        talked({"error": {"message": "the worker died"}}),
    ],
)
async def test_a_generation_that_broke_off_by_any_word_is_lost_and_booked(body: Any, tmp_path: Path) -> None:
    (outcome,), spent, requests = await bought(always(body), tmp_path)
    assert isinstance(outcome, Lost), outcome
    assert (outcome.reason in ("http_500", "http_502"), requests, spent.output_tokens) == (True, 10, 40)


TWO_KB = "x" * 2_048
PAID: list[tuple[str, Any, int, int]] = [
    # what came, the body, its status, and the output tokens that one attempt is booked at
    ("an error beside a whole completion", told() | {"error": "busy"} | {"usage": None}, 200, 4),
    ("a completion that was broken off, without usage", told(finish_reason="error") | {"usage": None}, 200, 4),
    ("a completion with a 429", told(), 429, 4),
    ("usage alone with a 400", {"error": "filtered", "usage": USAGE}, 400, 4),
    ("3,000 tokens with a 500", legacy(" a" * 3_000, [" a"] * 3_000, [-1.0] * 3_000), 500, 3_000),
    ("forty choices in a stream", events(*(part(0, index) for index in range(40))), 200, 40),
    ("text in parts", chat([{"type": "text", "text": TWO_KB}], [], usage={"completion_tokens": 0}), 200, 17),
    (
        "the arguments of a tool's call",
        chat(None, [], message={"tool_calls": [{"function": {"arguments": TWO_KB}}]}),
        200,
        16,
    ),
    ("a refusal's text", chat(None, [], message={"refusal": TWO_KB}, usage={"completion_tokens": 0}), 200, 16),
    ("reasoning beside what counts as completed", talked({}, usage=USAGE | {"reasoning_tokens": 700}), 200, 701),
    ("usage under newer names", told() | {"usage": {"input_tokens": 3, "output_tokens": 900}}, 200, 900),
]


@pytest.mark.parametrize(("body", "status", "booked"), [each[1:] for each in PAID], ids=[each[0] for each in PAID])
async def test_whatever_came_is_booked(body: Any, status: int, booked: int, tmp_path: Path) -> None:
    _, spent, requests = await bought(always(body, status), tmp_path)
    assert spent.output_tokens == booked * requests
    assert bool(spent.overbilled) == (booked > 4)


@pytest.mark.parametrize(
    "answer",
    [
        always(b'{"choices": [' + b"{}," * 600_000 + b"{}]}"),
        always(legacy(" a" * 3_000, [" a"] * 3_000, [-1.0] * 3_000), 500),
    ],
    ids=["a reply that is cut off", "a reply with a 500"],
)
async def test_under_a_cap_nothing_more_is_bought_of_who_sends_more(answer: Answer, tmp_path: Path) -> None:
    outcomes, _, requests = await bought(answer, tmp_path, 3, budget=Budget(max_cost=1.0))
    assert (requests, [type(each) for each in outcomes[1:]]) == (1, [BudgetError] * 2)
    with Store.open(tmp_path) as store:  # nor by a session that resumes it
        assert store.spent("target").overbilled == 1


def informed(number: int, request: dict[str, Any]) -> bytes:
    return b"HTTP/1.1 100 Continue\r\n\r\n" * 500 + plainly(told())


async def test_notes_before_a_reply_are_passed_over(tmp_path: Path) -> None:
    outcomes, _, requests = await bought(informed, tmp_path, 2)
    assert ([reading(each) for each in outcomes], requests) == ([TEXT] * 2, 2)


def in_two_members(number: int, request: dict[str, Any]) -> bytes:
    body = json.dumps(told()).encode()
    return plainly(gzip.compress(body[:90]) + gzip.compress(body[90:]), Content_Encoding="gzip")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (in_two_members, "malformed_reply"),
        (lambda number, request: plainly(told(), Content_Length="7"), "no_http"),
        (lambda number, request: plainly(told()).replace(b"Length: ", b"Length: -"), "no_http"),
        (lambda number, request: b"HTTP/1.1 2000 OK\r\n\r\n", "no_http"),
    ],
)
async def test_false_forms_of_http_are_failures_booked_as_reserved(
    answer: Answer, reason: str, tmp_path: Path
) -> None:
    (outcome,), spent, requests = await bought(answer, tmp_path)
    assert isinstance(outcome, Lost), outcome
    assert (outcome.reason, requests, spent.output_tokens) == (reason, 1, 4)


async def test_another_host_behind_a_router_is_told(tmp_path: Path) -> None:
    (outcome,), _, _ = await bought(always(told() | {"provider": "host-b"}), tmp_path)
    assert isinstance(outcome, Bought)
    found = DIALECTS["generic"].read_sample(outcome.reply, call=None, profile=PROBED, prefill="", framing="raw")  # type: ignore[arg-type]
    assert drift(found, PROBED) == "m: the fingerprint changed from 'host-a' to 'host-b'"
