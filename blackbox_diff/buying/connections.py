"""Connections to one endpoint, and whether what comes over one of them answers what was sent over it.

HTTP/1.1 numbers neither requests nor replies: a server that sends a second reply to one request leaves bytes that
would be read as the answer to the next. So a connection over which more came than one reply is not used again; a
reply that was not the first over it is not believed, and from then on every call has a connection of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import h11
import httpx2

from blackbox_diff.buying.failures import TransportFailure

# Where httpx2 2.12 to 2.16 and their httpcore2 keep the parser that reads a reply; neither shows it elsewhere.
# tests/hostile/test_connections.py fails where that changes; until then no connection would be used twice.
_TO_PARSER = ("stream", "_stream", "_httpcore_stream", "_stream", "_connection", "_h11_state")


@dataclass(slots=True)
class Connection:
    """A client that holds one connection. replies: how many came over it."""

    client: httpx2.AsyncClient
    replies: int = 0
    reusable: bool = True

    def check(self, response: httpx2.Response) -> None:
        """Look at what is left after a reply was read whole.

        Raises TransportFailure where the reply may be an earlier request's.
        """
        more = left_over(response)
        self.reusable = more is False
        self.replies += 1
        if more and self.replies > 1:
            raise TransportFailure(
                "unknown", "replies_mixed_up", "more than one reply came, so this one may be another request's"
            )


def left_over(response: httpx2.Response) -> bool | None:
    """Whether more bytes came than the reply that was read; None where that can't be told."""
    found: object = response
    for name in _TO_PARSER:
        found = getattr(found, name, None)
    return bool(found.trailing_data[0]) if isinstance(found, h11.Connection) else None


class Connections:
    """As many connections as calls are in flight; the one used last is used first.

    A pool of many would look at every idle connection for every request, which with a fast endpoint is most of the
    work. The limiter bounds how many there are.
    """

    def __init__(self, make: Callable[[], httpx2.AsyncClient]) -> None:
        self._make = make
        self._all: list[Connection] = []
        self._idle: list[Connection] = []
        self._keep = True  # until the endpoint has once sent more than it should

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Connection]:
        if not self._idle:
            new = Connection(self._make())
            self._all.append(new)
            self._idle.append(new)
        connection = self._idle.pop()
        try:
            yield connection
        except TransportFailure as failure:
            self._keep = self._keep and failure.reason != "replies_mixed_up"
            raise
        finally:
            if self._keep and connection.reusable:
                self._idle.append(connection)
            else:
                self._all.remove(connection)
                await connection.client.aclose()

    async def close(self) -> None:
        for connection in self._all:
            await connection.client.aclose()
