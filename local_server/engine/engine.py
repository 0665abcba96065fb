"""The one thread that computes, and the bounded queue in front of it.

Exactly one: the models' weights and caches are shared, and more threads would only fight for the cores
that a single matrix product already uses.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

from local_server.engine.jobs import Generate, Score
from local_server.engine.scheduler import Scheduler
from local_server.errors import RequestError
from local_server.model.load import LoadedModel


class Engine:
    """Owns the inference thread. `submit` may be called from any thread.

    max_batch: rows written at once, per base model. max_waiting: jobs accepted and not finished.
    """

    def __init__(self, models: dict[str, LoadedModel], max_batch: int, max_waiting: int = 2048) -> None:
        self.schedulers = {name: Scheduler(loaded, max_batch) for name, loaded in models.items()}
        self.inbox: queue.SimpleQueue[tuple[str, Generate | Score] | None] = queue.SimpleQueue()
        self.max_waiting = max_waiting
        self.waiting = 0
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self.thread.start()

    def submit(self, model: str, jobs: Sequence[Generate | Score]) -> None:
        """Queue the jobs of one request, all or none.

        Raises RequestError: 503 with Retry-After when they do not fit now, 400 when they never will.
        """
        if len(jobs) > self.max_waiting:
            raise RequestError(f"{len(jobs)} texts in one request; at most {self.max_waiting}", param="prompt")
        with self.lock:
            if self.waiting + len(jobs) > self.max_waiting:
                raise RequestError("the server's queue is full; try again soon", status=503, retry_after=1)
            self.waiting += len(jobs)
        for job in jobs:
            job.future.add_done_callback(self._done)
            self.inbox.put((model, job))

    def load(self) -> dict[str, dict[str, int]]:
        """Per base model: rows being written, and jobs that wait for their turn. A glance, not a snapshot."""
        return {
            name: {"rows": len(scheduler.live), "waiting": len(scheduler.waiting) + len(scheduler.scores)}
            for name, scheduler in self.schedulers.items()
        }

    def close(self) -> None:
        """End the thread; jobs that have not finished fail."""
        self.inbox.put(None)
        self.thread.join(timeout=30)

    def _done(self, _: object) -> None:
        with self.lock:
            self.waiting -= 1

    def _run(self) -> None:
        while self._receive(wait=not any(scheduler.busy for scheduler in self.schedulers.values())):
            for scheduler in self.schedulers.values():
                if scheduler.busy:
                    try:
                        scheduler.work()
                    except Exception as error:  # whatever it is, every job ends, and the thread goes on
                        scheduler.isolate(error)
        for scheduler in self.schedulers.values():
            scheduler.fail(RequestError("the server is shutting down", status=503))

    def _receive(self, wait: bool) -> bool:
        """Move what has come in to its scheduler; False when the engine is to end."""
        while True:
            try:
                item = self.inbox.get(block=wait)
            except queue.Empty:
                return True
            if item is None:
                return False
            self.schedulers[item[0]].add(item[1])
            wait = False
