"""An endpoint on a real socket whose bytes the test writes, head and all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from blackbox_diff.buying.buyer import Bought, Buyer
from blackbox_diff.buying.http import Endpoint
from blackbox_diff.buying.ledger import Ledger
from blackbox_diff.buying.limits import Limiter
from blackbox_diff.buying.prices import Prices
from blackbox_diff.config.model import Budget, EndpointConfig
from blackbox_diff.records import Call, Lost
from blackbox_diff.runfile.store import Store
from tests.fault_server import FaultServer, http

Answer = Callable[[int, dict[str, Any]], bytes]
PRICES = Prices(1.0, 2.0)


class Scripted(FaultServer):
    """`answer(number, request)` gives the bytes of the reply to request `number` (from 1), head included.

    connections: how many were opened. asked: the requests' bodies, in order.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(0.0)
        self.answer = answer
        self.connections = 0
        self.asked: list[dict[str, Any]] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await super().handle(reader, writer)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next((int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.startswith(b"content-length")), 0)
        body = await reader.readexactly(length)
        self.requests += 1
        self.asked.append(json.loads(body or b"{}"))
        writer.write(self.answer(self.requests, self.asked[-1]))
        await writer.drain()
        return b"connection: close" not in head


def good(number: int, request: dict[str, Any]) -> dict[str, Any]:
    """A reply that names the prompt it answers; two tokens, both counted."""
    words = [" you", f" said {request.get('prompt', '')}"]
    logprobs = {"tokens": words, "token_logprobs": [-1.0, -2.0], "top_logprobs": None}
    return {
        "id": f"cmpl-{number}",
        "choices": [{"index": 0, "text": "".join(words), "logprobs": logprobs, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4},
    }


def plainly(body: Any, **headers: str) -> bytes:
    extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return http(200, body if isinstance(body, bytes) else json.dumps(body).encode(), extra.encode())


async def no_sleep(seconds: float) -> None:
    await asyncio.sleep(0)


async def purchases(
    server: Scripted, store: Store, n: int, *, at_once: int = 1, budget: Budget | None = None, max_tokens: int = 4
) -> list[Bought | Lost | BaseException]:
    """The outcomes of buying `n` completions from `server`, `at_once` in flight."""
    config = EndpointConfig(url=server.url, model="m", timeout_seconds=30)
    async with Endpoint(config) as endpoint:
        ledger = Ledger(budget or Budget(), PRICES, store.spent("target"))
        limiter = Limiter(at_once, sleep=no_sleep, adaptive=False)
        buyer = Buyer(endpoint, store, ledger, limiter, "target", sleep=no_sleep)
        turns = asyncio.Semaphore(at_once)

        async def one(index: int) -> Bought | Lost:
            async with turns:
                call = Call("/completions", {"prompt": f"opening {index}", "max_tokens": max_tokens})
                return await buyer.buy(call, f"prose.raw.{index:05d}", max_tokens)

        return await asyncio.gather(*(one(index) for index in range(n)), return_exceptions=True)
