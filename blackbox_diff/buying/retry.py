"""What to do about a reply or a failure: one pure function decides, tenacity obeys.

Only the HTTP call is repeated. A reply that arrived whole is judged here only as far as "is it an
answer at all"; reading it is the dialect's business and never sends anything again.
"""

from __future__ import annotations

import datetime
import email.utils
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt

from blackbox_diff.buying.durations import YEAR, duration, said_wait
from blackbox_diff.buying.failures import TransportFailure
from blackbox_diff.records import RawReply
from blackbox_diff.wire import error_of
from blackbox_diff.wire.body import one_line
from blackbox_diff.wire.reply_json import value_of

MAX_ATTEMPTS = 10
LONGEST_WAIT = 600.0  # seconds; a server that asks for more has a quota, and the run stops until it is over
BACKOFF_FIRST = 0.5
BACKOFF_MOST = 30.0

UNREADABLE = (
    "reply_too_long",
    "unreadable_encoding",
    "no_http",
)  # it came, and asking again would buy the same again

Fate = Literal["billed", "free", "unknown", "unsent"]


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict on one attempt.

    reason: stable snake_case word. after: seconds that the server asked to wait, None if it didn't say.
    throttled: the endpoint is telling us to slow down. fate: whether the attempt may have cost money.
    """

    action: Literal["accept", "retry", "give up", "stop"]
    reason: str
    fate: Fate
    detail: str = ""
    after: float | None = None
    throttled: bool = False


def decide(outcome: RawReply | TransportFailure, attempt: int, now: float | None = None) -> Decision:
    """The verdict on attempt number `attempt` (from 1). `now`: epoch seconds, for Retry-After dates.

    | outcome                                   | verdict                     | counts as
    | 2xx with JSON                             | accept                      | billed
    | 2xx with an error in the body             | as the error's own code     | free
    | 2xx with anything else                    | give up: it may be billed   | unknown
    | 401 403 404, 3xx                          | stop                        | free
    | 429 insufficient_quota, 402               | stop                        | free
    | 429, 503                                  | retry, slow down            | free
    | the same, to wait more than LONGEST_WAIT  | stop                        | free
    | 408, 409, 425, other 5xx                  | retry                       | unknown
    | other 4xx                                 | give up                     | free
    | never sent / lost on the way              | retry                       | unsent / unknown
    | no HTTP, a body too long or in a damaged  | give up                     | unknown
    | encoding                                  |                             |
    What a reply of any status says or shows that was written is booked nevertheless (buyer.settlement).
    x-should-retry overrides retry and give up, never stop. After MAX_ATTEMPTS a retry is a give up.
    """
    if isinstance(outcome, TransportFailure):
        again = outcome.reason not in UNREADABLE
        verdict = Decision("retry" if again else "give up", outcome.reason, outcome.kind, str(outcome))
    else:
        verdict = _of_reply(outcome, time.time() if now is None else now)
    if verdict.action == "retry" and attempt >= MAX_ATTEMPTS:
        return Decision("give up", verdict.reason, verdict.fate, verdict.detail, None, verdict.throttled)
    return verdict


def _of_reply(reply: RawReply, now: float) -> Decision:
    fate: Fate = "free"
    if 200 <= reply.status < 300:
        value = value_of(reply)
        if value is None:
            return Decision("give up", "malformed_reply", "unknown", "the reply is not JSON")
        if not value or not isinstance(value, (dict, list)):
            return Decision("give up", "empty_reply", "unknown", "the reply is empty")
        error = error_of(reply)
        if error is None:
            return Decision("accept", "ok", "billed")
    else:
        error = error_of(reply)
        if reply.status in (408, 409, 425) or (reply.status >= 500 and reply.status != 503):
            fate = "unknown"
    # Only a 2xx reply has its true status in its body.
    status = error.status if error and reply.status < 300 else reply.status
    detail = f"HTTP {status}: {error.message[:200]}" if error else f"HTTP {status}"
    after = retry_after(reply.headers, now)
    if after is None and status in (429, 503):
        after = said_wait(error.message) if error else None
        if after is None and headers_say_empty(reply.headers):
            after = duration(reply.headers.get("ratelimit-reset", ""))
    if status == 402 or (status == 429 and error and error.code == "insufficient_quota"):
        return Decision("stop", "insufficient_quota", fate, f"{detail}: the account has no credit left")
    if status < 400:
        to = one_line(reply.headers.get("location", ""), 200)
        where = f" to {to}" if to else ""
        return Decision(
            "stop", "redirected", fate, f"HTTP {status}: the endpoint redirects{where}: give its final base URL"
        )
    if status in (401, 403):
        return Decision("stop", "rejected_key", fate, f"{detail}: check the key and its rights")
    if status == 404:
        return Decision("stop", "not_found", fate, f"{detail}: check the URL and the model's name")
    if status in (429, 503):
        reason = "throttled" if status == 429 else "overloaded"
        if after is not None and after > LONGEST_WAIT:
            end = datetime.datetime.fromtimestamp(now + after).astimezone().isoformat(" ", "minutes")
            wait = f"{after / 3600:.1f} h" if after >= 3600 else f"{after / 60:.0f} min"
            return Decision(
                "stop", "quota", fate, f"{detail}: it asks to wait {wait}, until {end}", throttled=True
            )
        return Decision("retry", reason, fate, detail, after, throttled=True)
    again = status >= 500 or status in (408, 409, 425)
    bounded = None if after is None else min(after, LONGEST_WAIT)
    wish = reply.headers.get("x-should-retry")
    if wish in ("true", "false"):
        again = wish == "true"
    return Decision("retry" if again else "give up", f"http_{status}", fate, detail, bounded if again else None)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait by Retry-After-Ms, or Retry-After in seconds, as a duration or as a date; at most a year."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * scale
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return min(seconds, YEAR)
    spelled = duration(headers.get("retry-after", ""))
    if spelled is not None and spelled >= 0:
        return spelled
    try:
        date = email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, date - now), YEAR)


def headers_say_empty(headers: Mapping[str, str]) -> bool:
    """Whether nothing is left of a window, by the IETF's RateLimit-Remaining; RateLimit-Reset is its end."""
    return headers.get("ratelimit-remaining", "").strip() == "0"


def wait_seconds(decision: Decision, attempt: int, chance: float) -> float:
    """Seconds before the attempt after `attempt`; `chance` in [0, 1) spreads callers out.

    What the server asked for, plus up to a quarter; else 0.5 s doubled each time up to 30 s, between
    half and all of it.
    """
    if decision.after is not None:
        return decision.after + chance * min(1.0, decision.after / 4 + 0.05)
    return min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** (attempt - 1)) * (0.5 + chance / 2)


_T = TypeVar("_T")


async def repeat(
    attempt: Callable[[int], Awaitable[_T]],
    decision_of: Callable[[_T], Decision],
    *,
    sleep: Callable[[float], Awaitable[None]],
    chance: Callable[[], float] = random.random,
) -> _T:
    """Call `attempt` (with 1, 2, ...) until its decision is not "retry"; returns the last result."""

    def wait(state: RetryCallState) -> float:
        assert state.outcome is not None
        return wait_seconds(decision_of(state.outcome.result()), state.attempt_number, chance())

    def last(state: RetryCallState) -> _T:
        assert state.outcome is not None
        result: _T = state.outcome.result()
        return result

    first = await attempt(1)
    if decision_of(first).action != "retry":
        return first  # nearly every call: no policy is built for it
    number = 0

    async def numbered() -> _T:
        nonlocal number
        number += 1
        return first if number == 1 else await attempt(number)

    policy = AsyncRetrying(
        retry=retry_if_result(lambda result: decision_of(result).action == "retry"),
        stop=stop_after_attempt(MAX_ATTEMPTS),
        wait=wait,
        sleep=sleep,
        retry_error_callback=last,
        reraise=True,
    )
    return await policy(numbered)
