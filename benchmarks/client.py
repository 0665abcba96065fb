"""Client and store against a stub endpoint in another process: speed, memory, and finding hidden limits.

    python -m benchmarks.client speed     the collector, and client and store alone, beside a bare httpx2 loop
    python -m benchmarks.client memory    100,000 completions: resident memory as the run grows
    python -m benchmarks.client limits    adaptive concurrency beside every fixed setting, under hidden limits
    python -m benchmarks.client simulated the same, and throttling by chance, on simulated endpoints
    python -m benchmarks.client digests   what the digest of every row costs beside writing the row

Each prints a Markdown table. The collector is a run's own: every completion is sampled, read, stored, scored by a
reference, stored again and ranked for the live view. The bare loop only posts and reads the bytes. Speed runs
alternate between the loops, so that what else the machine does falls on all; a ratio is the median of the paired
ratios. The CPU time of each request is this process's own, and holds on a busy machine, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2

from benchmarks.stub_endpoint import PREFILL, completion
from blackbox_diff.buying.buyer import Bought, Buyer
from blackbox_diff.buying.http import Endpoint
from blackbox_diff.buying.ledger import Ledger
from blackbox_diff.buying.limits import Limiter
from blackbox_diff.buying.prices import Prices
from blackbox_diff.config.model import Budget, EndpointConfig
from blackbox_diff.probing.drift import Watch
from blackbox_diff.records import Arm, EndpointProfile, RawReply, Sample, Sampling
from blackbox_diff.run.collect import TARGET, Collector, Job, Lane
from blackbox_diff.run.pipeline import TICK
from blackbox_diff.runfile import store as store_module
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire import dialect
from tests.hostile.simulated import Endpoint as Simulated
from tests.hostile.simulated import Simulation

CONCURRENCY = 32
SAMPLING = Sampling(max_tokens=64)


@contextmanager
def stub(*arguments: str) -> Iterator[str]:
    """A stub endpoint in another process; yields its base URL."""
    command = [sys.executable, "-m", "benchmarks.stub_endpoint", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().removeprefix("ready ").strip()
        finally:
            process.terminate()


def profile(url: str) -> EndpointProfile:
    return EndpointProfile(
        base_url=url, model="m", dialect="vllm", raw="raw", scoring="echo", max_top_logprobs=5,
        token_bytes="exact", auditable=True, can_score=True,
    )  # fmt: skip


async def pool(n: int, workers: int, one: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    """`one(0)` to `one(n - 1)`, `workers` at a time."""
    numbers = iter(range(n))

    async def work() -> None:
        for number in numbers:
            await one(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())


@dataclass(frozen=True, slots=True)
class Pace:
    """rate: requests per second. cpu_ms: of this process for each; other processes hardly change it."""

    rate: float
    cpu_ms: float

    @classmethod
    def of(cls, n: int, started: tuple[float, float]) -> Pace:
        wall, cpu = (now - then for now, then in zip(clocks(), started, strict=True))
        return cls(n / wall, 1000 * cpu / n)


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


async def bare(url: str, n: int) -> Pace:
    """httpx2 alone: post, read the bytes, forget them."""
    call = dialect("vllm").sample(profile(url), PREFILL, "raw", SAMPLING, 0)
    body = json.dumps(dict(call.body)).encode()
    headers = {"content-type": "application/json"}
    limits = httpx2.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    async with httpx2.AsyncClient(limits=limits) as client:

        async def one(number: int) -> None:
            assert (await client.post(url + call.path, content=body, headers=headers)).content

        await pool(CONCURRENCY, CONCURRENCY, one)
        started = clocks()
        await pool(n, CONCURRENCY, one)
        return Pace.of(n, started)


async def bought(url: str, n: int) -> Pace:
    """Client and store: reserved, sent, judged, settled and on disk, and not read."""
    call = dialect("vllm").sample(profile(url), PREFILL, "raw", SAMPLING, 0)
    with run_file() as store:
        async with Endpoint(EndpointConfig(url=url, model="m")) as endpoint:
            buyer = Buyer(endpoint, store, ledger(), Limiter(CONCURRENCY), "target")

            async def one(number: int) -> None:
                assert isinstance(await buyer.buy(call, f"prose.raw.{number:06d}", SAMPLING.max_tokens), Bought)

            await pool(CONCURRENCY, CONCURRENCY, lambda number: one(1_000_000 + number))
            started = clocks()
            await pool(n, CONCURRENCY, one)
            return Pace.of(n, started)


async def collected(url: str, n: int, watch: Callable[[int], None] = lambda _: None) -> Pace:
    """A run's collector, two requests to a completion; `watch` is told the number of each."""
    found, arm = profile(url), Arm("prose", "raw")
    with run_file() as store:
        async with Endpoint(EndpointConfig(url=url, model="m")) as endpoint:
            limiter = Limiter(CONCURRENCY)
            target, reference = (
                Lane(label, found, dialect("vllm"), Buyer(endpoint, store, ledger(), limiter, label))
                for label in (TARGET, "reference")
            )
            collector = Collector(store, SAMPLING, Watch(store))

            def jobs() -> Iterator[Job]:
                for number in range(n):
                    watch(number)
                    sample = Sample(f"prose.raw.{number:06d}", arm, PREFILL, number)
                    yield Job(target, sample, (reference,), frozenset())

            async def watch_live() -> None:
                while True:
                    await asyncio.sleep(TICK)
                    await collector.leaders.refresh()

            watching = asyncio.create_task(watch_live())
            started = clocks()
            await collector.run(jobs(), CONCURRENCY)
            pace = Pace.of(2 * n, started)
            watching.cancel()
            assert collector.scored == n, collector.stop.reason or collector
            return pace


@contextmanager
def run_file() -> Iterator[Store]:
    with (
        tempfile.TemporaryDirectory() as directory,
        Store.create(Path(directory) / "run", {"config": {}}) as store,
    ):
        yield store


def ledger() -> Ledger:
    return Ledger(Budget(max_cost=1e6), Prices(0.1, 0.4))


def speed(runs: int, n: int) -> Iterator[str]:
    names = "bare httpx2", "client and store", "collector"
    columns = [f"{name}, requests/s | CPU ms each" for name in names]
    yield f"| run | {columns[0]} | {columns[1]} | ratio | {columns[2]} | ratio |"
    yield "|---|---|---|---|---|---|---|---|---|"
    rows: list[tuple[float, ...]] = []
    with stub() as url:
        for run in range(runs):
            first = asyncio.run(bare(url, n))
            client = asyncio.run(bought(url, n))
            second = asyncio.run(bare(url, n))
            collector = asyncio.run(collected(url, n // 2))
            third = asyncio.run(bare(url, n))
            rows.append(
                (
                    *(second.rate, second.cpu_ms),
                    *(client.rate, client.cpu_ms, 2 * client.rate / (first.rate + second.rate)),
                    *(collector.rate, collector.cpu_ms, 2 * collector.rate / (second.rate + third.rate)),
                )
            )
            yield _row(str(run + 1), rows[-1])
    yield _row("median", [statistics.median(column) for column in zip(*rows, strict=True)])


def _row(name: str, values: Sequence[float]) -> str:
    return (
        f"| {name} | " + " | ".join(f"{value:.0f}" if value >= 10 else f"{value:.2f}" for value in values) + " |"
    )


def resident() -> float:
    """Resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory(n: int) -> Iterator[str]:
    yield "| completions bought, read, scored and stored | resident memory, MB |"
    yield "|---|---|"
    at = {1_000, *(n * part // 10 for part in range(1, 10)), n - 1}
    rows: list[tuple[int, float]] = []

    def watch(number: int) -> None:
        if number in at:
            rows.append((number, resident()))

    with stub() as url:
        pace = asyncio.run(collected(url, n, watch))
    yield from (f"| {count:,} | {megabytes:.0f} |" for count, megabytes in rows)
    spread = max(m for _, m in rows) - rows[0][1]
    yield ""
    yield f"Growth after the first thousand: {spread:.0f} MB, at {pace.rate / 2:.0f} completions a second."


async def audited(url: str, limiter: Limiter, seconds: float) -> None:
    """Buy from `url` for `seconds` with as many workers as the limiter may ever admit."""
    call = dialect("vllm").sample(profile(url), PREFILL, "raw", SAMPLING, 0)
    with run_file() as store:
        async with Endpoint(EndpointConfig(url=url, model="m")) as endpoint:
            buyer = Buyer(endpoint, store, Ledger(Budget()), limiter, "target")

            async def work(worker: int) -> None:
                number = 0
                while True:
                    await buyer.buy(call, f"prose.raw.{worker:03d}{number:05d}")
                    number += 1

            workers = [asyncio.create_task(work(worker)) for worker in range(limiter.most)]
            await asyncio.sleep(seconds)
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)


def measured(arguments: Sequence[str], limiter: Limiter, seconds: float, after: float) -> tuple[float, float]:
    """Replies per second and share of throttled requests, from `after` seconds on, by the stub's own clock."""
    with stub(*arguments) as url:
        asyncio.run(audited(url, limiter, seconds))
        found = httpx2.get(url + "/stats").json()
    good, bad = ([at for at in found[kind] if after <= at < seconds] for kind in ("replied", "throttled"))
    return len(good) / (seconds - after), len(bad) / max(1, len(good) + len(bad))


def limits(seconds: float) -> Iterator[str]:
    yield "| hidden limit | best fixed setting | its replies/s | adaptive, replies/s | ratio | 429s past 10 s |"
    yield "|---|---|---|---|---|---|"
    hidden = {"8 in flight": ["--in-flight", "8"], "50 requests a second": ["--rate", "50"]}
    for name, arguments in hidden.items():
        arguments = [*arguments, "--latency", "0.1"]
        fixed = {
            most: measured(arguments, Limiter(most, adaptive=False), 15.0, 5.0)[0]
            for most in (2, 4, 6, 8, 12, 16, 32)
        }
        best = max(fixed, key=lambda most: fixed[most])
        rate, throttled = measured(arguments, Limiter(64), seconds, 10.0)
        yield (
            f"| {name} | {best} in flight | {fixed[best]:.1f} | {rate:.1f} | **{rate / fixed[best]:.2f}** "
            f"| **{throttled:.1%}** |"
        )


def simulated(seconds: float) -> Iterator[str]:
    yield "| endpoint | best fixed setting, replies/s | adaptive, replies/s | ratio | 429s past 10 s |"
    yield "|---|---|---|---|---|"
    endpoints = {
        "8 in flight": Simulated(in_flight=8),
        "50 requests a second": Simulated(rate=50),
        "both": Simulated(in_flight=8, rate=50),
        **{f"{chance:.0%} of 429s by chance": Simulated(chance=chance) for chance in (0.01, 0.03, 0.1)},
    }
    for name, endpoint in endpoints.items():
        fixed = max(
            Simulation(endpoint, most, adaptive=False).run(20).per_second(5, 20)
            for most in (2, 4, 6, 8, 12, 16, 32)
        )
        found = Simulation(endpoint, 32).run(seconds)
        rate = found.per_second(10, seconds)
        yield f"| {name} | {fixed:.1f} | {rate:.1f} | **{rate / fixed:.2f}** | {found.share_refused(10):.1%} |"


class NoDigests:
    """Stands where the chain of digests does, and makes none."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        pass

    def append(self) -> None:
        pass


async def written(n: int) -> float:
    """Microseconds of processor time to reserve and settle a call, with a reply as the stub gives it."""
    call = dialect("vllm").sample(profile("http://stub/v1"), PREFILL, "raw", SAMPLING, 0)
    reply = RawReply(200, {}, completion(64, 64, False), 0.1)
    with run_file() as store:

        async def one(number: int) -> None:
            call_id = await store.reserve_call("target", f"prose.raw.{number:06d}", 1, call, (20, 64, 30))
            await store.settle_call(call_id, reply, (20, 64, 30), accepted=True)

        started = time.process_time()
        await pool(n, CONCURRENCY, one)
        return (time.process_time() - started) / n * 1e6


def digests(runs: int, n: int) -> Iterator[str]:
    yield "| processor time of a call's two writes | without digests, µs | with, µs | ratio |"
    yield "|---|---|---|---|"
    pairs = []
    for _ in range(runs):
        with patch.object(store_module, "Chain", NoDigests):
            without = asyncio.run(written(n))
        pairs.append((without, asyncio.run(written(n))))
    ratio = statistics.median(made / without for without, made in pairs)
    before, after = (statistics.median(column) for column in zip(*pairs, strict=True))
    yield f"| {n:,} calls, median of {runs} | {before:.0f} | {after:.0f} | **{ratio:.2f}** |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "memory", "limits", "simulated", "digests"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--requests", type=int, help="per run: 3,000 for speed, 100,000 for memory, 2,000 for digests"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of the adaptive run for limits")
    options = parser.parse_args()
    if options.what == "speed":
        lines = speed(options.runs, options.requests or 3_000)
    elif options.what == "memory":
        lines = memory(options.requests or 100_000)
    elif options.what == "simulated":
        lines = simulated(2 * options.seconds)
    elif options.what == "digests":
        lines = digests(options.runs, options.requests or 2_000)
    else:
        lines = limits(options.seconds)
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
