"""Progress of a running audit on stderr: a live panel in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from blackbox_diff.report import wording
from blackbox_diff.run.progress import Emerging, Progress
from blackbox_diff.sanitize import shorten, visible

_PLAIN_EVERY_SECONDS = 10.0
PACE_SECONDS = 60.0  # over which the pace is measured
LEAST_PACE_SECONDS = 5.0  # before which nothing is said


class LiveView:
    """Shows `Progress`. A context manager; `update` may be called as often as one likes.

    Where `console` is a terminal the panel is redrawn in place (rich honours NO_COLOR). Elsewhere a
    line is printed at the start, every ten seconds, and at the end.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._started = clock()
        self._printed = -_PLAIN_EVERY_SECONDS
        self._last: Progress | None = None
        self._shown: Progress | None = None
        self._pace = Pace()
        self._left: float | None = None
        self._live = Live(console=self._console, refresh_per_second=4, transient=True) if self._fancy() else None

    def _fancy(self) -> bool:
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def __enter__(self) -> LiveView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if self._last is not None and self._last is not self._shown:
            self._print(self._last, self._elapsed())

    def update(self, progress: Progress) -> None:
        """Show where the run stands now."""
        now = self._elapsed()
        if self._last is None or progress.phase != self._last.phase:
            self._printed = -_PLAIN_EVERY_SECONDS  # a new phase is told at once
        self._last = progress
        self._left = self._pace.left(progress, now)
        if self._live is not None:
            self._live.update(panel(progress, now, self._console.width, self._left))
        elif now - self._printed >= _PLAIN_EVERY_SECONDS:
            self._print(progress, now)

    def say(self, *lines: str) -> None:
        """Print lines that stay, above the panel where there is one."""
        for line in lines:
            self._console.print(Text(visible(line)), soft_wrap=True)

    def _print(self, progress: Progress, now: float) -> None:
        self._printed = now
        self._shown = progress
        self._console.print(Text(plain_line(progress, now, self._left)), soft_wrap=True)

    def _elapsed(self) -> float:
        return self._clock() - self._started


def live_view(console: Console | None = None) -> LiveView:
    """The view of a run on stderr, or on `console`."""
    return LiveView(console)


def plain_line(progress: Progress, seconds: float, left: float | None = None) -> str:
    """Progress as one line for logs. left: seconds that the phase may still take, where that can be told."""
    if progress.phase == "probing":
        return "probing: what the endpoints can do"
    parts = [f"{progress.phase}: {_done(progress)}", *_numbers(progress, seconds, left)]
    if progress.top:
        best = progress.top[0]
        parts.append(f"highest score {wording.nats(best.score)} {shorten(visible(best.text), 60)}")
    if progress.themes:
        parts.append(f"so far: {'; '.join(map(_emerging, progress.themes))}")
    return " · ".join(parts)


def _done(progress: Progress) -> str:
    if progress.phase == "scoring":
        return f"{progress.scored:,}/{progress.planned:,} scored"
    rest = ", finishing scores and control" if progress.bought >= progress.planned else ""
    return f"{progress.bought:,}/{progress.planned:,} bought, {progress.scored:,} scored{rest}"


def _emerging(theme: Emerging) -> str:
    return f"“{shorten(visible(theme.phrase), 50)}” ×{theme.count:,}, {theme.background:,} in the control"


def _numbers(progress: Progress, seconds: float, left: float | None) -> list[str]:
    parts = [wording.duration(seconds)]
    if left is not None:
        parts.append(f"about {wording.duration(left)} left")
    if progress.refused or progress.failed:
        parts.append(f"{progress.refused:,} refused, {progress.failed:,} failed")
    if progress.cost_usd is not None:
        cap = f" of {wording.dollars(progress.max_cost_usd)}" if progress.max_cost_usd is not None else ""
        parts.append(wording.dollars(progress.cost_usd) + cap)
    if progress.phase != "scoring":
        parts.append(f"{progress.output_tokens / seconds:,.0f} tokens/s" if seconds >= 1 else "– tokens/s")
        parts.append(f"{progress.in_flight} in flight")
    if progress.throttled:
        parts.append(visible(progress.throttled))
    return parts


def panel(progress: Progress, seconds: float, width: int, left: float | None = None) -> Group:
    """Progress as bars, a line of numbers, the best three completions and what recurs so far."""
    bars = Table.grid(padding=(0, 1))
    if progress.phase == "probing":
        return Group(Text("probing: what the endpoints can do", style="dim"))
    done = progress.scored if progress.phase == "scoring" else progress.bought
    bars.add_row(progress.phase, _bar(done, progress.planned), _done(progress))
    if progress.cost_usd is not None and progress.max_cost_usd:
        cost, cap = progress.cost_usd, progress.max_cost_usd
        bars.add_row("spent", _bar(cost, cap), f"{wording.dollars(cost)} of {wording.dollars(cap)}")
    lines = [Text(shorten(" · ".join(_numbers(progress, seconds, left)), width), style="dim")]
    for leader in progress.top[:3]:
        text = shorten(visible(leader.text), max(10, width - 18))
        lines.append(Text.assemble("score ", (f"{wording.nats(leader.score):>8}  ", "bold"), text))
    for theme in progress.themes:
        lines.append(Text.assemble("recurs  ", (shorten(_emerging(theme), max(10, width - 9)), "bold")))
    return Group(bars, *lines)


class Pace:
    """How long a phase will still take, by what was done in the last minute of it."""

    def __init__(self) -> None:
        self._phase = ""
        self._seen: deque[tuple[float, int]] = deque()

    def left(self, progress: Progress, now: float) -> float | None:
        """Seconds to come; None before it can be told, and where the phase has no known end."""
        if progress.phase not in ("sampling", "scoring"):
            return None
        if progress.phase != self._phase:
            self._phase, self._seen = progress.phase, deque()
        done = progress.scored if progress.phase == "scoring" else progress.bought
        self._seen.append((now, done))
        while now - self._seen[0][0] > PACE_SECONDS:
            self._seen.popleft()
        before, first = self._seen[0]
        if now - before < LEAST_PACE_SECONDS or done <= first or done >= progress.planned:
            return None  # where all is bought, the control may still take a while
        return (progress.planned - done) * (now - before) / (done - first)


def _bar(done: float, total: float) -> ProgressBar:
    return ProgressBar(total=max(total, 1e-9), completed=min(done, total), width=40)
