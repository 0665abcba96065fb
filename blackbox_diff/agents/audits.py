"""Audits at work: started, watched, cancelled and resumed by name, each a task on the caller's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from blackbox_diff.agents.problems import ToolError
from blackbox_diff.errors import BlackboxDiffError
from blackbox_diff.run.collect import Stop
from blackbox_diff.run.pipeline import Ended
from blackbox_diff.run.progress import Listener, Notice, Progress

SETTLE = 3.0  # seconds in which what is wrong by itself shows, so that a start can be refused instead of ending


class Begin(Protocol):
    """A command of run/commands.py with its arguments filled in."""

    def __call__(self, *, listener: Listener, stop: Stop) -> Awaitable[Ended]: ...


@dataclass(slots=True)
class Active:
    """One audit of this session: how it goes, and how it ended."""

    stop: Stop = field(default_factory=Stop)
    latest: Progress | None = None
    error: BlackboxDiffError | None = None
    task: asyncio.Task[None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def running(self) -> bool:
        return self.task is not None and not self.task.done()


class Audits:
    """The audits of one session by their runs' names; at most `most` at work at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._known: dict[str, Active] = {}

    def get(self, name: str) -> Active | None:
        return self._known.get(name)

    def running(self, name: str) -> bool:
        found = self._known.get(name)
        return found is not None and found.running

    def check(self, name: str | None = None) -> None:
        """Raises ToolError where as many audits as are allowed are at work, or the one called `name` is."""
        if name is not None and self.running(name):
            raise ToolError("busy", f"{name} is running", "watch it with `progress`, or `cancel` it first")
        busy = [each for each, found in self._known.items() if found.running]
        if len(busy) >= self.most:
            raise ToolError(
                "busy", f"{len(busy)} audits are at work: {', '.join(busy)}", "wait for one with `progress`"
            )

    async def begin(self, name: str, begin: Begin) -> Active:
        """Set an audit to work; returns once it is under way. Raises what ended it before that."""
        self.check(name)
        active = self._known[name] = Active()

        def hear(news: Progress | Notice) -> None:
            if isinstance(news, Progress):
                active.latest = news
                active.changed.set()

        active.task = asyncio.create_task(_work(active, lambda: begin(listener=hear, stop=active.stop)))
        moved = asyncio.create_task(active.changed.wait())
        try:
            await asyncio.wait({active.task, moved}, timeout=SETTLE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            moved.cancel()
        if not active.running and active.error is not None:
            raise active.error
        return active

    async def wait(self, name: str, seconds: float, told: Callable[[Progress], Awaitable[None]]) -> None:
        """Until the audit ends, or for `seconds`; `told` hears how it goes."""
        active = self._known.get(name)
        if active is None or active.task is None:
            return
        ends = asyncio.get_running_loop().time() + seconds
        while active.running:
            active.changed.clear()
            moved = asyncio.create_task(active.changed.wait())
            left = ends - asyncio.get_running_loop().time()
            try:
                done, _ = await asyncio.wait(
                    {active.task, moved}, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                moved.cancel()
            if active.latest is not None:
                await told(active.latest)
            if not done:
                return

    async def stop(self, name: str, patience: float) -> None:
        """Buy nothing more, finish what is paid for within `patience` seconds, then end at once."""
        active = self._known.get(name)
        if active is None or active.task is None or not active.running:
            return
        active.stop.interrupt()
        done, _ = await asyncio.wait({active.task}, timeout=patience)
        if not done:
            if active.stop.task is not None:
                active.stop.interrupt()
            else:
                active.task.cancel()
            await asyncio.wait({active.task})

    async def close(self) -> None:
        """Stop all of them, gently at first; every run can be resumed."""
        await asyncio.gather(*(self.stop(name, 5.0) for name in list(self._known)))


async def _work(active: Active, begin: Callable[[], Awaitable[Ended]]) -> None:
    """An audit to its end; an expected failure is kept for whoever asks."""
    try:
        ended = await begin()
        active.error = ended.error
    except BlackboxDiffError as error:
        active.error = error
    finally:
        active.changed.set()
