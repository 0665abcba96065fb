"""How fast to ask: adaptive concurrency, and pacing for hidden request rates.

Concurrency starts low and doubles per round trip while throughput grows with it. A throttled reply
halves it and remembers what was too much: a ceiling on calls in flight and, since the hidden limit may
be a rate, a ceiling on requests per second. Recovery to a ceiling is quick; going above one is tried
rarely, and more rarely each time that it fails.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from blackbox_diff.buying.retry import Decision

START = 4
WINDOW = 1.0  # seconds over which the request rate is measured
YEAR = 366 * 86_400.0
EPISODE = 1.0  # throttled replies this close together are one event
FIRST_PROBE, LAST_PROBE = 5.0, 120.0  # seconds before a ceiling is tried again
PACED = 0.97  # share of the rate that went through before throttling
GAIN = 1.05  # growth of throughput per doubling below which more concurrency is pointless


class Limiter:
    """Admission to one endpoint. `clock` and `sleep` are injected so that tests own the time."""

    def __init__(
        self,
        most: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        adaptive: bool = True,
    ) -> None:
        self.most = most
        self.limit = float(min(START, most) if adaptive else most)
        self.rate: float | None = None  # requests per second, None while no throttling was seen
        self.in_flight = 0
        self._clock = clock
        self._sleep = sleep
        self._adaptive = adaptive
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._ceiling = float(most)
        self._probe_after = FIRST_PROBE
        self._probe_at = float("inf")
        self._paused_until = 0.0
        self._next_start = 0.0
        self._answered: deque[float] = deque()  # times of recent answers that were not throttled
        self._last_throttle = float("-inf")
        self._began: float | None = None
        self._round_started = 0.0
        self._round_count = 0
        self._plateau = (0.0, 0.0)  # (limit, throughput) of the last growing round

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Held while one request is in flight; waits for room, for the end of a pause, for its turn."""
        while self.in_flight >= int(self.limit):
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                self._wake()  # whoever woke us meant somebody to start
                raise
        self.in_flight += 1
        try:
            await self._turn()
            yield
        finally:
            self.in_flight -= 1
            self._wake()

    def observe(self, decision: Decision, headers: Mapping[str, str]) -> None:
        """Learn from one attempt's verdict and its reply's headers."""
        now = self._clock()
        if decision.throttled:
            self._throttled(now, decision.after)
        elif decision.action == "accept":
            self._succeeded(now)
        self._obey_headers(headers, now)

    async def _turn(self) -> None:
        while True:
            now = self._clock()
            start = max(self._paused_until, self._next_start)
            if self.rate is None and start <= now:
                return
            if start <= now:
                # At most a twentieth of a second of burst after idling.
                self._next_start = max(self._next_start, now - 0.05) + 1 / (self.rate or 1.0)
                return
            await self._sleep(start - now)

    def _throttled(self, now: float, after: float | None) -> None:
        if after:
            self._paused_until = max(self._paused_until, now + after)
        if not self._adaptive or now - self._last_throttle < EPISODE:
            return
        first = self._last_throttle == float("-inf")
        self._last_throttle = now
        measured = self._throughput(now)
        if not first and self.in_flight <= self._ceiling and measured:
            # Refused although fewer calls were in flight than went well before: it is the rate.
            if self.rate is not None:
                self._probe_after = min(LAST_PROBE, self._probe_after * 2)
            self.rate = PACED * (min(measured, self.rate) if self.rate else measured)
        else:
            if not first:
                self._probe_after = min(LAST_PROBE, self._probe_after * 2)
            self._ceiling = max(1.0, min(self._ceiling, float(self.in_flight - 1)))
        self.limit = max(1.0, self.limit / 2)
        self._probe_at = now + self._probe_after

    def _succeeded(self, now: float) -> None:
        if self._began is None:
            self._began = self._round_started = now
        self._answered.append(now)
        while self._answered[0] < now - WINDOW:
            self._answered.popleft()
        if not self._adaptive:
            return
        self._round_count += 1
        if self.limit < self._ceiling:
            self.limit = min(self._ceiling, self.limit + 1)
        elif now >= self._probe_at:
            self._ceiling = min(float(self.most), self._ceiling + 1)
            self._probe_at = now + self._probe_after
        if self._round_count >= 2 * self.limit and now > self._round_started:
            self._end_round(now)
        if self.rate is not None and now >= self._probe_at - self._probe_after / 2:
            # Creep up by 1% per second's worth of requests.
            self.rate *= 1 + 0.01 / max(1.0, self.rate)

    def _end_round(self, now: float) -> None:
        """Stop growing when twice the concurrency no longer brings more throughput: a queue, not a gain."""
        throughput = self._round_count / (now - self._round_started)
        self._round_started, self._round_count = now, 0
        limit, best = self._plateau
        if throughput > GAIN * best or limit == 0:
            self._plateau = (self.limit, throughput)
        elif self.limit >= 2 * limit and self._ceiling > self.limit - 1 and self._ceiling > limit:
            self._ceiling = max(limit * 1.5, START)
            self.limit = min(self.limit, self._ceiling)
            self._probe_at = now + self._probe_after
            self._plateau = (limit, throughput)

    def _throughput(self, now: float) -> float:
        """Answers per second over the last WINDOW; 0 while there are too few to say."""
        if self._began is None or len(self._answered) < 2:
            return 0.0
        return len(self._answered) / min(WINDOW, max(now - self._began, 0.25))

    def _obey_headers(self, headers: Mapping[str, str], now: float) -> None:
        """Pace by x-ratelimit-*-requests once less than a tenth is left: (limit - left) come back in `reset`."""
        try:
            most = float(headers["x-ratelimit-limit-requests"])
            left = float(headers["x-ratelimit-remaining-requests"])
            reset = duration(headers["x-ratelimit-reset-requests"])
        except (KeyError, ValueError):
            return
        if reset is None or not 0 <= left < most or reset <= 0:
            return
        if left <= max(1.0, most / 10):
            self._next_start = max(self._next_start, now + min(60.0, reset / (most - left)))
            if left == 0:
                self._paused_until = max(self._paused_until, self._next_start)

    def _wake(self) -> None:
        room = int(self.limit) - self.in_flight
        while room > 0 and self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                room -= 1


_NUMBER = r"(\d{1,9}(?:\.\d{1,9})?)"
_DURATION = re.compile("".join(rf"(?:{_NUMBER}{unit})?" for unit in ("d", "h", "m(?!s)", "s", "ms")))
_SECONDS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)


def duration(text: str) -> float | None:
    """Seconds in a Go-like duration ("12ms", "1s", "6m0s") or a plain number; None where it is neither.

    More than a year is no duration: some hosts give a date, in seconds or milliseconds since 1970.
    """
    text = text[:64].strip()
    try:
        seconds = float(text)
    except ValueError:
        found = _DURATION.fullmatch(text)
        if found is None or not any(found.groups()):
            return None
        seconds = sum(float(number or 0) * scale for number, scale in zip(found.groups(), _SECONDS, strict=True))
    return seconds if -YEAR < seconds < YEAR else None
