"""The network: one endpoint, one attempt per call, and replies as bytes: no object is built per token."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import ssl
import time
import urllib.request
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

import httpx2

from blackbox_diff.buying.connections import Connections
from blackbox_diff.buying.failures import TransportFailure
from blackbox_diff.buying.reasons import why_no_connection, why_no_reply
from blackbox_diff.buying.secrets import Secret
from blackbox_diff.buying.signing import signer
from blackbox_diff.config.model import EndpointConfig, on_this_machine
from blackbox_diff.errors import ConfigError, EndpointUsageError
from blackbox_diff.records import Call, RawReply
from blackbox_diff.wire.asked import reply_bytes

LISTING = 8 * 1024 * 1024  # bytes of an answer to a GET: the largest routers list hundreds of models
LARGE = 1024 * 1024  # bytes of a body from which on it takes one of LARGE_AT_ONCE places
LARGE_AT_ONCE = 4
MOST_PARTS = 20_000  # pieces that one body may come in; servers that write token by token send one a token
CONNECT_SECONDS = 10.0

# Response headers worth keeping: limits, waits and provenance. The rest (cookies) is not even read.
KEPT_HEADERS = ("content-type", "date", "location", "server", "x-request-id", "openai-model", "x-should-retry")
KEPT_PREFIXES = ("retry-after", "x-ratelimit-", "ratelimit-", "openai-processing")
HEADER_LENGTH = 256  # characters of a header's value that are read
MOST_HEADERS = 64

# Its debug lines show a reply's headers as they came, and some endpoints repeat the key in them.
logging.getLogger("httpcore2").setLevel(logging.INFO)


class Endpoint:
    """One OpenAI-compatible endpoint. An async context manager; one attempt per call, no retries.

    Requests go to httpx2 as bytes and replies stay bytes. Redirects are not followed, a body longer than what was
    asked for can need is cut off (wire.asked), and the key goes to no other host than the configured one. Raises
    ConfigError for a key that can't be an HTTP header.
    """

    def __init__(
        self,
        config: EndpointConfig,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.config = config
        key = config.key()
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise ConfigError(f"{config.key_env}: holds a space, a newline or non-ASCII text: export the bare key")
        self._signer = signer(config)
        self._secret = Secret(self._signer.sent_secret if self._signer else key)
        self._origin = _origin(config.url)
        self._transport = transport
        # What the environment says of proxies and certificates is for hosts that are elsewhere.
        self._trusts_environment = not on_this_machine(config.url)
        self._tls = _tls(config.url.startswith("https:"))
        self._headers = httpx2.Headers(_headers(key, config))
        # What is left to bound is the whole call, which _attempt does.
        connect = httpx2.Timeout(None, connect=min(CONNECT_SECONDS, config.timeout_seconds))
        self._extensions = {"timeout": connect.as_dict()}
        self._query = {"api-version": config.api_version} if config.api_version else None
        self._urls: dict[str, httpx2.URL] = {}
        self._connections = Connections(self._client)
        self._places = asyncio.Semaphore(LARGE_AT_ONCE)

    def __repr__(self) -> str:
        return f"Endpoint({self.config.url!r}, {self.config.model!r})"

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connections.close()

    async def post(self, call: Call, held: AsyncExitStack | None = None) -> RawReply:
        """One attempt. Any HTTP status is a reply; raises TransportFailure where there is none.

        held: what a large reply takes until the caller is done with it: few of them are in memory at once.
        """
        content = json.dumps(dict(call.body)).encode()
        async with AsyncExitStack() as own:
            return await self._attempt("POST", call.url or call.path, content, reply_bytes(call), held or own)

    async def get(self, path: str) -> RawReply:
        """Like post, for a GET of `path` under the base URL, or of an absolute URL on the same host."""
        async with AsyncExitStack() as own:
            return await self._attempt("GET", path, None, LISTING, own)

    def _client(self) -> httpx2.AsyncClient:
        try:
            for proxy in urllib.request.getproxies().values() if self._trusts_environment else ():
                _ = urlsplit(proxy).port  # raises where it is none, which connecting would not tell in one line
            return httpx2.AsyncClient(
                transport=self._transport,
                verify=self._tls,
                follow_redirects=False,
                limits=httpx2.Limits(max_connections=1, max_keepalive_connections=1),
                trust_env=self._trusts_environment,
            )
        except (ImportError, ValueError, httpx2.InvalidURL):
            raise ConfigError(
                "the proxy that ALL_PROXY, HTTPS_PROXY or HTTP_PROXY names, or a host in NO_PROXY, can't be used: "
                "give an http:// one (socks:// needs `pip install 'httpx2[socks]'`), unset the variable, or "
                "name the host in NO_PROXY"
            ) from None

    def _url(self, path: str) -> httpx2.URL:
        if path not in self._urls:
            if "://" in path and _origin(path) != self._origin:
                raise EndpointUsageError(f"{path}: not on the endpoint's host, which alone gets the key")
            whole = path if "://" in path else self.config.url + path
            try:
                self._urls[path] = httpx2.URL(whole, params=self._query) if self._query else httpx2.URL(whole)
            except httpx2.InvalidURL as error:
                raise ConfigError(f"{self.config.url}: is no URL: {error}") from None
        return self._urls[path]

    def _signed(self, method: str, url: httpx2.URL, content: bytes | None) -> httpx2.Headers:
        """The headers of one attempt; a signature is of these bytes at this time, and good for no other."""
        if self._signer is None:
            return self._headers
        signature = self._signer.headers(method, str(url), self._headers, content)
        return httpx2.Headers({**self._headers, **signature})

    async def _attempt(
        self, method: str, path: str, content: bytes | None, most: int, held: AsyncExitStack
    ) -> RawReply:
        started = time.monotonic()
        url = self._url(path)
        try:
            async with self._connections.take() as connection:
                async with asyncio.timeout(self.config.timeout_seconds):
                    request = httpx2.Request(
                        method,
                        url,
                        headers=self._signed(method, url, content),
                        content=content,
                        extensions=self._extensions,
                    )
                    response = await connection.client.send(request, stream=True)
                    try:
                        body = await self._read(response, most, held)
                        connection.check(response)
                    finally:
                        await response.aclose()
        except (TimeoutError, httpx2.HTTPError, httpx2.StreamError, TransportFailure) as error:
            raise self._failure(error) from None
        return RawReply(
            response.status_code,
            {
                name: self._secret.out_of_text(value)
                for name, value in islice(_kept(response.headers), MOST_HEADERS)
            },
            self._secret.out_of(body),
            time.monotonic() - started,
        )

    async def _read(self, response: httpx2.Response, most: int, held: AsyncExitStack) -> bytes:
        """The body, unpacked. Raises TransportFailure for one of more than `most` bytes, packed or unpacked."""
        if response.is_stream_consumed:
            return response.content
        parts: list[bytes] = []
        size = 0
        async for part in _unpacked(response, most):
            if size < LARGE <= size + len(part):
                await held.enter_async_context(self._places)
            size += len(part)
            parts.append(part)
        return b"".join(parts)

    def _failure(self, error: BaseException) -> TransportFailure:
        """A failure as a value; it says where and what, and never what was in the request."""
        where = self.config.url
        if isinstance(error, TransportFailure):
            return error
        if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)):
            reason, why = why_no_connection(error, where, proxied=self._trusts_environment)
            return TransportFailure("unsent", reason, f"{where}: can't connect: {why}")
        if isinstance(error, (httpx2.PoolTimeout, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)):
            return TransportFailure("unsent", "not_sent", f"{where}: the request could not be sent")
        if isinstance(error, (TimeoutError, httpx2.TimeoutException)):
            seconds = self.config.timeout_seconds
            return TransportFailure("unknown", "timeout", f"{where}: no whole reply within {seconds:g} s")
        reason, why = why_no_reply(error, where, proxied=self._trusts_environment)
        return TransportFailure("unknown", reason, f"{where}: {why}")


def _tls(trusts_environment: bool) -> ssl.SSLContext:
    """How certificates are checked. Raises ConfigError, with the variable's name, where they can't be."""
    if not trusts_environment:
        return _bundled_tls()
    try:
        return httpx2.create_ssl_context()
    except (OSError, ssl.SSLError):
        given = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE") if os.environ.get(name)]
        there = {name: Path(os.environ[name]) for name in given}
        missing = [n for n, path in there.items() if not (path.parent if n == "SSLKEYLOGFILE" else path).exists()]
        names = missing or given
        raise ConfigError(
            f"{' or '.join(names)}: names what can't be read or written: correct it or unset it"
        ) from None


@functools.cache
def _bundled_tls() -> ssl.SSLContext:
    """One for all: reading the certificates takes 20 ms, and a fleet has hundreds of endpoints."""
    return httpx2.create_ssl_context(trust_env=False)


def _kept(headers: httpx2.Headers) -> Iterator[tuple[str, str]]:
    for raw_name, value in headers.raw:
        name = raw_name[:HEADER_LENGTH].decode("latin-1").lower()
        if name in KEPT_HEADERS or name.startswith(KEPT_PREFIXES):
            yield name, value[:HEADER_LENGTH].decode("latin-1")


async def _unpacked(response: httpx2.Response, most: int) -> AsyncIterator[bytes]:
    """The parts of a body, unpacked. Raises TransportFailure as soon as they are more than `most` bytes."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "deflate"):
        raise TransportFailure("unknown", "unreadable_encoding", f"the reply is encoded as {encoding[:20]!r}")
    unpack = (
        zlib.decompressobj(wbits=47 if encoding == "gzip" else 15) if encoding in ("gzip", "deflate") else None
    )
    size = received = count = 0
    async for part in response.aiter_raw():
        received += len(part)
        if unpack is not None:
            try:
                part = unpack.decompress(part, most + 1 - size)
            except zlib.error:
                raise TransportFailure(
                    "unknown", "unreadable_encoding", "the reply's encoding is damaged"
                ) from None
        size += len(part)
        count += 1
        if max(size, received) > most or count > MOST_PARTS:
            raise TransportFailure("unknown", "reply_too_long", f"the reply is longer than {most / 2**20:.1f} MB")
        yield part


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port


def _headers(key: str | None, config: EndpointConfig) -> dict[str, str]:
    """What the OpenAI SDK sends, so that a vendor sees any customer and not an auditor.

    Left out is what tells of this machine and of the user's OpenAI account. The SDK takes half a second to
    import, so it is loaded here, by the first command that connects, and not with the package.
    """
    # What it imports reads this variable at once, where it matters to nobody.
    keylog = os.environ.pop("SSLKEYLOGFILE", None)
    try:
        import openai
    finally:
        if keylog is not None:
            os.environ["SSLKEYLOGFILE"] = keylog

    # Only its headers are wanted: what the environment says of proxies must not stop it.
    quiet = httpx2.AsyncClient(trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    client = openai.AsyncOpenAI(api_key=key or "none", base_url=config.url, max_retries=0, http_client=quiet)
    azure = config.api_version is not None
    given = {**client.default_headers, "Accept-Encoding": "gzip, deflate", "Connection": "keep-alive"}
    if key is not None:
        given |= {"api-key": key} if azure else client.auth_headers
    left_out = ("x-stainless-", "openai-organization", "openai-project")
    return {
        name: value
        for name, value in given.items()
        if isinstance(value, str) and not name.lower().startswith(left_out)
    }
