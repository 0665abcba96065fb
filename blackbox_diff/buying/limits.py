"""How fast to ask: adaptive concurrency, and pacing for hidden request rates.

Concurrency starts low and doubles per round trip while throughput grows with it. Throttled replies are taken
for what they may be. Where most are throttled it was too much: half is asked for from then on, and what was too
much is remembered as a ceiling on calls in flight or, since the hidden limit may be a rate, on requests a second.
Where a few are, that is tried out: at half the load throttling by load ends, and throttling by chance (a busy
proxy, one bad replica) does not. The latter is background: such a call is repeated, and nothing slows down.
Recovery to a ceiling is quick; going above one is tried rarely, and more rarely each time that it fails.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from blackbox_diff.buying.durations import duration
from blackbox_diff.buying.retry import Decision

START = 4
WINDOW = 1.0  # seconds over which the request rate is measured
EPISODE = 1.0  # throttled replies this close together are one event
FIRST_PROBE, LAST_PROBE = 5.0, 120.0  # seconds before a ceiling is tried again
STEP = 0.8  # share of a rate below which one event does not bring it
PACED = 0.97  # share of the rate that went through before throttling
RECENT = 100  # replies that are looked at for their share of throttled ones
CLOSER = 10  # replies that tell whether a few or most are throttled
FEWEST = 20  # replies at half the load before its throttling says anything
MOSTLY = 0.35  # share from which on load must be the reason
FOLLOWED = 1_000  # replies over which the share of throttling by chance is averaged
NOISE = 0.005  # share of throttled replies by chance that is as good as none
LONG_WAIT = 5.0  # seconds: an endpoint that names a longer wait means everybody
GAIN = 1.05  # growth of throughput per doubling below which more concurrency is pointless


@dataclass(slots=True)
class _Trial:
    """Half the load for a while, to see whether throttling ends.

    limit, rate, in_flight, throughput: as they were before. share: of throttled replies then, at a low guess.
    seen: throttled ones and all, before. replies, throttled: since `begins`, with the calls of before drained.
    """

    limit: float
    rate: float | None
    in_flight: int
    throughput: float
    share: float
    seen: tuple[int, int]
    begins: float
    drained: bool = False
    replies: int = 0
    throttled: int = 0

    def has_begun(self, now: float, in_flight: int, limit: float) -> bool:
        self.drained = self.drained or (now >= self.begins and in_flight <= limit)
        return self.drained

    def outcome(self) -> str:
        """ "load", "chance", or "" while it is open."""
        expected = self.share * self.replies
        if self.throttled >= 5 and self.throttled > MOSTLY * self.replies:
            return "load"
        if self.throttled >= 2 and self.throttled >= expected / 3 and self.replies >= FEWEST:
            return "chance"
        return "load" if expected >= 2 + 3 * self.throttled else ""


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
        self._recent: deque[bool] = deque(maxlen=RECENT)  # of the last replies: was it throttled?
        self.background = 0.0  # share of replies that are throttled whatever the load
        self._at_half = 0.0  # the same, as it was when last measured at half the load
        self._suspected: tuple[int, float] | None = None  # calls in flight and throughput when it began
        self._next: list[bool] = []  # replies since: was it throttled?
        self._trial: _Trial | None = None
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

    def slowed(self) -> str:
        """Why fewer calls are in flight than may be, and for how long; empty where nothing holds them back."""
        left = self._paused_until - self._clock()
        if left >= 1.0:
            return f"the endpoint asks to wait: {left:.0f} s more"
        if self.rate is not None:
            return f"slowed by the endpoint's rate limit: {int(self.limit)} of {self.most} calls at a time"
        return ""

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
        self._recent.append(True)
        usual = self._is_usual()
        if after and (after > LONG_WAIT or self.background < NOISE or not usual):
            self._paused_until = max(self._paused_until, now + after)
        if not self._adaptive:
            return
        self._follow(True)
        if self._trial is not None:
            self._judge_trial(now, throttled=True)
            return
        if self._suspected is not None:
            self._look_closer(now, throttled=True)
            return
        above = self._probing_above(now) and self.background < NOISE
        if (usual and not above) or now - self._last_throttle < EPISODE:
            return
        if above:
            self._back_off(now, self.in_flight, self._throughput(now))
            self.limit = max(1.0, self.limit / 2)
        else:
            self._suspected = (self.in_flight, self._throughput(now))
            self._next = []

    def _is_usual(self) -> bool:
        """Whether no more of the last replies were throttled than chance throttles at any load; one may be."""
        chance = self.background * len(self._recent)
        return sum(self._recent) <= 1.5 + chance + 3 * math.sqrt(chance)

    def _probing_above(self, now: float) -> bool:
        """Whether a ceiling that is known to hold is being passed, to see if it still does."""
        return self._last_throttle > float("-inf") and now >= self._probe_at - self._probe_after / 2

    def _look_closer(self, now: float, *, throttled: bool) -> None:
        """Of the next replies few or most are throttled: most by load, and few need a trial."""
        self._next.append(throttled)
        if self._suspected is None or len(self._next) < CLOSER:
            return
        in_flight, measured = self._suspected
        self._suspected = None
        if sum(self._next) > MOSTLY * CLOSER:
            self._back_off(now, in_flight, measured)
            self.limit = max(1.0, self.limit / 2)
        else:
            self._try_half(now, in_flight, measured)

    def _try_half(self, now: float, in_flight: int, measured: float) -> None:
        throttled, replies = sum(self._recent), len(self._recent)
        share = (throttled - 1) / max(replies, RECENT / 2)
        self._trial = _Trial(
            self.limit, self.rate, in_flight, measured, share, (throttled, replies), now + 1.5 * WINDOW
        )
        self.limit = max(1.0, self.limit / 2)
        went_well = len(self._answered) / WINDOW  # a burst in less time than that shows no rate
        if went_well:
            self.rate = min(went_well, self.rate or went_well) / 2

    def _follow(self, throttled: bool) -> None:
        """Let the background, once there is one, follow what is seen: slowly, or overload would become usual."""
        if self._trial is None and self.background:
            known = self.rate is not None or self._ceiling < self.most
            self.background += (throttled - self.background) / FOLLOWED
            if known:  # beside a known limit more may be load
                self.background = min(self.background, self._at_half)
            self.background = 0.0 if self.background < NOISE else self.background

    def _judge_trial(self, now: float, *, throttled: bool) -> None:
        trial = self._trial
        if trial is None or not trial.has_begun(now, self.in_flight, self.limit):
            return
        trial.replies += 1
        trial.throttled += throttled
        outcome = trial.outcome()
        if not outcome:
            return
        self._trial = None
        self._recent.clear()
        self._round_started, self._round_count, self._plateau = now, 0, (0.0, 0.0)
        if outcome == "load":
            self.rate = trial.rate
            self._back_off(now, trial.in_flight, trial.throughput)
            return
        seen, of = trial.seen[0] + trial.throttled, trial.seen[1] + trial.replies
        self.background = max(self.background, seen / of)
        self._at_half = self.background
        self.limit, self.rate = trial.limit, trial.rate
        self._probe_after, self._probe_at = FIRST_PROBE, now

    def _back_off(self, now: float, in_flight: int, measured: float) -> None:
        """Remember what was too much: so many in flight or, if fewer went well before, the rate."""
        first = self._last_throttle == float("-inf")
        self._last_throttle = now
        self._recent.clear()
        if not first and in_flight <= self._ceiling and measured:
            if self.rate is not None:
                self._probe_after = min(LAST_PROBE, self._probe_after * 2)
            self.rate = PACED * (max(min(measured, self.rate), self.rate * STEP) if self.rate else measured)
        else:
            if not first:
                self._probe_after = min(LAST_PROBE, self._probe_after * 2)
            self._ceiling = max(1.0, min(self._ceiling, float(in_flight - 1)))
        self.limit = min(self.limit, self._ceiling)
        self._probe_at = now + self._probe_after

    def _succeeded(self, now: float) -> None:
        if self._began is None:
            self._began = self._round_started = now
        self._answered.append(now)
        while self._answered[0] < now - WINDOW:
            self._answered.popleft()
        if not self._adaptive:
            return
        self._recent.append(False)
        self._follow(False)
        if self._trial is not None:
            self._judge_trial(now, throttled=False)
            return
        if self._suspected is not None:
            self._look_closer(now, throttled=False)
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
            # Creep up by 1% per second's worth of requests; faster where chance may have brought the rate down.
            self.rate *= 1 + (0.01 if self.background < NOISE else 0.03) / max(1.0, self.rate)

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
