"""Where a fleet's audits run: in this process by default, or on Dask's workers where one machine is outgrown.

An engine only runs jobs. What is bought, in which order and for how much is decided by the driver in schedule.py,
so that both engines buy the same.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from hashlib import sha256
from types import TracebackType
from typing import Any, Protocol

from blackbox_diff.errors import ConfigError
from blackbox_diff.fleet.job import Job, audit_one
from blackbox_diff.fleet.rows import Row

DASK_HINT = "pip install 'blackbox-diff[dask]'"
SELDOM = {  # Dask looks after tasks of milliseconds; ours take minutes, and its rhythm is 15% of a processor
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}
ANY_PORT = {"dashboard_address": "127.0.0.1:0"}  # of the scheduler's pages, which it warns of where 8787 is taken


class Engine(Protocol):
    """Runs jobs; an async context manager."""

    async def __aenter__(self) -> Engine: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    async def run(self, job: Job) -> Row: ...


async def audit(job: Job) -> Row:
    """The audit where its run lies: in the fleet's directory, or moved here from the fleet's URL and back."""
    if job.home is None:
        return await audit_one(job)
    from blackbox_diff.fleet.away import audit_away

    return await audit_away(job)


def work(job: Job) -> Row:
    """`audit` for a worker without an event loop."""
    return asyncio.run(audit(job))


class LocalEngine:
    """Audits as tasks of this process's event loop: they wait for endpoints most of the time."""

    async def __aenter__(self) -> LocalEngine:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def run(self, job: Job) -> Row:
        return await audit(job)


class DaskEngine:
    """Audits as tasks of Dask's workers: of a cluster of this machine's own, or of a scheduler's.

    A worker that dies costs what was in flight: Dask gives the task to another (at most three times, its
    `distributed.scheduler.allowed-failures`), which opens the run file and goes on. Worker and driver must reach
    the fleet's directory under the same path, or it is a URL. Raises ConfigError where Dask is missing or nobody
    answers.
    """

    def __init__(self, scheduler: str | None, workers: int) -> None:
        self._scheduler, self._workers = scheduler, workers
        self._opened = AsyncExitStack()
        self._client: Any = None

    async def __aenter__(self) -> DaskEngine:
        try:
            import dask
            from distributed import Client, LocalCluster
        except ImportError:
            raise ConfigError(f"--engine dask: Dask is not installed: {DASK_HINT}") from None
        async with AsyncExitStack() as opened:
            address: Any = self._scheduler
            if address is None:
                opened.enter_context(dask.config.set(SELDOM))
                address = await opened.enter_async_context(
                    LocalCluster(
                        n_workers=self._workers,
                        threads_per_worker=1,
                        asynchronous=True,
                        dashboard_address=None,
                        scheduler_kwargs=ANY_PORT,
                    )
                )
            try:
                client = Client(address, asynchronous=True, timeout=10, set_as_default=False)
                self._client = await opened.enter_async_context(client)
            except (OSError, TimeoutError, ValueError) as error:
                raise ConfigError(f"--scheduler: {self._scheduler}: can't connect: {error}") from None
            self._opened = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    async def run(self, job: Job) -> Row:
        row: Row = await self._client.submit(work, job, key=key_of(job), pure=False)
        return row


def key_of(job: Job) -> str:
    """A task's name in Dask, which takes two tasks of one name for one: also those of two fleets' drivers."""
    return f"audit-{job.name}-{sha256(job.run.encode()).hexdigest()[:16]}"
