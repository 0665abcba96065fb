"""Asking an endpoint questions while finding out which fields it takes."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from blackbox_diff.buying.failures import TransportFailure
from blackbox_diff.buying.retry import decide, retry_after
from blackbox_diff.errors import EndpointUsageError, NotAuditableError
from blackbox_diff.probing.comparisons import Pair
from blackbox_diff.records import (
    Call,
    Completion,
    EndpointProfile,
    Framing,
    RawReply,
    ReferenceScore,
    Refusal,
    Sampling,
)
from blackbox_diff.wire import dialect
from blackbox_diff.wire.api_errors import ApiError, allowed_maximum, error_of
from blackbox_diff.wire.body import items, mapping, one_line
from blackbox_diff.wire.dialects.base import ScoreItem
from blackbox_diff.wire.identity import named
from blackbox_diff.wire.reply_json import value_of

STEPS_DOWN = (20, 8, 5, 1, 0)
NEVER_DROPPED = (
    "model", "model_id", "prompt", "messages", "input", "inputs", "parameters", "logprobs", "max_tokens", "echo",
)  # fmt: skip
UNSUPPORTED = re.compile(r"not (?:yet )?(?:supported|enabled|available|allowed)|unsupported|unrecognized", re.I)
MOST_REJECTIONS = 10  # rejections of one question, after which its answer is taken as it is
PAUSE_SECONDS = 1.0
LONGEST_PAUSE = 60.0
PATIENCE = 3  # times that a busy endpoint is asked again
BUSY = (429, 503)
NO_HTTP = "no_http"  # who answers there speaks another protocol
SILENT = "no_reply"  # so may a port that speaks TLS, each time, or a fault, once


class Connection(Protocol):
    """What endpoint.Endpoint and client.Buyer offer."""

    async def post(self, call: Call) -> RawReply: ...
    async def get(self, path: str) -> RawReply: ...


async def listing(send: Connection) -> RawReply | None:
    """The answer to GET /models, which is free; None where there was none, and calls may still be answered.

    Raises EndpointUsageError where nobody can be reached at that address, or speaks HTTP there.
    """
    for again in (True, True, False):
        try:
            return await send.get("/models")
        except TransportFailure as failure:
            if failure.kind == "unsent" or failure.reason == NO_HTTP or (failure.reason == SILENT and not again):
                raise EndpointUsageError(str(failure)) from None
            if failure.reason != SILENT:
                return None
    return None


class Conversation:
    """Holds the profile while it is being found out. Raises NotAuditableError past `max_calls` calls."""

    def __init__(
        self, send: Connection, profile: EndpointProfile, models: tuple[str, ...], max_calls: int
    ) -> None:
        self.send = send
        self.profile = profile
        self.models = models
        self.left = max_calls
        self.headers: Mapping[str, str] = {}  # of the last reply
        self.names: Counter[str] = Counter()  # under which the replies came
        self.unanswered: list[str] = []  # why questions got no answer: what they ask about is unknown, not absent
        self.statuses: set[int] = set()  # of the last replies to each question

    def update(self, **changes: Any) -> None:
        self.profile = self.profile.model_copy(update=changes)

    async def sample(
        self, prefill: str, framing: Framing, sampling: Sampling, seed: int | None = None, n: int = 1
    ) -> Pair | Refusal:
        """A completion with its entries, or why there is none; the first of `n`, where there are several."""
        speaks = dialect(self.profile.dialect)

        def build(profile: EndpointProfile) -> Call:
            call = speaks.sample(profile, prefill, framing, sampling, seed)
            several = {"n": n} if n > 1 and "n" not in profile.dropped else {}
            return replace(call, body={**call.body, **several})

        call, reply = await self.ask(build)
        outcome = speaks.read_sample(reply, call=call, profile=self.profile, prefill=prefill, framing=framing)
        if isinstance(outcome, Completion):
            choices = len(items(mapping(value_of(reply)).get("choices")))
            return Pair(outcome, speaks.entries(reply), prefill, framing, choices)
        return outcome

    async def score(self, item: ScoreItem) -> ReferenceScore | Refusal:
        speaks = dialect(self.profile.dialect)
        call, reply = await self.ask(lambda profile: speaks.score(profile, item))
        found = speaks.read_score(reply, call=call, profile=self.profile, item=item)
        if isinstance(found, Refusal) and found.reason == "error_reply" and (self.profile.max_top_scored or 0) > 1:
            self.update(max_top_scored=1)  # perhaps the alternatives were too many, and the error does not say so
            return await self.score(item)
        return found

    async def ask(self, build: Callable[[EndpointProfile], Call]) -> tuple[Call, RawReply]:
        """The answer to the question that `build` writes, after dropping or lowering what is rejected."""
        for _ in range(MOST_REJECTIONS):
            call = build(self.profile)
            reply = await self._post(call)
            error = error_of(reply)
            if error is None:
                self.names.update(filter(None, [named(mapping(value_of(reply)))]))
                break
            self._fatal(error)
            if error.status == 429 or error.status >= 500:
                reply = await self._again(call, reply)
                break
            if error.status not in (400, 422) or not self._give_in(call, error):
                break
        self.statuses.add(reply.status)
        return call, reply

    async def _again(self, call: Call, reply: RawReply) -> RawReply:
        """Ask once more, and more often where the endpoint only says that it is busy."""
        for number in range(1, 2 if self.unanswered else PATIENCE + 1):
            wait = retry_after(reply.headers, time.time())
            if wait is not None and wait > LONGEST_PAUSE:
                break
            await asyncio.sleep(PAUSE_SECONDS * number if wait is None else wait)
            reply = await self._post(call)
            error = error_of(reply)
            if error is None or error.status not in BUSY:
                return reply
        error = error_of(reply)
        if error is not None and error.status in BUSY:
            self.unanswered.append(f"HTTP {error.status}: {error.message}")
        return reply

    async def _post(self, call: Call) -> RawReply:
        if self.left <= 0:
            raise NotAuditableError(f"{self.profile.base_url}: rejected so many fields that the probe gave up")
        self.left -= 1
        try:
            reply = await self.send.post(call)
        except TransportFailure as failure:
            raise EndpointUsageError(one_line(str(failure), 300)) from None
        decision = decide(reply, 1)
        if decision.reason == "redirected":
            raise EndpointUsageError(f"{self.profile.base_url}: {decision.detail}")
        self.headers = reply.headers
        return reply

    def _fatal(self, error: ApiError) -> None:
        """Raise for what no change of fields can cure: the key, the model's name."""
        where = self.profile.base_url
        if error.status in (401, 403):
            raise EndpointUsageError(f"{where}: rejects the key ({error.message}): check the key option")
        named = "model" in (error.code or "") or error.param == "model"
        text = error.message.lower()
        about_model = named or (self.profile.model.lower() in text and "model" in text)
        absent = error.status == 404 or any(word in text for word in ("not found", "does not exist", "unknown"))
        if about_model and absent:
            known = f"; it has {', '.join(self.models[:8])}" if self.models else ""
            raise EndpointUsageError(f"{where}: no model {self.profile.model!r}{one_line(known)}")

    def _give_in(self, call: Call, error: ApiError) -> bool:
        """Change the profile so that the next try avoids the rejected field; False where nothing helps."""
        field = _field(call, error)
        if field in ("max_tokens", None) and "max_completion_tokens" in error.message:
            if self.profile.max_tokens_field == "max_completion_tokens":
                return False
            self.update(max_tokens_field="max_completion_tokens")
            return True
        if field in ("prompt_logprobs", "top_logprobs_num") or (field == "logprobs" and "echo" in call.body):
            return self._fewer("max_top_scored", error)
        if field in ("logprobs", "top_logprobs", "top_n_tokens"):
            return self._fewer("max_top_logprobs", error)
        if field is None or field in NEVER_DROPPED:
            return False
        if field not in self.profile.dropped:  # another question at the same time may have dropped it
            self.update(dropped=(*self.profile.dropped, field))
        return True

    def _fewer(self, limited: str, error: ApiError) -> bool:
        now = getattr(self.profile, limited)
        limit = allowed_maximum(error.message)
        if limit is None and UNSUPPORTED.search(error.message):
            return False
        lower = limit if limit is not None and limit < now else next((n for n in STEPS_DOWN if n < now), None)
        if lower is None:
            return False
        self.update(**{limited: lower})
        return True


def _field(call: Call, error: ApiError) -> str | None:
    """The field of the request that the error is about: its param, else the one its message names."""
    parameters = call.body.get("parameters")
    names: list[str] = [*call.body, *(parameters if isinstance(parameters, dict) else ())]
    if error.param in names:
        return error.param
    tail = (error.param or "").rsplit(".", 1)[-1]
    if tail in names:
        return tail
    for name in sorted(names, key=len, reverse=True):
        if name not in ("model", "prompt", "messages") and re.search(rf"\b{re.escape(name)}\b", error.message):
            return name
    return None
