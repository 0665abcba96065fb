"""What a run file holds, read: the ledger, the rows that were derived from it, and the run's state.

A row that can't be read, and a file that can't, is one line: RunFileError with the run's name and what would do.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from blackbox_diff.config.model import AuditConfig
from blackbox_diff.records import (
    Alternatives,
    Completion,
    Json,
    Listed,
    Lost,
    RawReply,
    ReferenceScore,
    Refusal,
    Sample,
    ScoredCompletion,
    Tokens,
)
from blackbox_diff.runfile import chain, encoding, files, lists, schema, sql
from blackbox_diff.runfile.encoding import DamagedError, StoredCall
from blackbox_diff.runfile.state import Manifest, State, manifest_of, state_of

T = TypeVar("T")


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


class Rows:
    """The rows of an open run."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._tokens: tuple[bytes, ...] = ()
        self._format = self._first("PRAGMA user_version", (), _number) or 0

    # The run

    @property
    def manifest(self) -> Manifest:
        """What was given to `create`."""
        found = self._first("SELECT value FROM meta WHERE key = 'manifest'", (), _json)
        if found is None:
            raise files.damaged(self.path, "its manifest is missing")
        return self._decoded(manifest_of, found)

    @property
    def state(self) -> State:
        """Where the run stands."""
        found = dict(self._each("SELECT key, value FROM meta WHERE key LIKE 'state.%'", (), _entry))
        return self._decoded(state_of, found)

    @property
    def config(self) -> AuditConfig:
        """The run's configuration, with what resuming has changed. Raises RunFileError where there is none."""
        found = self.state.config or self.manifest.config
        if found is None:
            raise files.damaged(self.path, "it holds no configuration")
        return found

    # The ledger

    def bought(self, role: str, sample_id: str, digest: str, place: int = 0) -> tuple[int, RawReply] | None:
        """The accepted reply number `place` (from 0) to the very same request for this sample, if stored."""
        return self._first(
            """SELECT id, status, headers, reply, seconds FROM calls WHERE sample_id = ? AND role = ?
               AND accepted AND digest = ? ORDER BY id LIMIT 1 OFFSET ?""",
            (sample_id, role, digest, place),
            lambda row: (row["id"], encoding.unpack_reply(row)),
        )

    def last_call(self) -> int:
        """The highest id of a call; 0 where there is none."""
        return self._first("SELECT coalesce(max(id), 0) FROM calls", (), _number) or 0

    def spent(self, *roles: str) -> Spent:
        """Totals of these roles' calls, or of all."""
        where = f" AND role IN ({', '.join('?' * len(roles))})" if roles else ""
        found = self._first(sql.SPENT + where, roles, _spent)
        assert found is not None  # an aggregate always has a row
        return found

    def calls(self, role: str | None = None) -> Iterator[StoredCall]:
        """The whole ledger in order, with requests and replies."""
        where, values = ("", ()) if role is None else (" WHERE role = ?", (role,))
        return self._each(f"SELECT * FROM calls{where} ORDER BY id", values, encoding.stored_call)

    def call(self, call_id: int) -> StoredCall | None:
        return self._first("SELECT * FROM calls WHERE id = ?", (call_id,), encoding.stored_call)

    # The file and the chain of digests

    def damage(self) -> list[str]:
        """What SQLite finds wrong with the file's pages and indexes, in one line; empty where nothing is."""
        found = self._checked(lambda rows: rows.execute("PRAGMA integrity_check(1)").fetchone()[0])
        return [] if found == "ok" else [f"{files.FILE}: damaged: {' '.join(str(found).split())}"]

    def digest(self) -> str | None:
        """The digest of all that the run holds; None where an older version made it."""
        return self._checked(chain.digest) if self._format >= schema.WITH_CHAIN else None

    def digested_since(self) -> int:
        """The format that the file had before its rows were digested; 0 where they were from the first on."""
        return self._checked(chain.begun_in) or 0

    def had_digest(self, digest: str) -> bool:
        """Whether this was the run's digest at some time, or is now."""
        return self._format >= schema.WITH_CHAIN and self._checked(lambda rows: chain.holds(rows, digest))

    def broken(self) -> list[str]:
        """What does not fit the digests, one line each."""
        return self._checked(lambda rows: list(chain.broken(rows)))

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is read in the block is of one moment, also where another process goes on writing."""
        self._checked(lambda rows: rows.execute("BEGIN"))
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    # Derived rows

    def outcome(self, sample_id: str, origin: str) -> Completion | Refusal | None:
        """What was decided about a sample; None where it is still to be bought, or failed and may be again."""
        found = self._first(f"{_COMPLETION} AND {_IS_DECIDED}", (sample_id, origin), encoding.outcome_of)
        return None if isinstance(found, Lost) else found

    def sample(self, sample_id: str, origin: str) -> Sample | None:
        """What was asked for, where something became of it."""
        return self._first(_COMPLETION, (sample_id, origin), encoding.sample_of)

    def outcomes(self, origin: str) -> set[str]:
        """Ids of the samples that are decided: completed, or refused for good."""
        return set(
            self._each(f"SELECT sample_id FROM completions WHERE origin = ? AND {_IS_DECIDED}", (origin,), _name)
        )

    def has_score(self, sample_id: str, origin: str, reference: str) -> bool:
        """Whether the completion was scored, or refused for good, under `reference`."""
        return self._first(f"{_SCORE} AND outcome != 'failed'", (sample_id, origin, reference), bool) is not None

    def references(self) -> list[str]:
        """Labels of references that scored something, by first use in the ledger; copied rows alone come last."""
        return list(
            self._each(
                """SELECT reference FROM scores WHERE outcome = 'scored'
                   GROUP BY reference ORDER BY min(call_id) IS NULL, min(call_id), 1""",
                (),
                _name,
            )
        )

    def scored(self, origin: str = "target") -> Iterator[ScoredCompletion]:
        """Completions with at least one score, by index within the arm and then by id."""
        for sample, completion, _ in self.decided(origin):
            if isinstance(completion, Completion):
                found = self.scores(sample.id, origin)
                scores = {name: score for name, score in found.items() if isinstance(score, ReferenceScore)}
                if any(_length(score.tokens) != _length(completion.tokens) for score in scores.values()):
                    raise files.damaged(self.path, f"a score of {sample.id} is of another text")
                if scores:
                    yield ScoredCompletion(sample, completion, scores)

    def decided(self, origin: str = "target") -> Iterator[tuple[Sample, Completion | Refusal | Lost, int | None]]:
        """Every sample with its outcome and the call it was read from, in the order of `scored`."""
        for sample_id in self._ids(origin):
            found = self._first(_COMPLETION, (sample_id, origin), _decided)
            if found is not None:
                yield found

    def scores(self, sample_id: str, origin: str) -> dict[str, ReferenceScore | Refusal | Lost]:
        """What each reference said about one completion, by label."""
        return dict(
            self._each(
                "SELECT * FROM scores WHERE sample_id = ? AND origin = ? ORDER BY reference",
                (sample_id, origin),
                lambda row: (row["reference"], encoding.score_of(row)),
            )
        )

    def score_call(self, sample_id: str, origin: str, reference: str) -> int | None:
        """Id of the call that a score was read from."""
        return self._first(_SCORE, (sample_id, origin, reference), lambda row: row["call_id"])

    def alternatives(self, sample_id: str, origin: str, reference: str | None = None) -> Alternatives | None:
        """What was listed at the positions of a completion, by the model that wrote it or by `reference`."""
        if self._format < schema.WITH_ALTERNATIVES:
            return None
        values = (sample_id, origin, lists.OWN if reference is None else reference)
        return self._first(sql.LISTS, values, lambda row: lists.unpack(row[0], self._vocabulary))

    def keeps_all_lists(self) -> bool:
        """Whether every reply's alternatives were stored: not where the run was begun in format 1."""
        return self._format >= schema.WITH_ALTERNATIVES and self.state.begun_in_format is None

    def listed(self, origin: str, reference: str) -> Iterator[Listed]:
        """The completions for which both models listed alternatives, prefill by prefill, read one by one."""
        names = self._each(
            "SELECT sample_id FROM completions WHERE origin = ? AND outcome = 'completed' ORDER BY prefill, 1",
            (origin,),
            _name,
        )
        for sample_id in list(names):
            own, other = self.alternatives(sample_id, origin), self.alternatives(sample_id, origin, reference)
            if own is not None and other is not None:
                written = self._first(sql.WRITTEN, (sample_id, origin), _written)
                if written is not None:
                    yield Listed(*written, own, other)

    def vocabulary(self) -> tuple[bytes, ...]:
        """The bytes of every token that is listed, by the run's number of it."""
        return tuple(self._each("SELECT bytes FROM tokens ORDER BY number", (), _bytes))

    def calls_in_use(self) -> set[int]:
        """Ids of the calls that a completion or a score was read from."""
        both = "SELECT call_id FROM completions UNION SELECT call_id FROM scores"
        return set(self._each(f"SELECT * FROM ({both}) WHERE call_id IS NOT NULL", (), _number))

    def origins(self) -> list[str]:
        """Who wrote the completions of this run: "target" and references' labels."""
        return list(self._each("SELECT DISTINCT origin FROM completions ORDER BY 1", (), _name))

    def counts(self, origin: str = "target") -> dict[tuple[str, str, str, str | None], int]:
        """How many samples ended how: (source, framing, outcome, reason) -> number."""
        return dict(
            self._each(
                """SELECT source, framing, outcome, reason, count(*) FROM completions WHERE origin = ?
                   GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4""",
                (origin,),
                lambda row: ((row[0], row[1], row[2], row[3]), row[4]),
            )
        )

    # Plumbing

    def _vocabulary(self, least: int) -> tuple[bytes, ...]:
        """The run's tokens by number; read again where a run in progress has got new ones."""
        if least > len(self._tokens):
            self._tokens = self.vocabulary()
        return self._tokens

    def _ids(self, origin: str) -> list[str]:
        found = self._each("SELECT sample_id FROM completions WHERE origin = ?", (origin,), _name)
        return sorted(found, key=lambda name: (_index(name), name))

    def _each(self, statement: str, values: tuple[Any, ...], decode: Callable[[sqlite3.Row], T]) -> Iterator[T]:
        try:
            for row in self._connection.execute(statement, values):
                yield decode(row)
        except (sqlite3.Error, DamagedError) as error:
            raise files.unreadable(self.path, error) from None

    def _first(self, statement: str, values: tuple[Any, ...], decode: Callable[[sqlite3.Row], T]) -> T | None:
        return next(self._each(statement, values, decode), None)

    def _checked(self, read: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return read(self._connection)
        except (sqlite3.Error, DamagedError) as error:
            raise files.unreadable(self.path, error) from None

    def _decoded(self, decode: Callable[[Any], T], value: object) -> T:
        try:
            return decode(value)
        except DamagedError as error:
            raise files.unreadable(self.path, error) from None


_COMPLETION = "SELECT * FROM completions WHERE sample_id = ? AND origin = ?"
_SCORE = "SELECT * FROM scores WHERE sample_id = ? AND origin = ? AND reference = ?"
_IS_DECIDED = "outcome IN ('completed', 'refused')"


@encoding.decoder("setting")
def _json(row: sqlite3.Row) -> Json:
    return json.loads(row[0])


@encoding.decoder("setting")
def _entry(row: sqlite3.Row) -> tuple[str, Json]:
    return row[0].removeprefix("state."), json.loads(row[1])


@encoding.decoder("ledger")
def _spent(row: sqlite3.Row) -> Spent:
    calls, input_tokens, output_tokens, high, low, *rest = row
    return Spent(calls, input_tokens, output_tokens, None if high is None else (high << 32) + low, *rest)


@encoding.decoder("number")
def _number(row: sqlite3.Row) -> int:
    return int(row[0])


@encoding.decoder("name")
def _name(row: sqlite3.Row) -> str:
    if not isinstance(row[0], str):
        raise TypeError(f"{row[0]!r} is no text")
    return row[0]


@encoding.decoder("token")
def _bytes(row: sqlite3.Row) -> bytes:
    return bytes(row[0])


def _decided(row: sqlite3.Row) -> tuple[Sample, Completion | Refusal | Lost, int | None]:
    return encoding.sample_of(row), encoding.outcome_of(row), row["call_id"]


@encoding.decoder("completion")
def _written(row: sqlite3.Row) -> tuple[Sample, str]:
    return encoding.sample_of(row), encoding.unpack_text(row["text"])


def _length(tokens: Tokens) -> int:
    return int(tokens.ends[-1]) if len(tokens.ends) else 0


def _index(sample_id: str) -> int:
    """The number that a sample id ends in: its place within its arm."""
    found = re.search(r"(\d+)$", sample_id)
    return int(found[1]) if found else 0
