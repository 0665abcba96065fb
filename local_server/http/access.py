"""Who is answered: requests to the server's own host names, with the key where there is one.

Plain ASGI: behind Starlette's function middleware a handler can't see that its caller has gone.
"""

from __future__ import annotations

import hmac
import re
import socket
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from local_server.errors import RequestError
from local_server.http.replies import refusal

_HOST = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*))(?::\d{0,5})?")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def own_names(host: str, allowed: Iterable[str] = ()) -> frozenset[str]:
    """The names under which a server that listens on `host` is asked for, in lower case."""
    return LOOPBACK | {name.lower().strip("[]") for name in (host, socket.gethostname(), *allowed)}


class HostCheck:
    """Refuses every request for a host that is not this server.

    A web page may point its own name at 127.0.0.1 and then read what it finds there (DNS rebinding); what gives it
    away is the name in its Host header.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            hosts = [value for name, value in scope["headers"] if name == b"host"]
            name = host_name(hosts[0].decode("latin-1")) if len(hosts) == 1 else ""
            if name not in self.names and name != (scope.get("server") or ("",))[0]:
                reason = "Host: not a name of this server; start the server with --allowed-host for others"
                await refusal(RequestError(reason, status=403, code="host_not_allowed"))(scope, receive, send)
                return
        await self.app(scope, receive, send)


class KeyCheck:
    """Refuses every request without "Authorization: Bearer KEY", but for /health."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app, self.key = app, key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
            scheme, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self.key):
                error = RequestError("incorrect API key", status=401, code="invalid_api_key")
                await refusal(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def host_name(header: str) -> str:
    """The host of a Host header in lower case, without its port and the brackets of an IPv6 address.

    Empty where the header is neither of both with a port or without.
    """
    found = _HOST.fullmatch(header.strip().lower())
    return (found[1] or found[2]) if found else ""
