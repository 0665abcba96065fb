"""An endpoint and its callers as a heap of events: an hour of throttling in a moment, without tasks or sleeps."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from dataclasses import dataclass

from blackbox_diff.buying.limits import Limiter
from blackbox_diff.buying.retry import Decision

GOOD = Decision("accept", "ok", "billed")
REFUSED_AFTER = 0.005  # seconds until a 429 comes
PATIENCE = 0.3  # seconds until a refused caller asks again, unless the endpoint says


@dataclass(frozen=True, slots=True)
class Endpoint:
    """chance: share of requests refused whatever the load. The others as in test_limits."""

    chance: float = 0.0
    in_flight: int = 10**9
    rate: int = 10**9
    latency: float = 0.1
    retry_after: float | None = None


class Simulation:
    """2 * limiter.most callers against `endpoint`. good, refused: the times of its answers."""

    def __init__(self, endpoint: Endpoint, most: int, *, adaptive: bool = True, seed: int = 0) -> None:
        self.now = 0.0
        self.endpoint = endpoint
        self.limiter = Limiter(most, clock=lambda: self.now, adaptive=adaptive)
        self.good: list[float] = []
        self.refused: list[float] = []
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, str]] = []
        self._tie = itertools.count()
        self._active = 0
        self._recent: deque[float] = deque()
        self._idle = 2 * most

    def run(self, seconds: float) -> Simulation:
        self._start()
        while self._events and self.now < seconds:
            self.now, _, kind = heapq.heappop(self._events)
            getattr(self, f"_{kind}")()
        return self

    def per_second(self, since: float, until: float) -> float:
        return sum(since <= at < until for at in self.good) / (until - since)

    def share_refused(self, since: float) -> float:
        bad, good = (sum(at >= since for at in times) for times in (self.refused, self.good))
        return bad / (bad + good)

    def _at(self, seconds: float, kind: str) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._tie), kind))

    def _start(self) -> None:
        while self._idle and self.limiter.in_flight < int(self.limiter.limit):
            self._idle -= 1
            self.limiter.in_flight += 1
            self._turn()

    def _turn(self) -> None:
        limiter = self.limiter
        start = max(limiter._paused_until, limiter._next_start)
        if start > self.now:
            self._at(start - self.now, "turn")
            return
        if limiter.rate is not None:
            limiter._next_start = max(limiter._next_start, self.now - 0.05) + 1 / limiter.rate
        self._send()

    def _send(self) -> None:
        asked = self.endpoint
        while self._recent and self._recent[0] <= self.now - 1:
            self._recent.popleft()
        full = self._active >= asked.in_flight or len(self._recent) >= asked.rate
        if full or self._random.random() < asked.chance:
            self._at(REFUSED_AFTER, "refuse")
            return
        self._recent.append(self.now)
        self._active += 1
        self._at(asked.latency, "answer")

    def _answer(self) -> None:
        self._active -= 1
        self.good.append(self.now)
        self._end(GOOD)
        self._wake()

    def _refuse(self) -> None:
        after = self.endpoint.retry_after
        self.refused.append(self.now)
        self._end(Decision("retry", "throttled", "free", after=after, throttled=True))
        self._at(PATIENCE if after is None else after, "wake")

    def _end(self, decision: Decision) -> None:
        self.limiter.observe(decision, {})
        self.limiter.in_flight -= 1
        self._start()

    def _wake(self) -> None:
        self._idle += 1
        self._start()
