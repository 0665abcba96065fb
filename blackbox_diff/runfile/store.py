"""The run file: one SQLite database in the run's directory, and the only module that touches it.

Invariants:
    A call's row is on disk before its request is sent, and its raw reply and settlement are on disk, in
    one transaction, before anything else is done with the reply.
    Derived rows (completions, scores) can be thrown away and rebuilt from the raw replies.
    Every row that is written is digested in the same transaction (runfile.chain).
    One process writes at a time; a lock left by a dead process does not count.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType

from blackbox_diff.errors import RunFileError
from blackbox_diff.records import (
    Alternatives,
    Call,
    Completion,
    Json,
    Lost,
    RawReply,
    ReferenceScore,
    Refusal,
    Sample,
)
from blackbox_diff.runfile import encoding, files, lists, schema, sql
from blackbox_diff.runfile.chain import Chain
from blackbox_diff.runfile.encoding import DamagedError
from blackbox_diff.runfile.rows import Rows
from blackbox_diff.runfile.state import State, rows_of
from blackbox_diff.runfile.writer import Statement, Writer


class Store(Rows):
    """An open run. Use as a context manager: leaving it commits what is queued and frees the lock."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, writer: Writer | None, resources: ExitStack
    ) -> None:
        """Takes over `resources`, which are let go when the store is closed."""
        super().__init__(path, connection)
        self._last_call = self.last_call()
        self._numbering = lists.Numbering(self.vocabulary() if writer is not None else ())
        self._writer = writer
        self._resources = resources.pop_all()

    # Opening and closing

    @classmethod
    def create(cls, path: Path, manifest: Mapping[str, Json]) -> Store:
        """A new run in directory `path`. Raises RunFileError when there is one already."""
        path = Path(path)
        file = path / files.FILE
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFileError(
                f"{path}: can't create the run's directory: {error.strerror}: give another --out"
            ) from None
        with _opening(file, reading=False) as resources:
            resources.enter_context(files.locked(path))
            connection = resources.enter_context(closing(files.connect(file)))
            if files.is_complete(connection):
                raise RunFileError(f"{path}: holds a run already: `resume {path}`, or give another --out")
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise RunFileError(f"{file}: is another program's database: give another --out")
            # The format number and the manifest come with the tables or not at all.
            connection.execute("BEGIN IMMEDIATE")
            for statement in schema.statements():
                connection.execute(statement)
            chain = Chain(connection)
            connection.execute("INSERT INTO meta VALUES ('manifest', ?)", (encoding.dumps(dict(manifest)),))
            chain.append()
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {schema.FORMAT}")
            connection.execute("COMMIT")
            return cls._to_write(path, connection, chain, resources)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Store:
        """The run in directory `path`; calls that a dead process left in flight are settled as unknown.

        read_only: takes no lock and changes nothing, so that a run in progress, or one on a read-only disk, can be
        looked at.
        Raises RunFileError for what is not a run, is of a newer format, is damaged, or is in use.
        """
        path = Path(path)
        file = path / files.FILE
        with _opening(file, reading=read_only) as resources:
            if not file.is_file():
                raise files.not_a_run(path)
            if read_only:
                connection = files.connect_to_read(file, resources)
                files.check_format(connection, file)
                return cls(path, connection, None, resources)
            resources.enter_context(files.locked(path))
            connection = resources.enter_context(closing(files.connect(file)))
            files.check_format(connection, file)
            chain = files.upgrade(connection)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(sql.LOSE_ALL, (time.time(),))
            chain.append()
            connection.execute("COMMIT")
            return cls._to_write(path, connection, chain, resources)

    @classmethod
    def _to_write(cls, path: Path, connection: sqlite3.Connection, chain: Chain, resources: ExitStack) -> Store:
        reading = resources.enter_context(closing(files.connect(path / files.FILE)))
        writer = Writer(connection, str(path / files.FILE), chain.append)
        resources.callback(writer.close)
        return cls(path, reading, writer, resources)

    def close(self) -> None:
        self._writer = None
        self._resources.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def set_state(self, state: State) -> None:
        """Write the fields that differ from those stored, in one transaction; stored when it returns."""
        statements = [
            ("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"state.{name}", encoding.dumps(value)))
            for name, value in rows_of(state, self.state)
        ]
        if statements:
            self._writing().submit(lambda: statements).result()

    # The ledger

    async def reserve_call(
        self, role: str, sample_id: str, attempt: int, call: Call, reserved: tuple[int, int, int | None]
    ) -> int:
        """Write the row of a call that is about to be sent; returns its id once it is on disk."""
        self._last_call += 1
        call_id = self._last_call

        def job() -> list[Statement]:
            values = (
                call_id, role, sample_id, attempt, *reserved, call.digest(), call.path, call.url,
                call.json, time.time(),
            )  # fmt: skip
            return [(sql.RESERVE, values)]

        await self._writing().write(job)
        return call_id

    async def settle_call(
        self, call_id: int, reply: RawReply, settled: tuple[int, int, int | None], *, state: str = "settled",
        accepted: bool, flag: str | None = None, error: str | None = None,
    ) -> None:  # fmt: skip
        """Raw reply and settlement, in one transaction, on disk when it returns."""

        def job() -> list[Statement]:
            values = (
                state, *settled, flag, error, time.time(), accepted, *encoding.pack_reply(reply), call_id
            )  # fmt: skip
            return [(sql.SETTLE, values)]

        await self._writing().write(job)

    async def lose_call(self, call_id: int, state: str, error: str) -> None:
        """Close a call that has no reply: "unknown" costs its reservation, "released" nothing."""
        await self._writing().write(lambda: [_lost(call_id, state, error)])

    def lose_call_later(self, call_id: int, state: str, error: str) -> None:
        """Like lose_call, for a task that is being cancelled and can't wait: on disk by `close`.

        A task may be cancelled after `close`, say on a full disk: its call stays reserved, for `resume` to settle.
        """
        if self._writer is not None:
            self._writer.submit(lambda: [_lost(call_id, state, error)])

    # Derived rows

    async def put_completion(
        self, sample: Sample, origin: str, outcome: Completion | Refusal | Lost, call_id: int | None
    ) -> None:
        """Decide a sample. What was decided stays, except that failed may become something else."""
        await self._writing().write(
            lambda: [
                (sql.PUT_COMPLETION, encoding.completion_row(sample, origin, outcome, call_id)),
                *self._numbering.statements(sample.id, origin, lists.OWN, _lists(outcome)),
            ]
        )

    async def put_score(
        self, sample_id: str, origin: str, reference: str, score: ReferenceScore | Refusal | Lost,
        call_id: int | None,
    ) -> None:  # fmt: skip
        """Like put_completion, for a completion's score under `reference`."""
        await self._writing().write(
            lambda: [
                (sql.PUT_SCORE, encoding.score_row(sample_id, origin, reference, score, call_id)),
                *self._numbering.statements(sample_id, origin, reference, _lists(score)),
            ]
        )

    async def put_lists(self, sample_id: str, origin: str, reference: str | None, found: Alternatives) -> None:
        """Store the alternatives of a completion or score that was stored without them."""
        name = lists.OWN if reference is None else reference
        await self._writing().write(lambda: self._numbering.statements(sample_id, origin, name, found))

    def _writing(self) -> Writer:
        if self._writer is None:
            raise RunFileError(f"{self.path}: opened for reading only")
        return self._writer


@contextmanager
def _opening(file: Path, *, reading: bool) -> Iterator[ExitStack]:
    """What an opening holds is let go where it fails, and the failure is said in one line."""
    with ExitStack() as resources:
        try:
            yield resources
        except DamagedError as error:
            raise files.damaged(file.parent, str(error)) from None
        except (sqlite3.Error, OSError) as error:
            raise files.open_error(file, error, reading=reading) from None


def _lists(found: object) -> Alternatives | None:
    return found.alternatives if isinstance(found, Completion | ReferenceScore) else None


def _lost(call_id: int, state: str, error: str) -> Statement:
    return (sql.UNKNOWN if state == "unknown" else sql.RELEASE, (error, time.time(), call_id))
