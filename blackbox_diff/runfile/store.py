"""The run file: one SQLite database in the run's directory, and the only module that touches it.

Invariants:
    A call's row is on disk before its request is sent, and its raw reply and settlement are on disk, in
    one transaction, before anything else is done with the reply.
    Derived rows (completions, scores) can be thrown away and rebuilt from the raw replies.
    One process writes at a time; a lock left by a dead process does not count.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from blackbox_diff.errors import RunFileError
from blackbox_diff.records import (
    Alternatives,
    Call,
    Completion,
    Json,
    Listed,
    Lost,
    RawReply,
    ReferenceScore,
    Refusal,
    Sample,
    ScoredCompletion,
)
from blackbox_diff.runfile import encoding, files, lists, schema, sql
from blackbox_diff.runfile.writer import Statement, Writer


@dataclass(frozen=True, slots=True)
class Spent:
    """What a set of calls costs, in whole tokens and picodollars; `usd` is None where no price is known.

    Calls in flight and calls of unknown fate count with their reservation; calls that never reached
    the endpoint don't count.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    pico: int | None = None
    unknown: int = 0
    excess_input: int = 0  # the most input tokens that a call was billed above its reservation
    overbilled: int = 0  # calls billed for more output than was asked for

    @property
    def usd(self) -> float | None:
        return None if self.pico is None else self.pico / 1e12


class Store:
    """An open run. Use as a context manager: leaving it commits what is queued and frees the lock."""

    def __init__(self, path: Path, connection: sqlite3.Connection, writer: Writer | None, lock: IO[str] | None):
        self.path = path
        self._read = connection
        self._writer = writer
        self._lock = lock
        row = connection.execute("SELECT max(id) FROM calls").fetchone()
        self._last_call: int = row[0] or 0
        # A run of format 1 that is only read has no such table.
        self._has_lists = connection.execute("PRAGMA user_version").fetchone()[0] > 1
        self._tokens: tuple[bytes, ...] = ()
        self._numbering = lists.Numbering(lists.vocabulary(connection) if writer is not None else ())

    # Opening and closing

    @classmethod
    def create(cls, path: Path, manifest: Mapping[str, Json]) -> Store:
        """A new run in directory `path`. Raises RunFileError when there is one already."""
        path = Path(path)
        file = path / files.FILE
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = files.take_lock(path)
        except OSError as error:
            raise RunFileError(
                f"{path}: can't create the run's directory: {error.strerror}: give another --out"
            ) from None
        try:
            connection = files.connect(file)
            if files.is_complete(connection):
                raise RunFileError(f"{path}: holds a run already: `resume {path}`, or give another --out")
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise RunFileError(f"{file}: is another program's database: give another --out")
            # The format number and the manifest come with the tables or not at all.
            connection.execute("BEGIN IMMEDIATE")
            for statement in schema.DDL:
                connection.execute(statement)
            connection.execute("INSERT INTO meta VALUES ('manifest', ?)", (encoding.dumps(dict(manifest)),))
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {schema.FORMAT}")
            connection.execute("COMMIT")
            return cls(path, files.connect(file), Writer(connection, str(file)), lock)
        except sqlite3.Error as error:
            lock.close()
            raise files.open_error(file, error) from None
        except BaseException:
            lock.close()
            raise

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Store:
        """The run in directory `path`; calls that a dead process left in flight are settled as unknown.

        read_only: takes no lock and changes nothing, so a run in progress can be looked at.
        Raises RunFileError for what is not a run, is of a newer format, or is in use.
        """
        path = Path(path)
        file = path / files.FILE
        if not file.is_file():
            raise RunFileError(f"{path}: not a run (no {files.FILE} in it): give the directory that --out named")
        lock = None if read_only else files.take_lock(path)
        try:
            connection = files.connect(file, read_only=read_only)
            files.check_format(connection, file)
            if read_only:
                return cls(path, connection, None, None)
            files.upgrade(connection)
            store = cls(path, files.connect(file), Writer(connection, str(file)), lock)
            store._settle_lost_calls()
            return store
        except sqlite3.Error as error:
            if lock:
                lock.close()
            raise files.open_error(file, error) from None
        except BaseException:
            if lock:
                lock.close()
            raise

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._read.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if isinstance(error, encoding.DamagedError):
            raise RunFileError(f"{self.path}: damaged: {error}: restore it from a copy") from None

    def _settle_lost_calls(self) -> None:
        sql = """UPDATE calls SET state = 'unknown', input = reserved_input, output = reserved_output,
                 pico = reserved_pico, error = 'process_died', settled_at = ? WHERE state = 'reserved'"""
        self._now(sql, (time.time(),))

    # Manifest and state

    @property
    def manifest(self) -> dict[str, Any]:
        """What was given to `create`; never changes."""
        value: dict[str, Any] = encoding.loads(self._one("SELECT value FROM meta WHERE key = 'manifest'")[0])
        return value

    def state(self, key: str, default: Json = None) -> Json:
        row = self._read.execute("SELECT value FROM meta WHERE key = ?", (f"state.{key}",)).fetchone()
        return default if row is None else encoding.loads(row[0])

    def set_state(self, key: str, value: Json) -> None:
        """Stored when it returns."""
        self._now("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"state.{key}", encoding.dumps(value)))

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
        """Like lose_call, for a task that is being cancelled and can't wait: on disk by `close`."""
        self._writing().submit(lambda: [_lost(call_id, state, error)])

    def bought(self, role: str, sample_id: str, digest: str, place: int = 0) -> tuple[int, RawReply] | None:
        """The accepted reply number `place` (from 0) to the very same request for this sample, if stored."""
        row = self._read.execute(
            """SELECT id, status, headers, reply, seconds FROM calls WHERE sample_id = ? AND role = ?
               AND accepted AND digest = ? ORDER BY id LIMIT 1 OFFSET ?""",
            (sample_id, role, digest, place),
        ).fetchone()
        return None if row is None else (row["id"], encoding.unpack_reply(row))

    def spent(self, role: str | None = None) -> Spent:
        """Totals of one role's calls, or of all."""
        row = self._one(sql.SPENT + ("" if role is None else " AND role = ?"), () if role is None else (role,))
        calls, input_tokens, output_tokens, high, low, *rest = row
        return Spent(calls, input_tokens, output_tokens, None if high is None else (high << 32) + low, *rest)

    def calls(self, role: str | None = None) -> Iterator[encoding.StoredCall]:
        """The whole ledger in order, with requests and replies."""
        where, values = ("", ()) if role is None else (" WHERE role = ?", (role,))
        for row in self._read.execute(f"SELECT * FROM calls{where} ORDER BY id", values):
            yield encoding.stored_call(row)

    def call(self, call_id: int) -> encoding.StoredCall | None:
        row = self._read.execute("SELECT * FROM calls WHERE id = ?", (call_id,)).fetchone()
        return None if row is None else encoding.stored_call(row)

    def unparsed(self) -> list[tuple[int, str, str]]:
        """(call id, role, sample id) of accepted replies that no completion or score was made of yet."""
        rows = self._read.execute(
            """SELECT id, role, sample_id FROM calls WHERE accepted AND sample_id != ''
               AND id NOT IN (SELECT call_id FROM completions WHERE call_id IS NOT NULL)
               AND id NOT IN (SELECT call_id FROM scores WHERE call_id IS NOT NULL) ORDER BY id"""
        )
        return [tuple(row) for row in rows]

    # Derived rows

    async def put_completion(
        self, sample: Sample, origin: str, outcome: Completion | Refusal | Lost, call_id: int | None
    ) -> None:
        """Decide a sample. What was decided stays, except that unpaid and failed may become something else."""
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

    def outcome(self, sample_id: str, origin: str) -> Completion | Refusal | None:
        """What was decided about a sample; None where it is still to be bought, or failed and may be again."""
        row = self._read.execute(f"{_COMPLETION} AND {_DECIDED}", (sample_id, origin)).fetchone()
        found = None if row is None else encoding.outcome_of(row)
        return None if isinstance(found, Lost) else found

    def outcomes(self, origin: str) -> set[str]:
        """Ids of the samples that are decided: completed, or refused for good."""
        rows = self._read.execute(f"SELECT sample_id FROM completions WHERE origin = ? AND {_DECIDED}", (origin,))
        return {row[0] for row in rows}

    def has_score(self, sample_id: str, origin: str, reference: str) -> bool:
        """Whether the completion was scored, or refused for good, under `reference`."""
        return (
            self._read.execute(
                """SELECT 1 FROM scores WHERE sample_id = ? AND origin = ? AND reference = ?
                   AND outcome != 'failed'""",
                (sample_id, origin, reference),
            ).fetchone()
            is not None
        )

    def references(self) -> list[str]:
        """Labels of the references that scored something, in order of first use in the ledger."""
        rows = self._read.execute(
            "SELECT reference FROM scores WHERE outcome = 'scored' GROUP BY reference ORDER BY min(call_id), 1"
        )
        return [row[0] for row in rows]

    def scored(self, origin: str = "target") -> Iterator[ScoredCompletion]:
        """Completions with at least one score, by index within the arm and then by id."""
        for sample_id in self._ids(origin, "completed"):
            row = self._one(_COMPLETION, (sample_id, origin))
            completion = encoding.outcome_of(row)
            scores = {name: score for name, score in self.scores(sample_id, origin).items()
                      if isinstance(score, ReferenceScore)}  # fmt: skip
            if isinstance(completion, Completion) and scores:
                yield ScoredCompletion(encoding.sample_of(row), completion, scores)

    def decided(self, origin: str = "target") -> Iterator[tuple[Sample, Completion | Refusal | Lost, int | None]]:
        """Every sample with its outcome and the call it was read from, in the order of `scored`."""
        for sample_id in self._ids(origin):
            row = self._one(_COMPLETION, (sample_id, origin))
            yield encoding.sample_of(row), encoding.outcome_of(row), row["call_id"]

    def scores(self, sample_id: str, origin: str) -> dict[str, ReferenceScore | Refusal | Lost]:
        """What each reference said about one completion, by label."""
        rows = self._read.execute(
            "SELECT * FROM scores WHERE sample_id = ? AND origin = ? ORDER BY reference", (sample_id, origin)
        )
        return {row["reference"]: encoding.score_of(row) for row in rows}

    def alternatives(self, sample_id: str, origin: str, reference: str | None = None) -> Alternatives | None:
        """What was listed at the positions of a completion, by the model that wrote it or by `reference`."""
        if not self._has_lists:
            return None
        row = self._one(sql.LISTS, (sample_id, origin, lists.OWN if reference is None else reference))
        return None if row is None else lists.unpack(row[0], self._vocabulary)

    async def put_lists(
        self, sample_id: str, origin: str, reference: str | None, found: Alternatives
    ) -> None:  # fmt: skip
        """Store the alternatives of a completion or score that was stored without them."""
        name = lists.OWN if reference is None else reference
        await self._writing().write(lambda: self._numbering.statements(sample_id, origin, name, found))

    def all_lists_are_kept(self) -> None:
        self.set_state(schema.UPGRADED_FROM, None)

    def keeps_all_lists(self) -> bool:
        """Whether every reply's alternatives were stored: not where the run was begun in format 1."""
        return self._has_lists and self.state(schema.UPGRADED_FROM) is None

    def listed(self, origin: str, reference: str) -> Iterator[Listed]:
        """The completions for which both models listed alternatives, prefill by prefill, read one by one."""
        rows = self._read.execute(
            "SELECT sample_id FROM completions WHERE origin = ? AND outcome = 'completed' ORDER BY prefill, 1",
            (origin,),
        )
        for sample_id in [row[0] for row in rows]:
            own, other = self.alternatives(sample_id, origin), self.alternatives(sample_id, origin, reference)
            if own is not None and other is not None:
                row = self._one(_COMPLETION, (sample_id, origin))
                yield Listed(encoding.sample_of(row), encoding.unpack_text(row["text"]), own, other)

    def score_call(self, sample_id: str, origin: str, reference: str) -> int | None:
        """Id of the call that a score was read from."""
        where = "sample_id = ? AND origin = ? AND reference = ?"
        found: int | None = self._one(f"SELECT call_id FROM scores WHERE {where}", (sample_id, origin, reference))[
            0
        ]
        return found

    def origins(self) -> list[str]:
        """Who wrote the completions of this run: "target" and references' labels."""
        return [row[0] for row in self._read.execute("SELECT DISTINCT origin FROM completions ORDER BY 1")]

    def counts(self, origin: str = "target") -> dict[tuple[str, str, str, str | None], int]:
        """How many samples ended how: (source, framing, outcome, reason) -> number."""
        rows = self._read.execute(
            """SELECT source, framing, outcome, reason, count(*) FROM completions WHERE origin = ?
               GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4""",
            (origin,),
        )
        return {(row[0], row[1], row[2], row[3]): row[4] for row in rows}

    # Plumbing

    def _vocabulary(self, least: int) -> tuple[bytes, ...]:
        """The run's tokens by number; read again where a run in progress has got new ones."""
        if least > len(self._tokens):
            self._tokens = lists.vocabulary(self._read)
        return self._tokens

    def _ids(self, origin: str, outcome: str | None = None) -> list[str]:
        rows = self._read.execute(
            "SELECT sample_id FROM completions WHERE origin = ? AND (? IS NULL OR outcome = ?)",
            (origin, outcome, outcome),
        )
        return sorted((row[0] for row in rows), key=lambda name: (_index(name), name))

    def _one(self, sql: str, values: tuple[Any, ...] = ()) -> Any:
        return self._read.execute(sql, values).fetchone()

    def _now(self, sql: str, values: tuple[Any, ...]) -> None:
        self._writing().submit(lambda: [(sql, values)]).result()

    def _writing(self) -> Writer:
        if self._writer is None:
            raise RunFileError(f"{self.path}: opened for reading only")
        return self._writer


_COMPLETION = "SELECT * FROM completions WHERE sample_id = ? AND origin = ?"
_DECIDED = "outcome IN ('completed', 'refused')"


def _lists(found: object) -> Alternatives | None:
    return found.alternatives if isinstance(found, Completion | ReferenceScore) else None


def _lost(call_id: int, state: str, error: str) -> Statement:
    return (sql.UNKNOWN if state == "unknown" else sql.RELEASE, (error, time.time(), call_id))


def _index(sample_id: str) -> int:
    """The number that a sample id ends in: its place within its arm."""
    found = re.search(r"(\d+)$", sample_id)
    return int(found[1]) if found else 0
