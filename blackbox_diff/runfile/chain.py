"""A digest over every row as it was written, so that an edit, an addition or a removal anywhere shows.

Each entry of the table `chain` holds the SHA-256 of one row as a transaction left it, and a digest of that entry
with the digest before; the last digest stands once more in `meta`, so that a cut tail shows, too. Whoever edits a
run file and makes the whole chain anew is found out only by a digest of it that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from blackbox_diff.runfile.encoding import decoder, dumps

HEAD = "chain.head"  # the key in `meta` of the last entry's number and digest; no entry is made of it
BEGUN = "begun"  # stands as the table of the first entry in a file that an older version began
KEYS: Mapping[str, tuple[str, ...]] = {
    "calls": ("id",),
    "completions": ("sample_id", "origin"),
    "scores": ("sample_id", "origin", "reference"),
    "alternatives": ("sample_id", "origin", "reference"),
    "tokens": ("number",),
    "meta": ("key",),
}
_NOTHING = bytes(32)  # the digest before the first, and that of a row which was taken away in order

Key = tuple[Any, ...]


class Chain:
    """Makes the entries for one connection that writes, which gets triggers that note every row it touches."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._touched: dict[tuple[str, Key], None] = {}
        self._number, self._digest = head = _head(connection)
        if head != (last := _last(connection)):
            self._number = max(self._number, last[0]) + 1  # the gap tells of what was cut off
        connection.create_function("touched", -1, self._note)
        for table, key in KEYS.items():
            for verb, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("UPDATE", "OLD"), ("DELETE", "OLD")):
                which = ", ".join(f"{row}.{column}" for column in key)
                connection.execute(
                    f"CREATE TEMP TRIGGER {verb}_{row}_{table} AFTER {verb} ON main.{table} "
                    f"BEGIN SELECT touched('{table}', {which}); END"
                )

    def _note(self, table: str, *key: Any) -> None:
        self._touched[table, key] = None

    def append(self) -> None:
        """Enter what the open transaction has touched so far; call before its COMMIT."""
        for table, key in self._touched:
            if key != (HEAD,):
                self._enter(table, key, _current(self._connection, table, key))
        if self._touched:
            self._set_head()

    def begin(self, version: int) -> None:
        """Enter all that a file of an older format holds, as it is found now."""
        self._enter(BEGUN, (version,), _NOTHING)
        for table in KEYS:
            for key, digest in _rows(self._connection, table):
                self._enter(table, key, digest)
        self._set_head()

    def _enter(self, table: str, key: Key, row: bytes) -> None:
        self._number += 1
        name = json.dumps(key)
        self._digest = _link(self._digest, self._number, table, name, row)
        self._connection.execute(
            "INSERT INTO chain VALUES (?, ?, ?, ?, ?)", (self._number, table, name, row, self._digest)
        )

    def _set_head(self) -> None:
        value = dumps({"number": self._number, "digest": self._digest.hex()})
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (HEAD, value))
        self._touched.clear()


def digest(connection: sqlite3.Connection) -> str:
    """The digest of all that the run holds, 64 hexadecimal digits."""
    return _head(connection)[1].hex()


def begun_in(connection: sqlite3.Connection) -> int | None:
    """The format of the file before its chain began; None where it was there from the first row on."""
    row = connection.execute("SELECT of, key FROM chain WHERE number = 1").fetchone()
    return _version(row) if row is not None and row[0] == BEGUN else None


def holds(connection: sqlite3.Connection, wanted: str) -> bool:
    """Whether the chain went through this digest, which is the last one of an earlier time or of now."""
    try:
        found = connection.execute("SELECT 1 FROM chain WHERE digest = ?", (bytes.fromhex(wanted),)).fetchone()
    except ValueError:
        return False
    return found is not None


def broken(connection: sqlite3.Connection) -> Iterator[str]:
    """One line for each row that is not as it was written, calls first, and for each break of the chain itself."""
    latest: dict[tuple[str, str], bytes] = {}
    breaks: list[str] = []
    before, last = _NOTHING, 0
    for number, table, key, row, link in connection.execute("SELECT * FROM chain ORDER BY number"):
        if number != last + 1:
            breaks.append(f"digests {last + 1} to {number - 1}: are missing")
        elif link != _link(before, number, table, key, row):
            breaks.append(f"digest {number} (of {_name(table, key)}): does not follow from the one before")
        latest[table, key] = row
        before, last = link, number
    number, head = _head(connection)
    if number > last:
        breaks.append(f"digests {last + 1} to {number}: were cut off the end")
    elif (number, head) != (last, before):
        breaks.append(f"digest {last}: is not the one that the run file ends with")
    for table in KEYS:
        for found, now in _rows(connection, table):
            key = json.dumps(found, default=repr)  # in an edited row it may be a BLOB
            then = latest.pop((table, key), None)
            if then is None or then == _NOTHING:
                yield f"{_name(table, key)}: has no digest: this program did not write it"
            elif then != now:
                yield f"{_name(table, key)}: its digest differs: it was edited after it was written"
        for of, key in [each for each in latest if each[0] == table]:
            if latest.pop((of, key)) != _NOTHING:
                yield f"{_name(of, key)}: was taken away after it was written"
    yield from breaks


def _rows(connection: sqlite3.Connection, table: str) -> Iterator[tuple[Key, bytes]]:
    """The keys and digests of a table's rows, in the order of the keys."""
    columns = ", ".join(KEYS[table])
    for row in connection.execute(f"SELECT {columns}, * FROM {table} ORDER BY {columns}"):
        key = tuple(row)[: len(KEYS[table])]
        if key != (HEAD,):
            yield key, _row(tuple(row)[len(key) :])


def _current(connection: sqlite3.Connection, table: str, key: Key) -> bytes:
    where = " AND ".join(f"{column} = ?" for column in KEYS[table])
    found = connection.execute(f"SELECT * FROM {table} WHERE {where}", key).fetchone()
    return _NOTHING if found is None else _row(tuple(found))


def _row(values: tuple[Any, ...]) -> bytes:
    """SHA-256 over the values with their types and lengths, so that no two rows are written alike."""
    made = hashlib.sha256()
    for value in values:
        if value is None:
            kind, data = b"n", b""
        elif isinstance(value, bytes):
            kind, data = b"b", value
        elif isinstance(value, str):
            kind, data = b"s", value.encode("utf-8", "surrogatepass")
        elif isinstance(value, float):
            kind, data = b"f", struct.pack("<d", value)
        else:
            kind, data = b"i", b"%d" % value
        made.update(b"%b%d:" % (kind, len(data)))
        made.update(data)
    return made.digest()


def _link(before: bytes, number: int, table: str, key: str, row: bytes) -> bytes:
    return _row((before, number, table, key, row))  # of an edited chain they may be of any type


@decoder("digest")
def _head(connection: sqlite3.Connection) -> tuple[int, bytes]:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (HEAD,)).fetchone()
    if row is None:
        return 0, _NOTHING
    found = json.loads(row[0])
    return int(found["number"]), bytes.fromhex(found["digest"])


def _last(connection: sqlite3.Connection) -> tuple[int, bytes]:
    row = connection.execute("SELECT number, digest FROM chain ORDER BY number DESC LIMIT 1").fetchone()
    return (0, _NOTHING) if row is None else (row[0], row[1])


@decoder("digest")
def _version(row: sqlite3.Row) -> int:
    return int(json.loads(row[1])[0])


@decoder("digest")
def _name(table: str, key: str) -> str:
    found = json.loads(key)
    if table == "calls":
        return f"call {found[0]}"
    if table == "meta":
        return "the manifest" if found == ["manifest"] else f"setting {found[0]}"
    what = {"completions": "completion", "scores": "score", "alternatives": "alternatives of", "tokens": "token"}
    return " ".join([what.get(table, table), *(repr(each) for each in found if each != "")])
