"""Opening a run's database: its lock, its format, and what is said when it can't be opened or read."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO

from blackbox_diff.errors import RunFileError, StorageError
from blackbox_diff.runfile import schema
from blackbox_diff.runfile.chain import Chain
from blackbox_diff.runfile.writer import storage_error

FILE = "run.sqlite"
LOCK = "run.lock"
WAL = f"{FILE}-wal"  # what is written and not yet in the file itself; empty or absent after an orderly end


def connect(file: Path) -> sqlite3.Connection:
    """A connection that writes."""
    connection = _connect(file)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA temp_store = MEMORY")  # the chain's triggers need no disk
    return connection


def connect_to_read(file: Path, resources: ExitStack) -> sqlite3.Connection:
    """A connection that only reads, closed with `resources`.

    SQLite keeps an index beside a file in WAL mode. Where none can be made, on a disk or in a directory that is
    read-only, a run that ended in order is whole in its file and read as one that can't change; one that was
    killed is read from a copy, into which SQLite can bring what the file lacks.
    """
    uri = file.resolve().as_uri()
    connection = resources.enter_context(closing(_connect(f"{uri}?mode=ro")))
    try:
        connection.execute("PRAGMA schema_version").fetchone()
        return connection
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
    wal = file.with_name(WAL)
    if not wal.is_file() or wal.stat().st_size == 0:
        return resources.enter_context(closing(_connect(f"{uri}?mode=ro&immutable=1")))
    copy = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="blackbox-diff-")))
    for part in (file, wal):
        shutil.copyfile(part, copy / part.name)
    return resources.enter_context(closing(_connect(f"{(copy / FILE).as_uri()}?mode=ro")))


def _connect(database: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        database, uri=isinstance(database, str), isolation_level=None, check_same_thread=False, timeout=30.0
    )
    connection.row_factory = sqlite3.Row
    return connection


@contextmanager
def locked(path: Path) -> Iterator[IO[str]]:
    """Hold the run's lock; the kernel frees it when its holder ends, however it ends.

    Raises RunFileError where another process holds it, OSError where there can be none.
    """
    with open(path / LOCK, "a+", encoding="ascii", errors="replace") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read(20).strip() or "unknown"
            raise RunFileError(f"{path}: in use by another process (id {holder}): wait for it or end it") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield lock


def in_use(path: Path) -> bool:
    """Whether a process, this one too, has the run open to write."""
    try:
        with open(path / LOCK, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def is_complete(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA application_id").fetchone()[0] == schema.APPLICATION_ID)


def discard(path: Path, *, directory: bool) -> None:
    """Remove the run's files from `path`, and with `directory` the directory too if nothing else is in it."""
    for name in (FILE, WAL, f"{FILE}-shm", LOCK):
        (path / name).unlink(missing_ok=True)
    if directory and not any(path.iterdir()):
        path.rmdir()


def check_format(connection: sqlite3.Connection, file: Path) -> None:
    """Raises RunFileError for another program's file, a newer format, and one that lacks a table or column."""
    if not is_complete(connection):
        raise RunFileError(f"{file}: not a run file: give the directory that --out named")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > schema.FORMAT:
        raise RunFileError(
            f"{file}: has format {version}, this version reads up to {schema.FORMAT}: upgrade blackbox-diff"
        )
    for table, columns in schema.columns(version).items():
        found = {row["name"] for row in connection.execute(f"PRAGMA table_info({table})")}
        if not found:
            raise damaged(file.parent, f"its table `{table}` is missing")
        if columns - found:
            raise damaged(file.parent, f"its table `{table}` lacks {', '.join(sorted(columns - found))}")


def upgrade(connection: sqlite3.Connection) -> Chain:
    """Give a run of an earlier format the tables that it lacks; what it holds stays as it is, and is digested."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == schema.FORMAT:
        return Chain(connection)
    connection.execute("BEGIN IMMEDIATE")
    for statement in schema.statements(after=version):
        connection.execute(statement)
    if version < schema.WITH_ALTERNATIVES:
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('state.begun_in_format', ?)", (str(version),))
    chain = Chain(connection)
    chain.begin(version)
    connection.execute(f"PRAGMA user_version = {schema.FORMAT}")
    connection.execute("COMMIT")
    return chain


def not_a_run(path: Path) -> RunFileError:
    """What is said where no run is: which directory was meant, where one can be told from the path."""
    if path.is_file() and (path.parent / FILE).is_file():
        return RunFileError(f"{path}: is a file in a run: give the run's directory, {path.parent}")
    if not path.exists():
        return RunFileError(f"{path}: no such directory: give the directory that --out named")
    near = min((file.parent for file in path.glob(f"*/{FILE}")), default=None) if path.is_dir() else None
    which = "the directory that --out named" if near is None else f"a run in it, such as {near}"
    return RunFileError(f"{path}: not a run (no {FILE} in it): give {which}")


def damaged(path: Path, what: str) -> RunFileError:
    return RunFileError(f"{path}: damaged: {what}: restore it from a copy")


def unreadable(path: Path, error: Exception) -> RunFileError:
    """What is said of a run when a row, or the file under it, can't be read."""
    if isinstance(error, sqlite3.OperationalError) and _is(error, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return RunFileError(f"{path}: in use by another process: try again once that has ended")
    if isinstance(error, sqlite3.OperationalError) and _is(error, sqlite3.SQLITE_IOERR):
        return RunFileError(f"{path}: can't be read ({error}): check the disk")
    return damaged(path, str(error))


def open_error(file: Path, error: sqlite3.Error | OSError, *, reading: bool) -> RunFileError | StorageError:
    """What is said when a run can't be opened."""
    if isinstance(error, OSError):
        if reading:
            return RunFileError(f"{file}: can't be read ({error.strerror or error}): check its permissions")
        return RunFileError(
            f"{file.parent}: can't be written ({error.strerror or error}): copy the run to where it can, "
            "or give another place"
        )
    if _is(error, sqlite3.SQLITE_NOTADB):
        return RunFileError(f"{file}: not a run file ({error}): give the directory that --out named")
    if _is(error, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR) or "decode to UTF-8" in str(error):
        return damaged(file.parent, str(error))
    if reading or _is(error, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return RunFileError(f"{file}: can't be opened ({error}): check its permissions")
    return storage_error(str(file), error)


def _is(error: sqlite3.Error, *codes: int) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in codes
