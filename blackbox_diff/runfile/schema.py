"""The run file's tables and its format version.

    meta         what the run is (manifest) and where it stands (state.*), as JSON
    calls        the ledger: one row per attempt, written before the request is sent
    completions  what was made of a sample's reply, one row per (sample, origin)
    scores       a completion under a reference, one row per (sample, origin, reference)
    alternatives what a model listed at the positions of a completion: its own (reference "") or a reference's;
                 since format 2. Apart from the rows above because they are ten times as large
    tokens       the bytes of every token that is listed, once for the run
    chain        digests of all rows above as they were written, each with the one before (runfile.chain); since
                 format 3

A call's `state` goes reserved -> settled | unknown | released and never back:
    reserved   on its way; counts with its reservation
    settled    answered; counts with what the reply says it cost, and `reply` holds the raw body
    unknown    may have been billed without an answer that says so; counts with its reservation
    released   never reached the endpoint; counts nothing
Money is kept in whole picodollars (1e-12 USD), so that sums are exact.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing

APPLICATION_ID = 0x42424446  # "BBDF"

_FORMAT_1 = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE calls (
        id INTEGER PRIMARY KEY,
        role TEXT NOT NULL,
        sample_id TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('reserved', 'settled', 'unknown', 'released')),
        reserved_input INTEGER NOT NULL,
        reserved_output INTEGER NOT NULL,
        reserved_pico INTEGER,
        input INTEGER NOT NULL DEFAULT 0,
        output INTEGER NOT NULL DEFAULT 0,
        pico INTEGER,
        flag TEXT,
        digest TEXT NOT NULL,
        path TEXT NOT NULL,
        url TEXT,
        body TEXT NOT NULL,
        accepted INTEGER NOT NULL DEFAULT 0,
        status INTEGER,
        headers TEXT,
        reply BLOB,
        seconds REAL,
        error TEXT,
        sent_at REAL NOT NULL,
        settled_at REAL
    )""",
    "CREATE INDEX calls_by_sample ON calls (sample_id, role)",
    """CREATE TABLE completions (
        sample_id TEXT NOT NULL,
        origin TEXT NOT NULL,
        source TEXT NOT NULL,
        framing TEXT NOT NULL,
        prefill BLOB NOT NULL,
        seed INTEGER NOT NULL,
        outcome TEXT NOT NULL CHECK (outcome IN ('completed', 'refused', 'failed', 'unpaid')),
        call_id INTEGER REFERENCES calls (id),
        reason TEXT,
        advice TEXT,
        text BLOB,
        ends BLOB,
        logprobs BLOB,
        ids BLOB,
        prompt_ids BLOB,
        extra TEXT,
        UNIQUE (sample_id, origin)
    )""",
    """CREATE TABLE scores (
        sample_id TEXT NOT NULL,
        origin TEXT NOT NULL,
        reference TEXT NOT NULL,
        outcome TEXT NOT NULL CHECK (outcome IN ('scored', 'refused', 'failed')),
        call_id INTEGER REFERENCES calls (id),
        reason TEXT,
        advice TEXT,
        ends BLOB,
        logprobs BLOB,
        context TEXT,
        notes TEXT,
        PRIMARY KEY (sample_id, origin, reference)
    ) WITHOUT ROWID""",
)
_FORMAT_2 = (
    """CREATE TABLE alternatives (
        sample_id TEXT NOT NULL,
        origin TEXT NOT NULL,
        reference TEXT NOT NULL,
        lists BLOB NOT NULL,
        UNIQUE (sample_id, origin, reference)
    )""",
    "CREATE TABLE tokens (number INTEGER PRIMARY KEY, bytes BLOB NOT NULL)",
)
_FORMAT_3 = (
    """CREATE TABLE IF NOT EXISTS chain (
        number INTEGER PRIMARY KEY,
        of TEXT NOT NULL,
        key TEXT NOT NULL,
        row BLOB NOT NULL,
        digest BLOB NOT NULL
    )""",
)

FORMATS = (_FORMAT_1, _FORMAT_2, _FORMAT_3)  # what each format adds to the one before
FORMAT = len(FORMATS)
WITH_ALTERNATIVES = 2
WITH_CHAIN = 3


def statements(after: int = 0, to: int = FORMAT) -> Iterator[str]:
    """What makes a file of format `to` of one of format `after`; 0 is an empty file."""
    for added in FORMATS[after:to]:
        yield from added


@functools.cache
def columns(version: int) -> Mapping[str, frozenset[str]]:
    """The columns of each table of a file of this format."""
    with closing(sqlite3.connect(":memory:")) as scratch:
        for statement in statements(to=version):
            scratch.execute(statement)
        tables = [row[0] for row in scratch.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: frozenset(row[1] for row in scratch.execute(f"PRAGMA table_info({table})")) for table in tables
        }
