"""Progress of a running audit on stderr: a live panel in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from blackbox_diff.report import wording
from blackbox_diff.run.progress import Progress
from blackbox_diff.sanitize import shorten, visible

_PLAIN_EVERY_SECONDS = 10.0


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
            self._print(self._last)

    def update(self, progress: Progress) -> None:
        """Show where the run stands now."""
        self._last = progress
        if self._live is not None:
            self._live.update(panel(progress, self._elapsed(), self._console.width))
        elif self._elapsed() - self._printed >= _PLAIN_EVERY_SECONDS:
            self._print(progress)

    def say(self, *lines: str) -> None:
        """Print lines that stay, above the panel where there is one."""
        for line in lines:
            self._console.print(Text(visible(line)), soft_wrap=True)

    def _print(self, progress: Progress) -> None:
        self._printed = self._elapsed()
        self._shown = progress
        self._console.print(Text(plain_line(progress, self._elapsed())), soft_wrap=True)

    def _elapsed(self) -> float:
        return self._clock() - self._started


def live_view(console: Console | None = None) -> LiveView:
    """The view of a run on stderr, or on `console`."""
    return LiveView(console)


def plain_line(progress: Progress, seconds: float) -> str:
    """Progress as one line for logs."""
    parts = [f"{progress.bought:,}/{progress.planned:,} bought", *_numbers(progress, seconds)]
    if progress.top:
        best = progress.top[0]
        parts.append(f"best {wording.number(best.score)} {shorten(visible(best.text), 60)}")
    return " · ".join(parts)


def _numbers(progress: Progress, seconds: float) -> list[str]:
    parts = [f"{progress.scored:,} scored"]
    if progress.refused or progress.failed:
        parts.append(f"{progress.refused:,} refused, {progress.failed:,} failed")
    if progress.cost_usd is not None:
        cap = f" of {wording.dollars(progress.max_cost_usd)}" if progress.max_cost_usd is not None else ""
        parts.append(wording.dollars(progress.cost_usd) + cap)
    parts.append(f"{progress.output_tokens / seconds:,.0f} tokens/s" if seconds >= 1 else "– tokens/s")
    parts.append(
        f"{progress.in_flight} in flight" + (f" ({visible(progress.throttled)})" if progress.throttled else "")
    )
    parts.append(wording.duration(seconds))
    return parts


def panel(progress: Progress, seconds: float, width: int) -> Group:
    """Progress as a bar, a line of numbers and the best three completions so far."""
    bars = Table.grid(padding=(0, 1))
    bars.add_row("bought", _bar(progress.bought, progress.planned), f"{progress.bought:,} of {progress.planned:,}")
    if progress.cost_usd is not None and progress.max_cost_usd:
        cost, cap = progress.cost_usd, progress.max_cost_usd
        bars.add_row("spent", _bar(cost, cap), f"{wording.dollars(cost)} of {wording.dollars(cap)}")
    lines = [Text(shorten(" · ".join(_numbers(progress, seconds)), width), style="dim")]
    for leader in progress.top[:3]:
        text = shorten(visible(leader.text), max(10, width - 12))
        lines.append(Text.assemble((f"{wording.number(leader.score):>8}  ", "bold"), text))
    return Group(bars, *lines)


def _bar(done: float, total: float) -> ProgressBar:
    return ProgressBar(total=max(total, 1e-9), completed=min(done, total), width=40)
