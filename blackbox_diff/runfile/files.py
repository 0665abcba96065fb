"""Opening a run's database: its lock, its format, and what is said when it can't be opened."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import IO

from blackbox_diff.errors import RunFileError
from blackbox_diff.runfile import schema
from blackbox_diff.runfile.writer import storage_error

FILE = "run.sqlite"
LOCK = "run.lock"


def connect(file: Path, *, read_only: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{file.resolve().as_uri()}?mode=ro" if read_only else file,
        uri=read_only,
        isolation_level=None,
        check_same_thread=False,
        timeout=30.0,
    )
    connection.row_factory = sqlite3.Row
    if not read_only:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    return connection


def take_lock(path: Path) -> IO[str]:
    """The run's lock; the kernel frees it when its holder ends, however it ends."""
    lock = open(path / LOCK, "a+", encoding="ascii")  # noqa: SIM115 - held until the store is closed
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise RunFileError(f"{path}: in use by another process (id {holder}): wait for it or end it") from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def is_complete(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA application_id").fetchone()[0] == schema.APPLICATION_ID)


def discard(path: Path, *, directory: bool) -> None:
    """Remove the run's files from `path`, and with `directory` the directory too if nothing else is in it."""
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm", LOCK):
        (path / name).unlink(missing_ok=True)
    if directory and not any(path.iterdir()):
        path.rmdir()


def check_format(connection: sqlite3.Connection, file: Path) -> None:
    if not is_complete(connection):
        raise RunFileError(f"{file}: not a run file: give the directory that --out named")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > schema.FORMAT:
        raise RunFileError(
            f"{file}: has format {version}, this version reads up to {schema.FORMAT}: upgrade blackbox-diff"
        )


def upgrade(connection: sqlite3.Connection) -> None:
    """Give a run of format 1 the tables that it lacks; what it holds stays as it is."""
    if connection.execute("PRAGMA user_version").fetchone()[0] >= schema.FORMAT:
        return
    connection.execute("BEGIN IMMEDIATE")
    for statement in schema.ALTERNATIVES:
        connection.execute(statement)
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, '1')", (f"state.{schema.UPGRADED_FROM}",))
    connection.execute(f"PRAGMA user_version = {schema.FORMAT}")
    connection.execute("COMMIT")


def open_error(file: Path, error: sqlite3.Error) -> Exception:
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return RunFileError(f"{file}: not a run file ({error}): give the directory that --out named")
    return storage_error(str(file), error)
