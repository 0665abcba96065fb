"""Peak memory of buying 32 at a time, and of a whole audit, where a server answers megabytes of hostile JSON."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from blackbox_diff.buying.buyer import Bought, Buyer
from blackbox_diff.buying.http import Endpoint
from blackbox_diff.buying.ledger import Ledger
from blackbox_diff.buying.limits import Limiter
from blackbox_diff.config.model import Budget, EndpointConfig
from blackbox_diff.records import EndpointProfile, Sampling
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire import dialect
from tests.conftest import run_cli
from tests.fake_endpoint import FakeEndpoint
from tests.fault_server import http, serving
from tests.hostile.scripted import Scripted
from tests.toy_server import serving as toy_serving

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


class Heavy(FakeEndpoint):
    """The toy until a long completion is asked for, which is then as heavy as may be.

    empty: objects without end. Otherwise a good completion, whose lists hold tokens of 250 bytes, each another.
    """

    TOKENS, LISTED = 2_048, 20
    MARK = b"@@@@"

    def __init__(self, empty: bool) -> None:
        super().__init__()
        self.body = body(16 * MEGABYTE - 100) if empty else self.heavy()

    def heavy(self) -> bytes:
        draw = random.Random(0)
        words = [f" @@@@{place:05d}" for place in range(self.TOKENS)]
        tops = [
            {word: -3.0, **{f"@@@@{draw.getrandbits(976):0244x}": -5.0 for _ in range(self.LISTED - 1)}}
            for word in words
        ]
        numbers = [-3.0 - place % 7 / 100 for place in range(self.TOKENS)]
        lists = {"tokens": words, "token_logprobs": numbers, "top_logprobs": tops}
        choice = {"index": 0, "text": "".join(words), "finish_reason": "length", "logprobs": lists}
        return json.dumps({"choices": [choice], "system_fingerprint": "fp"}).encode()

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        asked = json.loads(request.content) if request.content else {}
        if asked.get("max_tokens", 0) < self.TOKENS:
            return super().answer(request)
        own = zlib.crc32(request.content).to_bytes(4).hex().encode()[:4]
        return httpx2.Response(200, content=self.body.replace(self.MARK, own))


def audit(kind: str, run: str, n: int = 48) -> None:
    """Audit a heavy target, and print this process's own peak: getrusage's may be that of what started it."""
    with ExitStack() as stack:
        urls = []
        for name in (kind, "honest"):
            command = [sys.executable, "-m", "tests.hostile.test_memory", "toy", name]
            server = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(server.terminate)
            assert server.stdout is not None
            urls.append(server.stdout.readline().strip())
        code = run_cli(
            [
                "audit", "--target-url", urls[0], "--target-model", "m", "--reference-url", urls[1],
                "--reference-model", "m", "--reference-label", "base", "--completions", str(n), "--out", run,
                "--concurrency", "32", "--max-tokens", str(Heavy.TOKENS),
                "--framing", "raw",
            ]
        )  # fmt: skip
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"code": code, "megabytes": int(peak.split()[1]) / 1024}))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["empty", "heavy"])
def test_the_peak_of_a_whole_audit_stays_bounded(kind: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.test_memory", "audit", kind, str(tmp_path / "run")],
        capture_output=True, text=True, check=True, timeout=3_000,
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["code"] == 0, done.stdout + done.stderr
    assert told["megabytes"] < CEILING


def toy(kind: str) -> None:
    with toy_serving(FakeEndpoint() if kind == "honest" else Heavy(kind == "empty")) as url:
        print(url, flush=True)
        time.sleep(3600)


def serve(size: int) -> None:
    reply = http(200, body(size))
    with serving(Scripted(lambda number, request: reply)) as server:
        print(server.url, flush=True)
        time.sleep(3600)  # until it is terminated


if __name__ == "__main__":
    if sys.argv[1] == "audit":
        audit(*sys.argv[2:4])
    elif sys.argv[1] == "toy":
        toy(sys.argv[2])
    elif sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        peak(int(sys.argv[2]))
