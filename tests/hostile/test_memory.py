"""Peak memory of buying 32 at a time from a server that answers megabytes of hostile JSON."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blackbox_diff.buying.buyer import Bought, Buyer
from blackbox_diff.buying.http import Endpoint
from blackbox_diff.buying.ledger import Ledger
from blackbox_diff.buying.limits import Limiter
from blackbox_diff.config.model import Budget, EndpointConfig
from blackbox_diff.records import EndpointProfile, Sampling
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire import dialect
from tests.fault_server import http, serving
from tests.hostile.scripted import Scripted

MEGABYTE = 1024 * 1024
CEILING = 600  # MB, resident


def body(size: int) -> bytes:
    return b'{"choices": [' + b"{}," * (size // 3) + b'{}], "usage": {"completion_tokens": 1}}'


def peak(size: int, n: int = 96) -> None:
    """Buy `n` replies of `size` bytes, read each, and print this process's peak."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.hostile.test_memory", "serve", str(size)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            asyncio.run(buy(server.stdout.readline().strip(), n))
        finally:
            server.terminate()
    print(json.dumps({"megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


async def buy(url: str, n: int) -> None:
    profile = EndpointProfile(base_url=url, model="m", dialect="generic", raw="completions", max_top_logprobs=20)
    speaks = dialect("generic")
    with tempfile.TemporaryDirectory() as run, Store.create(Path(run) / "run", {"config": {}}) as store:
        async with Endpoint(EndpointConfig(url=url, model="m", timeout_seconds=300)) as endpoint:
            buyer = Buyer(endpoint, store, Ledger(Budget()), Limiter(32, adaptive=False), "target")

            async def one(number: int) -> None:
                call = speaks.sample(profile, "Once upon a", "raw", Sampling(), number)
                bought = await buyer.buy(call, f"prose.raw.{number:05d}")
                if isinstance(bought, Bought):
                    speaks.read_sample(
                        bought.reply, call=call, profile=profile, prefill="Once upon a", framing="raw"
                    )

            # The breaker ends it where every reply is too long, with all of them in flight.
            await asyncio.gather(*(one(number) for number in range(n)), return_exceptions=True)


@contextmanager
def measured(size: int) -> Iterator[float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.test_memory", "peak", str(size)],
        capture_output=True, text=True, check=True, timeout=600,
    )  # fmt: skip
    yield json.loads(done.stdout.splitlines()[-1])["megabytes"]


@pytest.mark.slow
@pytest.mark.parametrize("size", [16 * MEGABYTE - 100, 16 * MEGABYTE // 10])  # too long, and just short enough
def test_the_peak_stays_bounded(size: int) -> None:
    with measured(size) as megabytes:
        assert megabytes < CEILING


def serve(size: int) -> None:
    reply = http(200, body(size))
    with serving(Scripted(lambda number, request: reply)) as server:
        print(server.url, flush=True)
        time.sleep(3600)  # until it is terminated


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        peak(int(sys.argv[2]))
