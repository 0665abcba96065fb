"""The limiter against simulated endpoints: a heap of events is the clock, so an hour takes a moment."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable

import pytest

from blackbox_diff.buying.breaker import Breaker
from blackbox_diff.buying.durations import duration
from blackbox_diff.buying.limits import Limiter
from blackbox_diff.buying.retry import Decision
from blackbox_diff.errors import CircuitOpenError

GOOD = Decision("accept", "ok", "billed")
SLOW_DOWN = Decision("retry", "throttled", "free", throttled=True)


class Clock:
    """Simulated time: `run` moves it to the next sleeper whenever nobody can go on."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, asyncio.Future[None]]] = []
        self._tie = itertools.count()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._heap, (self.now + max(0.0, seconds), next(self._tie), future))
        await future

    async def run(self, until: float) -> None:
        while self.now < until:
            for _ in range(8):
                await asyncio.sleep(0)
            if not self._heap:
                return
            self.now, _, future = heapq.heappop(self._heap)
            if not future.done():
                future.set_result(None)


class Stub:
    """100 ms a reply; at most `in_flight` at once, at most `rate` in any second; `cores` served at once."""

    def __init__(self, clock: Clock, *, in_flight: int = 10**9, rate: int = 10**9, cores: int = 10**9) -> None:
        self.clock, self.limits, self.cores = clock, (in_flight, rate), cores
        self.active = 0
        self.recent: deque[float] = deque()
        self.good: list[float] = []
        self.throttled: list[float] = []

    async def __call__(self) -> Decision:
        now = self.clock.now
        while self.recent and self.recent[0] <= now - 1:
            self.recent.popleft()
        if self.active >= self.limits[0] or len(self.recent) >= self.limits[1]:
            await self.clock.sleep(0.005)
            self.throttled.append(now)
            return SLOW_DOWN
        self.recent.append(now)
        self.active += 1
        await self.clock.sleep(0.1 * max(1.0, self.active / self.cores))
        self.active -= 1
        self.good.append(self.clock.now)
        return GOOD


async def drive(clock: Clock, limiter: Limiter, stub: Callable[[], Awaitable[Decision]], seconds: float) -> None:
    async def worker() -> None:
        while clock.now < seconds:
            async with limiter.slot():
                decision = await stub()
                limiter.observe(decision, {})
            if decision.throttled:
                await clock.sleep(0.3)

    workers = [asyncio.create_task(worker()) for _ in range(limiter.most)]
    await clock.run(seconds)
    for task in workers:
        task.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


@pytest.mark.parametrize(
    ("hidden", "best"),
    [({"in_flight": 8}, 80.0), ({"rate": 50}, 50.0), ({"in_flight": 8, "rate": 50}, 50.0), ({"cores": 4}, 40.0)],
)
async def test_a_hidden_limit_is_found_and_kept_to(hidden: dict[str, int], best: float) -> None:
    clock = Clock()
    stub = Stub(clock, **hidden)
    await drive(clock, Limiter(64, clock=clock, sleep=clock.sleep), stub, 60.0)
    settled = [at for at in stub.good if at > 10]
    refused = [at for at in stub.throttled if at > 10]
    assert len(settled) / 50 >= 0.85 * best
    assert len(refused) <= 0.02 * (len(settled) + len(refused))


async def test_an_endpoint_without_limits_is_used_to_the_full() -> None:
    clock = Clock()
    stub = Stub(clock)
    await drive(clock, Limiter(64, clock=clock, sleep=clock.sleep), stub, 20.0)
    assert len([at for at in stub.good if at > 5]) / 15 >= 0.9 * 640


async def test_throttling_halves_the_concurrency_and_a_server_named_wait_holds_everybody() -> None:
    clock = Clock()
    limiter = Limiter(64, clock=clock, sleep=clock.sleep)
    limiter.limit = limiter.in_flight = 32
    for _ in range(12):
        limiter.observe(Decision("retry", "throttled", "free", after=20.0, throttled=True), {})
    assert limiter.limit == 15.5  # half of what was one too many
    limiter.in_flight = 0

    async def one() -> float:
        async with limiter.slot():
            return clock.now

    task = asyncio.create_task(one())
    await asyncio.sleep(0)
    await clock.run(30)
    assert await task >= 20


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12ms", 0.012),
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("59", 59.0),
        ("-1", -1.0),
        ("1d2h", 93_600.0),
        ("1.5s", 1.5),
        ("soon", None),
        ("", None),
        ("s", None),
        ("nan", None),
        ("1e300", None),
        ("1741305600000", None),
        ("1" * 60_000 + "s", None),
    ],
)
def test_reset_values_are_read_as_go_writes_them(text: str, seconds: float | None) -> None:
    assert duration(text) == seconds


def test_the_breaker_opens_when_all_calls_fail_the_same_way_and_not_before() -> None:
    breaker = Breaker(5)
    failed = Decision("retry", "timeout", "unknown", "no reply")
    for _ in range(4):
        breaker.observe(failed)
    breaker.observe(GOOD)
    for _ in range(4):
        breaker.observe(failed)
    breaker.check("http://x")
    breaker.observe(failed)
    with pytest.raises(CircuitOpenError, match="http://x: the last 5 calls all failed the same way: no reply"):
        breaker.check("http://x")
