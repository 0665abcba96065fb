"""One reader for every form of a body; what can't be read is bought once."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from blackbox_diff.buying.buyer import Bought
from blackbox_diff.buying.retry import decide
from blackbox_diff.probing.identify import identify
from blackbox_diff.records import Completion, Lost, RawReply, Refusal
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire import error_of, usage
from tests.fault_server import serving
from tests.hostile.scripted import Scripted, good, plainly, purchases
from tests.replies import chat, entry, raw, read

BOM = b"\xef\xbb\xbf"
WHOLE = chat(
    "Hi you", [entry("Hi", -1.0), entry(" you", -2.0)], usage={"prompt_tokens": 3, "completion_tokens": 2}
)


def part(token: str, logprob: float, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": token}, "logprobs": {"content": [entry(token, logprob)]}}
    return {"choices": [choice | {"finish_reason": finish}], **more}


PARTS = [part("Hi", -1.0), part(" you", -2.0, "length"), {"choices": [], "usage": WHOLE["usage"]}]
LINES = [json.dumps(each).encode() for each in PARTS]
EVENTS = b"".join(b"data: " + line + b"\n\n" for line in LINES) + b"data: [DONE]\n\n"
SPREAD = b"".join(
    b"data: " + b"\ndata: ".join(json.dumps(each, indent=1).encode().split(b"\n")) + b"\n\n" for each in PARTS
)
PLAIN = json.dumps(WHOLE).encode()

FORMS = {
    "plain": PLAIN,
    "byte order mark": BOM + PLAIN,
    "UTF-16": json.dumps(WHOLE).encode("utf-16"),
    "blank lines": b"\r\n\r\n \n" + PLAIN + b"\n\n",
    "comment lines": b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n" + PLAIN,
    "comment lines among those of an indented value": b": wait\n" + json.dumps(WHOLE, indent=2).encode(),
    "events": EVENTS,
    "events behind a mark": BOM + EVENTS,
    "events with names, ids and comments": b": hi\n" + EVENTS.replace(b"data: {", b"event: x\nid: 1\ndata: {"),
    "events without spaces": EVENTS.replace(b"data: ", b"data:"),
    "events with carriage returns": EVENTS.replace(b"\n", b"\r\n"),
    "events without blank lines": EVENTS.replace(b"\n\n", b"\n"),
    "events of many lines": SPREAD + b"data: [DONE]\n",
    "events without the last word": EVENTS.replace(b"data: [DONE]\n\n", b""),
    "a value a line": b"\n".join(LINES),
    "all of it in one event": b"data: " + PLAIN + b"\n\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_reads_as_the_plain_one(form: str) -> None:
    reply = raw(FORMS[form])
    assert decide(reply, 1).action == "accept"
    assert error_of(reply) is None
    assert (usage(reply).input_tokens, usage(reply).output_tokens) == (3, 2)
    found = read(FORMS[form])
    assert isinstance(found, Completion), found
    assert (found.text, found.tokens.logprobs.tolist(), found.finish_reason) == ("Hi you", [-1.0, -2.0], "length")


BROKEN = {
    "nothing": b"",
    "a part that is cut": EVENTS.replace(b'"logprob": -1.0', b'"logp'),
    "no end": b"data: " + LINES[0] + b"\n\n",
    "a page": b"<html>Bad gateway</html>",
    "words between events": EVENTS.replace(b"data: {", b"oops\ndata: {"),
    "a part that is no object": b"data: 7\n\n" + EVENTS,
    "only comments": b": wait\n: wait\n",
    "cut off": PLAIN[:-9],
    "too many values": b"[" + b"{}," * 600_000 + b"{}]",
}


@pytest.mark.parametrize("form", BROKEN)
def test_what_cannot_be_read_is_given_up_at_once_and_refused(form: str) -> None:
    decision = decide(raw(BROKEN[form]), 1)
    assert (decision.action, decision.fate) == ("give up", "unknown")
    found = read(BROKEN[form])
    assert isinstance(found, Refusal)
    assert found.reason == "not_json"


def test_an_error_among_events_is_an_error_by_its_code() -> None:
    for error in (
        b'event: error\ndata: {"message": "slow", "code": 429}\n\n',
        b'data: {"error": {"message": "slow", "code": 429}}\n\n',
    ):
        found = error_of(raw(error))
        assert found is not None
        assert (found.status, found.message) == (429, "slow")
        assert decide(raw(error), 1).reason == "throttled"


def test_reasoning_that_came_in_parts_is_seen() -> None:
    thinking = {"choices": [{"index": 0, "delta": {"reasoning_content": "Hm, "}}]}
    body = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in (thinking, thinking, *PARTS))
    found = read(body)
    assert isinstance(found, Refusal)
    assert found.reason == "reasoning"


def test_a_list_of_models_behind_a_mark_is_read() -> None:
    listed = BOM + b'{"data": [{"id": "m", "owned_by": "vllm"}]}'
    assert identify("http://x/v1", "m", RawReply(200, {}, listed, 0.1)).dialect == "vllm"


@pytest.mark.parametrize("body", [b"data: nothing\n\n", b"<html>", b"{}", b"\xff"])
async def test_a_reply_that_says_nothing_is_bought_once(body: bytes, tmp_path: Path) -> None:
    server = Scripted(lambda number, request: plainly(body))
    with serving(server), Store.create(tmp_path, {"config": {}}) as store:
        outcomes = await purchases(server, store, 3)
        spent = store.spent("target")
    assert [type(outcome) for outcome in outcomes] == [Lost] * 3
    assert server.requests == 3
    assert spent.output_tokens == 12  # as reserved: they may be billed


async def test_events_that_were_not_asked_for_are_bought_once_and_read(tmp_path: Path) -> None:
    server = Scripted(lambda number, request: plainly(EVENTS))
    with serving(server), Store.create(tmp_path, {"config": {}}) as store:
        outcomes = await purchases(server, store, 3)
    assert [type(outcome) for outcome in outcomes] == [Bought] * 3
    assert server.requests == 3


def slow_headers() -> dict[str, str]:
    return {
        "x_ratelimit_limit_requests": "9",
        "x_ratelimit_remaining_requests": "0",
        "x_ratelimit_reset_requests": "1" * 60_000 + "x",
        "retry_after": "1" * 9_000 + "x",
        "set_cookie": "a=b",
    }


async def test_long_headers_take_no_time_and_are_not_kept(tmp_path: Path) -> None:
    server = Scripted(lambda number, request: plainly(good(number, request), **slow_headers()))
    started = time.process_time()
    with serving(server), Store.create(tmp_path, {"config": {}}) as store:
        outcomes = await purchases(server, store, 2)
    assert time.process_time() - started < 5
    for outcome in outcomes:
        assert isinstance(outcome, Bought)
        assert "set-cookie" not in outcome.reply.headers
        assert max(map(len, outcome.reply.headers.values())) <= 256


async def test_a_body_is_read_no_further_than_what_was_asked_for_can_need(tmp_path: Path) -> None:
    long = b'{"choices": [' + b"{}," * 1_000_000 + b"{}]}"
    server = Scripted(lambda number, request: plainly(long))
    with serving(server), Store.create(tmp_path, {"config": {}}) as store:
        (outcome,) = await purchases(server, store, 1)
    assert isinstance(outcome, Lost)
    assert outcome.reason == "reply_too_long"
    assert server.requests == 1
