"""Who works next where several batches are at work: the one that is waited for, then the older one.

Without it a round's scores queue behind all draws of the next round, both end together, and every slot is empty
while the run looks at them and decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from heapq import heappop, heappush
from itertools import count


class Turns:
    """Room for `room` works at once; where there is none, the lowest rank goes first, in order of arrival."""

    def __init__(self, room: int) -> None:
        self._free = room
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrival = count()

    @asynccontextmanager
    async def turn(self, rank: int) -> AsyncIterator[None]:
        """Held while one work is done."""
        if self._free:
            self._free -= 1
        else:
            given = asyncio.get_running_loop().create_future()
            heappush(self._waiting, (rank, next(self._arrival), given))
            try:
                await given
            except asyncio.CancelledError:
                if given.done() and not given.cancelled():  # the turn was given, and isn't used
                    self._pass_on()
                raise
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            given = heappop(self._waiting)[2]
            if not given.done():
                given.set_result(None)
                return
        self._free += 1
