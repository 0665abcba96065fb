"""Group commit: one thread owns the writing connection, and whatever waits is committed together.

A write is acknowledged only after its transaction has reached the disk (synchronous=FULL), so many
calls in flight share one fsync without any of them being told "stored" too early.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from blackbox_diff.errors import StorageError

Statement = tuple[str, Sequence[Any]]
Job = Callable[[], Sequence[Statement]]
Done = Future[None] | asyncio.Future[None]

MAX_BATCH = 256


class Writer:
    """Runs write jobs in order. A job is a function that gives the statements of one transaction part.

    Packing (JSON, compression) happens inside the job, in the writer's thread. Once a commit has
    failed the writer stays failed: what can't be stored must not be bought.
    """

    def __init__(self, connection: sqlite3.Connection, name: str, before_commit: Callable[[], None]) -> None:
        self._connection = connection
        self._before_commit = before_commit
        self._name = name
        self._queue: queue.SimpleQueue[tuple[Job, Done] | None] = queue.SimpleQueue()
        self._failure: StorageError | None = None
        self._thread = threading.Thread(target=self._run, name="run-file-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Future[None]:
        """Queue `job`; the future is done once it is on disk. Raises StorageError after a failed commit."""
        done: Future[None] = Future()
        self._put(job, done)
        return done

    async def write(self, job: Job) -> None:
        """Like submit, awaited. A cancelled wait does not cancel the write."""
        done = asyncio.get_running_loop().create_future()
        self._put(job, done)
        await done

    def _put(self, job: Job, done: Done) -> None:
        if self._failure is not None:
            raise StorageError(str(self._failure))
        self._queue.put((job, done))

    def close(self) -> None:
        """Finish what is queued."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        running = True
        while running:
            batch: list[tuple[Job, Done]] = []
            item = self._queue.get()
            while item is not None:
                batch.append(item)
                if len(batch) == MAX_BATCH:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            running = item is not None
            if batch:
                self._commit(batch)

    def _commit(self, batch: list[tuple[Job, Done]]) -> None:
        failure = self._failure
        if failure is None:
            try:
                # Packed before BEGIN, so that no lock is held while compressing.
                statements = [statement for job, _ in batch for statement in job()]
                self._connection.execute("BEGIN IMMEDIATE")
                for sql, values in statements:
                    self._connection.execute(sql, values)
                self._before_commit()
                self._connection.execute("COMMIT")
            except Exception as error:
                failure = self._failure = self._give_up(error)
        waiting: dict[asyncio.AbstractEventLoop, list[Done]] = {}
        for _, done in batch:
            if isinstance(done, Future):
                _finish([done], failure)
            else:
                waiting.setdefault(done.get_loop(), []).append(done)
        for loop, those in waiting.items():
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_finish, those, failure)

    def _give_up(self, error: Exception) -> StorageError:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # SQLite rolls back by itself when the file is next opened
        return storage_error(self._name, error)


def _finish(futures: Sequence[Done], failure: StorageError | None) -> None:
    """Wake whoever waits for a transaction, once for all of it."""
    for done in futures:
        if done.done():
            continue  # cancelled
        if failure is None:
            done.set_result(None)
        else:
            done.set_exception(StorageError(str(failure)))


def storage_error(name: str, error: Exception) -> StorageError:
    """One line that says what could not be written and what to do."""
    text = str(error)
    if "malformed" in text or "no such" in text:
        return StorageError(f"{name}: damaged ({text}): restore it from a copy, then `resume` goes on")
    if "full" in text or "disk I/O" in text:
        text, fix = "the disk is full or failing", "free some space"
    else:
        fix = "check the disk and its permissions"
    return StorageError(f"{name}: can't write ({text}); what was stored is intact: {fix}, then `resume` goes on")
