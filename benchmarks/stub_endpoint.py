"""An endpoint that answers at once with the same completion: what is left to measure is the client.

It is cut at `max_tokens`. Asked for an echo, it answers with the logprobs of the whole behind `PREFILL`, as a
reference does.

    python -m benchmarks.stub_endpoint [--latency S] [--in-flight N] [--rate N] [--tokens N]

--in-flight and --rate are limits that it tells nobody about: a request past them is a 429. GET /v1/stats
gives the times, in seconds since the first request, of replies and of throttled requests.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import random
import time
from collections import deque

ALTERNATIVES = 5
PREFILL = "Once upon a"


@functools.cache
def completion(tokens: int, asked: int, echo: bool) -> bytes:
    """The first `asked` of `tokens` tokens with five alternatives each, or all of them echoed, as vLLM does."""
    rng = random.Random(0)
    words = [" " + "".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 7))) for _ in range(tokens + 200)]
    chosen = words[:tokens]
    tops = [
        {word: -rng.uniform(0.1, 9) for word in [token, *rng.sample(words[tokens:], ALTERNATIVES - 1)]}
        for token in chosen
    ]
    read, written = 3, min(asked, tokens)
    if echo:
        chosen = ["Once", " upon", " a", *chosen, "."]
        tops = [{word: -1.0} for word in chosen[:3]] + tops + [{".": -1.0}]
        read, written = len(chosen) - 1, 1
    else:
        chosen, tops = chosen[:written], tops[:written]
    choice = {
        "index": 0,
        "text": "".join(chosen),
        "finish_reason": "length",
        "logprobs": {
            "tokens": chosen,
            "token_logprobs": [top[token] for token, top in zip(chosen, tops, strict=True)],
            "top_logprobs": tops,
            "text_offset": [sum(map(len, chosen[:index])) for index in range(len(chosen))],
        },
    }
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return json.dumps({"id": "cmpl-0", "object": "text_completion", "choices": [choice], "usage": usage}).encode()


def http(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Stub:
    """The endpoint's state: its limits, and what it did when."""

    def __init__(self, latency: float, in_flight: int | None, rate: int | None, tokens: int) -> None:
        self.latency, self.in_flight, self.rate = latency, in_flight, rate
        self.tokens = tokens
        self.busy = http("429 Too Many Requests", b'{"error": {"message": "slow down", "code": null}}')
        self.active = 0
        self.recent: deque[float] = deque()
        self.began: float | None = None
        self.replied: list[float] = []
        self.throttled: list[float] = []

    def admits(self, now: float) -> bool:
        while self.recent and self.recent[0] <= now - 1:
            self.recent.popleft()
        if self.in_flight is not None and self.active >= self.in_flight:
            return False
        if self.rate is not None:
            if len(self.recent) >= self.rate:
                return False
            self.recent.append(now)
        return True

    def stats(self) -> bytes:
        found = {"replied": self.replied, "throttled": self.throttled}
        self.replied, self.throttled, self.began = [], [], None
        return http("200 OK", json.dumps(found).encode())


class Connection(asyncio.Protocol):
    """One keep-alive connection; requests come one after the other."""

    def __init__(self, stub: Stub) -> None:
        self.stub = stub
        self.buffer = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line[15:])
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        if head.startswith(b"GET"):
            self.transport.write(self.stub.stats())
        else:
            asked = json.loads(rest[:length])
            body = completion(self.stub.tokens, asked["max_tokens"], bool(asked.get("echo")))
            self.answer(http("200 OK", body))

    def answer(self, good: bytes) -> None:
        stub, now = self.stub, time.monotonic()
        stub.began = now if stub.began is None else stub.began
        if not stub.admits(now):
            stub.throttled.append(now - stub.began)
            self.transport.write(stub.busy)
            return
        stub.active += 1
        if stub.latency:
            asyncio.get_running_loop().call_later(stub.latency, self.reply, good)
        else:
            self.reply(good)

    def reply(self, good: bytes) -> None:
        self.stub.active -= 1
        if self.stub.began is not None and (self.stub.in_flight or self.stub.rate):
            self.stub.replied.append(time.monotonic() - self.stub.began)
        self.transport.write(good)


async def serve(stub: Stub) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(stub), "127.0.0.1", 0)
    print(f"ready http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds per reply")
    parser.add_argument("--in-flight", type=int, help="most requests at once")
    parser.add_argument("--rate", type=int, help="most requests in any second")
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    asyncio.run(serve(Stub(options.latency, options.in_flight, options.rate, options.tokens)))


if __name__ == "__main__":
    main()
