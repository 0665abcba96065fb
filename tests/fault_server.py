"""An OpenAI-compatible endpoint on a real socket, in its own thread, that fails as told.

It keeps its own books (requests read, tokens billed), which the client's ledger is held against.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

INPUT_TOKENS, OUTPUT_TOKENS = 3, 4

FAULTS = (
    "429", "429_seconds", "429_ms", "500", "502", "503", "reset_mid_body", "reset_at_once", "slow_body",
    "truncated_json", "wrong_type", "hang", "duplicate", "error_in_200", "empty_object",
)  # fmt: skip
HUGE = ("long_garbage", "too_long", "gzip_bomb", "endless")  # more than what was asked for can need
UNREADABLE = (
    "malformed_reply",
    "empty_reply",
    "reply_too_long",
    "unreadable_encoding",
)  # how the client calls them
FREE = {"429", "429_seconds", "429_ms", "503", "error_in_200"}  # turned away: not billed


class FaultServer:
    """share: of requests that get a fault, drawn from `faults` with `seed`."""

    def __init__(self, share: float, faults: tuple[str, ...] = FAULTS, seed: int = 0) -> None:
        self.share, self.faults = share, faults
        self.random = random.Random(seed)
        self.requests = 0
        self.billed = 0
        self.served: Counter[str] = Counter()
        self.url = ""
        self.elsewhere = ""  # where it redirects to
        self._open: set[asyncio.StreamWriter] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left, or the test is over
        finally:
            self._open.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length")
        )
        key = next((h.split()[-1] for h in head.split(b"\r\n") if h.lower().startswith(b"authorization")), b"")
        await reader.readexactly(length)
        self.requests += 1
        kind = self.random.choice(self.faults) if self.random.random() < self.share else "good"
        self.served[kind] += 1
        if kind not in FREE:
            self.billed += 1
        return await self._reply(kind, key.decode(), writer)

    async def _reply(self, kind: str, key: str, writer: asyncio.StreamWriter) -> bool:
        good = json.dumps(
            {
                "choices": [{"text": f" word {self.requests}"}],
                "usage": {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS},
            }
        ).encode()
        error = json.dumps({"error": {"message": f"Incorrect thing: {key}", "code": None}}).encode()
        if kind.isdigit() or kind.startswith("429_"):
            wait = {"429_seconds": b"Retry-After: 2\r\n", "429_ms": b"Retry-After-Ms: 1500\r\n"}.get(kind, b"")
            writer.write(http(int(kind[:3]), error, wait))
        elif kind == "hang":
            await asyncio.sleep(60)
        elif kind == "reset_at_once":
            writer.transport.abort()
            return False
        elif kind in ("reset_mid_body", "slow_body"):
            writer.write(http(200, good)[:-10])
            await writer.drain()
            await asyncio.sleep(60 if kind == "slow_body" else 0)
            writer.transport.abort()
            return False
        elif kind == "truncated_json":
            writer.write(http(200, good[:-10]))
        elif kind == "long_garbage":
            writer.write(http(200, b"\x00<" * 5_000_000))
        elif kind == "too_long":
            writer.write(http(200, b" " * (17 << 20) + good))
        elif kind == "gzip_bomb":
            writer.write(http(200, gzip.compress(bytes(64 << 20)), b"Content-Encoding: gzip\r\n"))
        elif kind == "endless":
            writer.write(b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\n\r\n")
            while True:
                writer.write(b" " * 65_536)
                await writer.drain()
        elif kind == "redirect":
            writer.write(http(307, b"", f"Location: {self.elsewhere}/completions\r\n".encode()))
        elif kind == "wrong_type":
            writer.write(http(200, b"<html><body>Bad gateway</body></html>", kind=b"text/html"))
        elif kind == "error_in_200":
            writer.write(http(200, json.dumps({"error": {"message": f"busy {key}", "code": 429}}).encode()))
        elif kind == "empty_object":
            writer.write(http(200, b"{}"))
        else:
            writer.write(http(200, good) * (2 if kind == "duplicate" else 1))
        await writer.drain()
        return True


def http(status: int, body: bytes, extra: bytes = b"", kind: bytes = b"application/json") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n".encode()
    return head + b"Content-Type: " + kind + b"\r\n" + extra + b"\r\n" + body


@contextmanager
def serving(server: FaultServer) -> Iterator[FaultServer]:
    """`server` listening on a free port of 127.0.0.1, on a loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def main() -> None:
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
        server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
        ready.set()
        await ending.wait()
        listener.close()
        for writer in list(server._open):
            writer.transport.abort()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    ending = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(10)
        loop.close()
