"""The network: one endpoint, and a buyer that puts every call through the ledger.

Replies are kept as bytes: no object is built per token. A reply is on disk before anybody reads it.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import openai._types as openai_types

from blackbox_diff import retry
from blackbox_diff.budget import Cost, Ledger
from blackbox_diff.config import DEFAULT_CONCURRENCY, EndpointConfig
from blackbox_diff.errors import ConfigError, EndpointUsageError
from blackbox_diff.limits import Breaker, Limiter
from blackbox_diff.records import Call, Lost, RawReply
from blackbox_diff.retry import Decision
from blackbox_diff.store import Store
from blackbox_diff.transport import TransportFailure
from blackbox_diff.wire import usage

MAX_BODY = 16 * 1024 * 1024
CONNECT_SECONDS = 10.0
HIDDEN = b"[key]"
SECRET_LENGTH = 8  # a shorter key is a placeholder such as "x" or "none", and part of ordinary words
PROBING = ""  # the sample id of calls that are for no sample

__all__ = ["Bought", "Buyer", "Endpoint", "Lost", "TransportFailure"]


class Endpoint:
    """One OpenAI-compatible endpoint. An async context manager; one attempt per call, no retries.

    Redirects are not followed, bodies over 16 MB are cut off, and the key goes to no other host than
    the configured one. Raises ConfigError for a key that can't be an HTTP header.
    """

    def __init__(
        self,
        config: EndpointConfig,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.config = config
        key = config.key()
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise ConfigError(f"{config.key_env}: holds a space, a newline or non-ASCII text: export the bare key")
        self._secret = key.encode() if key and len(key) >= SECRET_LENGTH else None
        self._origin = _origin(config.url)
        self._http = _Bounded(
            transport=transport,
            follow_redirects=False,
            timeout=httpx2.Timeout(config.timeout_seconds, connect=min(CONNECT_SECONDS, config.timeout_seconds)),
            limits=httpx2.Limits(max_connections=concurrency + 1, max_keepalive_connections=concurrency + 1),
        )
        azure = config.api_version is not None
        # The SDK would otherwise send OPENAI_ORG_ID and OPENAI_PROJECT_ID of the environment to any endpoint.
        headers: dict[str, Any] = {
            "Accept-Encoding": "gzip, deflate",
            "OpenAI-Organization": openai.Omit(),
            "OpenAI-Project": openai.Omit(),
        }
        # The SDK believes that a request needs no key only if that request itself leaves the header out.
        self._options: openai_types.RequestOptions = (
            {"headers": {"Authorization": openai.Omit()}} if key is None or azure else {}
        )
        if key is not None and azure:
            headers["api-key"] = key
        self._client = openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=config.url,
            max_retries=0,
            timeout=self._http.timeout,
            default_headers=headers,
            default_query={"api-version": config.api_version} if azure else None,
            http_client=self._http,
        )

    def __repr__(self) -> str:
        return f"Endpoint({self.config.url!r}, {self.config.model!r})"

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def __call__(self, call: Call) -> RawReply:
        return await self.post(call)

    async def post(self, call: Call) -> RawReply:
        """One attempt. Any HTTP status is a reply; raises TransportFailure where there is none."""
        if call.url is not None and _origin(call.url) != self._origin:
            raise EndpointUsageError(f"{call.url}: not on the endpoint's host, which alone gets the key")
        return await self._attempt(
            lambda: self._client.post(
                call.url or call.path, cast_to=httpx2.Response, body=dict(call.body), options=self._options
            )
        )

    async def get(self, path: str) -> RawReply:
        """Like post, for a GET of `path` under the base URL, or of an absolute URL on the same host."""
        if "://" in path and _origin(path) != self._origin:
            raise EndpointUsageError(f"{path}: not on the endpoint's host, which alone gets the key")
        return await self._attempt(lambda: self._client.get(path, cast_to=httpx2.Response, options=self._options))

    async def _attempt(self, send: Callable[[], Awaitable[httpx2.Response]]) -> RawReply:
        started = time.monotonic()
        try:
            async with asyncio.timeout(self.config.timeout_seconds):
                response = await send()
        except openai.APIStatusError as error:
            response = error.response
        except openai.APIConnectionError as error:
            raise self._failure(error.__cause__ or error) from None
        except (TimeoutError, httpx2.HTTPError, httpx2.StreamError) as error:
            raise self._failure(error) from None
        return RawReply(
            response.status_code,
            {name.lower(): self._scrub(value) for name, value in response.headers.items()},
            self._scrub_bytes(response.content),
            time.monotonic() - started,
        )

    def _failure(self, error: BaseException) -> TransportFailure:
        """A failure as a value; it says where and what, and never what was in the request."""
        where = self.config.url
        if isinstance(error, TransportFailure):
            return error
        if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout)):
            return TransportFailure("unsent", "connect_failed", f"{where}: can't connect: is the server running?")
        if isinstance(error, (httpx2.PoolTimeout, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)):
            return TransportFailure("unsent", "not_sent", f"{where}: the request could not be sent")
        if isinstance(error, (TimeoutError, httpx2.TimeoutException)):
            seconds = self.config.timeout_seconds
            return TransportFailure("unknown", "timeout", f"{where}: no whole reply within {seconds:g} s")
        return TransportFailure("unknown", "connection_lost", f"{where}: the connection broke within the reply")

    def _scrub(self, text: str) -> str:
        return text if self._secret is None else text.replace(self._secret.decode(), HIDDEN.decode())

    def _scrub_bytes(self, body: bytes) -> bytes:
        """Some endpoints repeat the key they were sent; the run file must not hold it."""
        return body if self._secret is None else body.replace(self._secret, HIDDEN)


class _Bounded(httpx2.AsyncClient):
    """Reads every body itself, so that neither a long body nor a compressed bomb fills the memory."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        response = await super().send(request, **{**options, "stream": True})
        try:
            body = await _read(response)
        finally:
            await response.aclose()
        headers = [(k, v) for k, v in response.headers.items() if k.lower() not in _BODY_HEADERS]
        return httpx2.Response(response.status_code, headers=headers, content=body, request=request)


_BODY_HEADERS = ("content-encoding", "content-length", "transfer-encoding")


async def _read(response: httpx2.Response) -> bytes:
    if response.is_stream_consumed:
        return response.content
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "deflate"):
        raise TransportFailure("unknown", "unreadable_encoding", f"the reply is encoded as {encoding[:20]!r}")
    unpack = (
        zlib.decompressobj(wbits=47 if encoding == "gzip" else 15) if encoding in ("gzip", "deflate") else None
    )
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_raw():
        if unpack is not None:
            try:
                part = unpack.decompress(part, MAX_BODY + 1 - size)
            except zlib.error:
                raise TransportFailure(
                    "unknown", "unreadable_encoding", "the reply's encoding is damaged"
                ) from None
        size += len(part)
        if size > MAX_BODY:
            raise TransportFailure("unknown", "reply_too_long", f"the reply is longer than {MAX_BODY >> 20} MB")
        parts.append(part)
    return b"".join(parts)


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port


@dataclass(frozen=True, slots=True)
class Bought:
    """A stored reply, not yet read."""

    call_id: int
    reply: RawReply


@dataclass(frozen=True, slots=True)
class _Attempt:
    call_id: int
    outcome: RawReply | TransportFailure
    decision: Decision


class Buyer:
    """Buys replies from one endpoint for one role ("target", or "reference:LABEL").

    Every attempt: reserve in the ledger and on disk, send, then store reply and settlement in one
    transaction. References go the same way with a ledger without caps, so that `verify` can re-read
    them too. Buying the same request for the same sample again returns the stored reply.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        store: Store,
        ledger: Ledger,
        limiter: Limiter,
        role: str,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.endpoint = endpoint
        self.store = store
        self.ledger = ledger
        self.limiter = limiter
        self.role = role
        self.breaker = Breaker(20 + limiter.most)
        self._sleep = sleep

    async def buy(self, call: Call, sample_id: str, max_tokens: int | None = None) -> Bought | Lost:
        """A usable reply for a sample, bought at most once; Lost where every attempt failed.

        Raises BudgetError before a call that could pass a cap, CircuitOpenError when going on is
        pointless, StorageError when a reply can't be stored.
        """
        stored = self.store.bought(self.role, sample_id, call.digest())
        if stored is not None:
            return Bought(*stored)
        last = await self._until_decided(call, sample_id, max_tokens)
        if last.decision.action == "accept":
            assert isinstance(last.outcome, RawReply)
            return Bought(last.call_id, last.outcome)
        if last.decision.action == "stop":
            self.breaker.check(self.endpoint.config.url)
        return Lost(last.decision.reason, last.decision.detail)

    async def post(self, call: Call) -> RawReply:
        """For probing: through the ledger, retried like any call, but any HTTP status is an answer."""
        last = await self._until_decided(call, PROBING, None, probing=True)
        if isinstance(last.outcome, TransportFailure):
            raise last.outcome
        return last.outcome

    __call__ = post

    async def get(self, path: str) -> RawReply:
        """A GET: free, and not in the ledger."""
        return await self.endpoint.get(path)

    async def _until_decided(
        self, call: Call, sample_id: str, max_tokens: int | None, *, probing: bool = False
    ) -> _Attempt:
        worst = self.ledger.worst(call, max_tokens)

        async def attempt(number: int) -> _Attempt:
            return await self._attempt(call, sample_id, number, worst, probing)

        return await retry.repeat(attempt, lambda made: made.decision, sleep=self._sleep)

    async def _attempt(self, call: Call, sample_id: str, number: int, worst: Cost, probing: bool) -> _Attempt:
        async with self.limiter.slot():
            if not probing:
                self.breaker.check(self.endpoint.config.url)
            await self.ledger.reserve(worst)
            call_id: int | None = None
            settled = False
            try:
                call_id = await self.store.reserve_call(self.role, sample_id, number, call, worst.columns())
                outcome = await self._send(call)
                decision = retry.decide(outcome, number)
                cost, flag = settlement(outcome, decision, worst, self.ledger)
                settled = True
                if decision.fate == "unsent":
                    self.ledger.release(worst)
                else:
                    self.ledger.settle(worst, cost, flag)
                await self._store(call_id, outcome, decision, cost, flag)
            finally:
                if not settled:
                    self._abandon(call_id, worst)
            if not probing:
                self.breaker.observe(decision)
            self.limiter.observe(decision, outcome.headers if isinstance(outcome, RawReply) else {})
            return _Attempt(call_id, outcome, decision)

    async def _send(self, call: Call) -> RawReply | TransportFailure:
        try:
            return await self.endpoint.post(call)
        except TransportFailure as failure:
            return failure

    async def _store(
        self,
        call_id: int,
        outcome: RawReply | TransportFailure,
        decision: Decision,
        cost: Cost,
        flag: str | None,
    ) -> None:
        if isinstance(outcome, TransportFailure):
            state = "released" if decision.fate == "unsent" else "unknown"
            await self.store.lose_call(call_id, state, decision.reason)
            return
        accepted = decision.action == "accept"
        await self.store.settle_call(
            call_id,
            outcome,
            cost.columns(),
            state="unknown" if decision.fate == "unknown" else "settled",
            accepted=accepted,
            flag=flag,
            error=None if accepted else decision.reason,
        )

    def _abandon(self, call_id: int | None, worst: Cost) -> None:
        """Close a call whose task was cancelled: it may have been sent, so it counts in full."""
        self.ledger.settle(worst, worst)
        if call_id is not None:
            self.store.lose_call_later(call_id, "unknown", "interrupted")


class Recall:
    """A buyer's answers for a probe, those first that were paid for before an earlier one was cut off.

    A probe asks the same questions each time, some of them twice: the n-th time that a question is asked
    gets the n-th stored answer to it.
    """

    def __init__(self, buyer: Buyer) -> None:
        self._buyer = buyer
        self._asked: Counter[str] = Counter()

    async def post(self, call: Call) -> RawReply:
        digest = call.digest()
        place = self._asked[digest]
        self._asked[digest] += 1
        stored = self._buyer.store.bought(self._buyer.role, PROBING, digest, place)
        return stored[1] if stored is not None else await self._buyer.post(call)

    async def get(self, path: str) -> RawReply:
        return await self._buyer.get(path)


def settlement(
    outcome: RawReply | TransportFailure, decision: Decision, worst: Cost, ledger: Ledger
) -> tuple[Cost, str | None]:
    """What an attempt cost: its usage if it was billed, nothing if it was turned away, else its reservation."""
    if decision.fate == "billed" and isinstance(outcome, RawReply):
        return ledger.actual(usage(outcome), worst)
    if decision.fate in ("free", "unsent"):
        return Cost(0, 0, None if worst.pico is None else 0), None
    return worst, None
