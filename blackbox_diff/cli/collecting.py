"""How a command runs a collecting coroutine: progress on stderr, and signals that stop it gently."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable
from typing import Protocol

from blackbox_diff.cli.exit_codes import INTERRUPTED, exit_code
from blackbox_diff.report.progress import live_view
from blackbox_diff.run.collect import Stop
from blackbox_diff.run.pipeline import Ended
from blackbox_diff.run.progress import Listener, Notice, Progress

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Collecting(Protocol):
    """A command of run/commands.py with its arguments filled in."""

    def __call__(self, *, listener: Listener, stop: Stop) -> Awaitable[Ended]: ...


def collected(begin: Collecting) -> int:
    """Run `begin` to its end and return the exit code.

    The first SIGINT or SIGTERM buys nothing more and finishes what is paid for; the second stops at once.
    """
    stop = Stop()

    async def run() -> Ended:
        loop = asyncio.get_running_loop()
        with live_view() as view:

            def hear(news: Progress | Notice) -> None:
                view.say(news.text) if isinstance(news, Notice) else view.update(news)

            for number in SIGNALS:
                loop.add_signal_handler(number, stop.interrupt)
            try:
                return await begin(listener=hear, stop=stop)
            finally:
                for number in SIGNALS:
                    loop.remove_signal_handler(number)

    ended = asyncio.run(run())
    if ended.interrupted:
        return INTERRUPTED
    return exit_code(ended.error)
