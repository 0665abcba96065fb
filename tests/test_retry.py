"""One function decides about every outcome, and tenacity obeys it without ever really sleeping."""

from __future__ import annotations

import json

import pytest

from blackbox_diff.buying import durations, retry
from blackbox_diff.buying.failures import TransportFailure
from blackbox_diff.buying.retry import Decision, decide
from blackbox_diff.records import RawReply


def reply(status: int, body: object = None, **headers: str) -> RawReply:
    content = body if isinstance(body, bytes) else json.dumps(body or {"error": {"message": "no"}}).encode()
    return RawReply(status, {name.replace("_", "-"): value for name, value in headers.items()}, content, 0.1)


@pytest.mark.parametrize(
    ("outcome", "action", "fate"),
    [
        (reply(200, {"choices": []}), "accept", "billed"),
        (reply(200, b'{"choices": ['), "give up", "unknown"),
        (reply(200, b"{}"), "give up", "unknown"),
        (reply(200, b"[" * 100_000), "give up", "unknown"),
        (reply(200, {"error": {"message": "busy", "code": 429}}), "retry", "free"),
        (reply(200, {"error": {"message": "who", "code": 401}}), "stop", "free"),
        (reply(400), "give up", "free"),
        (reply(400, x_should_retry="true"), "retry", "free"),
        (reply(401), "stop", "free"),
        (reply(403), "stop", "free"),
        (reply(404), "stop", "free"),
        (reply(302), "stop", "free"),
        (reply(408), "retry", "unknown"),
        (reply(409), "retry", "unknown"),
        (reply(429), "retry", "free"),
        (reply(429, {"error": {"message": "pay", "code": "insufficient_quota"}}), "stop", "free"),
        (reply(500), "retry", "unknown"),
        (reply(500, x_should_retry="false"), "give up", "unknown"),
        (reply(503), "retry", "free"),
        (TransportFailure("unsent", "connect_failed", "x"), "retry", "unsent"),
        (TransportFailure("unknown", "timeout", "x"), "retry", "unknown"),
    ],
)
def test_every_outcome_has_its_verdict(outcome: RawReply | TransportFailure, action: str, fate: str) -> None:
    decision = decide(outcome, 1)
    assert (decision.action, decision.fate) == (action, fate)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 40.0),
        ({"retry-after": "99999"}, 99_999.0),
        ({"retry-after": "9" * 30}, durations.YEAR),
        ({"retry-after": "-4"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry.retry_after(headers, now=60.0) == seconds


def test_a_daily_quota_stops_the_run_and_says_until_when() -> None:
    decision = decide(reply(429, retry_after="20000"), 1, now=0.0)
    assert (decision.action, decision.reason, decision.fate) == ("stop", "quota", "free")
    assert "it asks to wait 5.6 h, until 1970-01-0" in decision.detail
    short = decide(reply(429, retry_after="500"), 1, now=0.0)
    assert (short.action, short.after) == ("retry", 500.0)


def test_the_last_attempt_gives_up() -> None:
    assert decide(reply(500), retry.MAX_ATTEMPTS).action == "give up"


async def test_waits_double_up_to_the_bound_and_obey_the_server() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def attempt(number: int) -> Decision:
        return Decision("retry", "x", "free", after=7.0 if number == 3 else None)

    await retry.repeat(attempt, lambda made: made, sleep=sleep, chance=lambda: 0.0)
    assert slept == [0.25, 0.5, 7.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]


async def test_an_exception_is_never_retried() -> None:
    calls: list[int] = []

    async def attempt(number: int) -> Decision:
        calls.append(number)
        raise KeyError("parsing")

    with pytest.raises(KeyError):
        await retry.repeat(attempt, lambda made: made, sleep=attempt)  # type: ignore[arg-type]
    assert calls == [1]


def test_hostile_error_text_becomes_one_printable_line() -> None:
    detail = decide(reply(400, {"error": {"message": "\x1b[31mred\n\u202eline" * 99}}), 1).detail
    assert detail.isprintable()
    assert len(detail) < 260


@pytest.mark.parametrize(
    ("status", "body", "action", "words"),
    [
        (401, {"statusCode": 401, "message": "Access token is missing, invalid, or expired."}, "stop", "expired"),
        (
            401,
            {"error": {"code": "401", "message": "Access denied due to invalid subscription key"}},
            "stop",
            "key",
        ),
        (
            404,
            {"error": {"code": "DeploymentNotFound", "message": "The API deployment is absent"}},
            "stop",
            "absent",
        ),
        (429, {"error": {"code": "429", "message": "exceeded call rate limit; retry after 6 s"}}, "retry", "rate"),
        (
            400,
            {"error": {"code": "content_filter", "param": "prompt", "status": 400, "innererror": {"x": {}}}},
            "give up",
            "400",
        ),
    ],
)
def test_azure_errors_are_read(status: int, body: object, action: str, words: str) -> None:
    decision = decide(reply(status, body), 1)
    assert (decision.action, decision.fate) == (action, "free")
    assert words in decision.detail
