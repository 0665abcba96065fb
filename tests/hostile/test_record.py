"""A run file that was edited anywhere is told by `verify`; a run that was only killed is not."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from blackbox_diff.errors import RunFileError
from blackbox_diff.run.verify import verify_run
from blackbox_diff.runfile import chain, files, schema
from blackbox_diff.runfile.store import Store
from tests.conftest import run_cli
from tests.fake_endpoint import FakeEndpoint
from tests.test_workflow import audit
from tests.toy_server import serving


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("record") / "run"
    with serving(FakeEndpoint()) as url:
        assert run_cli(audit(url, run)) == 0
    return run


def edited(finished: Path, to: Path, *statements: str) -> Path:
    shutil.copytree(finished, to)
    database = sqlite3.connect(to / "run.sqlite")
    with database:
        for statement in statements:
            assert database.execute(statement).rowcount > 0, statement
    database.close()
    return to


def written(finished: Path, to: Path, *statements: str) -> Path:
    """Like edited, as the program itself would have written it: with digests."""
    shutil.copytree(finished, to)
    with closing(files.connect(to / files.FILE)) as database:
        made = chain.Chain(database)
        database.execute("BEGIN")
        for statement in statements:
            assert database.execute(statement).rowcount > 0, statement
        made.append()
        database.execute("COMMIT")
    return to


ONE_CALL = "id = (SELECT call_id FROM completions WHERE origin = 'target' ORDER BY call_id LIMIT 1)"
ONE_SCORE = "call_id = (SELECT min(call_id) FROM scores)"
ONE = "origin = 'target' AND call_id = (SELECT min(call_id) FROM completions WHERE origin = 'target')"
FALSIFIED = {
    "a call set to released": f"UPDATE calls SET state = 'released' WHERE {ONE_CALL}",
    "a call that costs nothing": f"UPDATE calls SET state = 'released', input = 0, output = 0 WHERE {ONE_CALL}",
    "a call in flight": f"UPDATE calls SET state = 'reserved' WHERE {ONE_CALL}",
    "a call moved to another role": f"UPDATE calls SET role = 'reference:other' WHERE {ONE_CALL}",
    "a call for another sample": f"UPDATE calls SET sample_id = 'prose.raw.99999' WHERE {ONE_CALL}",
    "a call not accepted": f"UPDATE calls SET accepted = 0 WHERE {ONE_CALL}",
    "a request's text": f"UPDATE calls SET body = replace(body, 'max_tokens', 'most') WHERE {ONE_CALL}",
    "a request's path": f"UPDATE calls SET path = path || 'x' WHERE {ONE_CALL}",
    "a request's URL": f"UPDATE calls SET url = 'http://other.example/v1' WHERE {ONE_CALL}",
    "a reply": f"UPDATE calls SET reply = (SELECT reply FROM calls WHERE sample_id = '' LIMIT 1) WHERE {ONE_CALL}",
    "a reply taken away": f"UPDATE calls SET reply = NULL WHERE {ONE_CALL}",
    "a completion deleted": f"DELETE FROM completions WHERE {ONE}",
    "a completion set to failed": f"UPDATE completions SET outcome = 'failed', reason = 'http_500' WHERE {ONE}",
    "a completion without its call": f"UPDATE completions SET call_id = NULL WHERE {ONE}",
    "a score set to failed": f"UPDATE scores SET outcome = 'failed', reason = 'timeout' WHERE {ONE_SCORE}",
    "a failed score without its call": (
        f"UPDATE scores SET outcome = 'failed', reason = 'timeout', call_id = NULL WHERE {ONE_SCORE}"
    ),
    "a score without its call": f"UPDATE scores SET call_id = NULL WHERE {ONE_SCORE}",
    "a score deleted": f"DELETE FROM scores WHERE {ONE_SCORE}",
    "a target of another name": (
        """UPDATE meta SET value = replace(value, '"model":"m"', '"model":"other"') WHERE key = 'manifest'"""
    ),
}


def test_a_run_that_nobody_touched_is_as_stored(finished: Path) -> None:
    found = verify_run(finished)
    assert (found.problems, found.notes) == ((), ())
    assert found.completions > 0
    assert found.scores > 0


@pytest.mark.parametrize("what", FALSIFIED)
def test_a_falsified_row_is_named(finished: Path, tmp_path: Path, what: str) -> None:
    assert verify_run(edited(finished, tmp_path / "run", FALSIFIED[what])).problems


@pytest.mark.parametrize("what", FALSIFIED)
def test_a_falsified_row_is_named_without_digests(finished: Path, tmp_path: Path, what: str) -> None:
    """Who makes the chain anew is still found out where the rows contradict the replies."""
    assert verify_run(written(finished, tmp_path / "run", FALSIFIED[what])).problems


def test_a_killed_run_is_not_called_falsified(finished: Path, tmp_path: Path) -> None:
    """What a SIGKILL leaves: no reason why it stopped, a call in flight, and a reply that nobody has read yet."""
    run = written(
        finished,
        tmp_path / "run",
        "DELETE FROM meta WHERE key = 'state.stopped_because'",
        f"DELETE FROM scores WHERE {ONE_SCORE}",
        """INSERT INTO calls (role, sample_id, attempt, state, reserved_input, reserved_output, digest, path, body,
           sent_at) SELECT role, sample_id, attempt, 'reserved', 5, 6, digest, path, body, 1.0 FROM calls
           LIMIT 1""",
    )
    found = verify_run(run)
    assert found.problems == ()
    assert "1 calls are in flight" in found.notes[-1]
    assert "was paid for, and no row holds it" in found.notes[0]


# The chain of digests

CHAINED = {
    "the first call's reply": ("UPDATE calls SET reply = x'00' WHERE id = 1", "call 1: its digest differs"),
    "when a call was sent": ("UPDATE calls SET sent_at = sent_at + 1 WHERE id = 3", "call 3: its digest differs"),
    "a call added": (
        """INSERT INTO calls (role, sample_id, attempt, state, reserved_input, reserved_output, digest, path, body,
           sent_at) SELECT role, sample_id, attempt, state, 5, 6, digest, path, body, 1.0 FROM calls LIMIT 1""",
        "has no digest",
    ),
    "a profile": (
        """UPDATE meta SET value = replace(value, 'noise', 'noisy') WHERE key = 'state.profiles'""",
        "setting state.profiles: its digest differs",
    ),
    "a setting added": ("INSERT INTO meta VALUES ('note', '1')", "setting note: has no digest"),
    "a digest in the middle": ("UPDATE chain SET digest = x'00' WHERE number = 5", "digest 5 (of "),
    "what a digest is of": ("UPDATE chain SET key = '[99]' WHERE number = 5", "digest 5 (of "),
    "a digest taken away": ("DELETE FROM chain WHERE number = 5", "digests 5 to 5: are missing"),
    "the last digest": (
        "DELETE FROM chain WHERE number = (SELECT max(number) FROM chain)",
        "were cut off the end",
    ),
    "where the chain ends": (
        """UPDATE meta SET value = '{"digest":"00","number":4}' WHERE key = 'chain.head'""",
        "is not the one that the run file ends with",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHAINED)
def test_an_edit_without_a_trace_elsewhere_is_told_by_the_digests(
    finished: Path, tmp_path: Path, what: str
) -> None:
    statement, words = CHAINED[what]
    run = edited(finished, tmp_path / "run", statement)
    try:
        told = verify_run(run).problems
    except RunFileError as error:  # also unreadable
        told = (str(error),)
        with Store.open(run, read_only=True) as store:
            told = tuple(store.broken())
    assert words in "\n".join(told)


LAST = "WHERE number > (SELECT max(number) - 6 FROM chain WHERE of = 'calls')"


def test_a_tail_that_was_cut_off_is_told_and_going_on_does_not_hide_it(finished: Path, tmp_path: Path) -> None:
    """The last call, what was made of it and their digests, as if they had never been."""
    run = edited(
        finished, tmp_path / "run",
        "DELETE FROM scores WHERE call_id = (SELECT max(call_id) FROM scores)",
        "DELETE FROM calls WHERE id = (SELECT max(id) FROM calls)",
        f"DELETE FROM chain {LAST}",
    )  # fmt: skip
    assert any("were cut off the end" in line for line in verify_run(run).problems)
    with Store.open(run) as store:
        store.set_state(replace(store.state, seconds=1.0))
    assert any("are missing" in line for line in verify_run(run).problems)


def test_the_whole_chain_made_anew_is_told_by_a_digest_kept_elsewhere(finished: Path, tmp_path: Path) -> None:
    kept = verify_run(finished).digest
    assert kept is not None
    assert verify_run(finished, kept).problems == ()
    run = edited(
        finished, tmp_path / "run",
        "UPDATE calls SET sent_at = sent_at + 1",
        "DELETE FROM chain",
        "DELETE FROM meta WHERE key = 'chain.head'",
    )  # fmt: skip
    with closing(files.connect(run / files.FILE)) as database:
        made = chain.Chain(database)
        database.execute("BEGIN")
        for table in chain.KEYS:
            key = ", ".join(chain.KEYS[table])
            for row in database.execute(f"SELECT {key} FROM {table}").fetchall():
                made._note(table, *row)
        made.append()
        database.execute("COMMIT")
    assert verify_run(run).problems == ()
    assert verify_run(run, kept).problems[0].startswith(f"digest {kept}: this run never had it")
    assert verify_run(run, "no digest").problems


def test_a_run_that_goes_on_keeps_the_digests_it_had(finished: Path, tmp_path: Path) -> None:
    kept = verify_run(finished).digest
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    with Store.open(run) as store:
        store.set_state(replace(store.state, stopped_because="x"))
    later = verify_run(run, kept)
    assert later.digest != kept
    assert later.problems == ()


def test_a_run_of_an_older_version_opens_and_says_that_it_has_no_digest(finished: Path, tmp_path: Path) -> None:
    run = edited(finished, tmp_path / "run", "DELETE FROM meta WHERE key = 'chain.head'")
    with closing(sqlite3.connect(run / files.FILE)) as database:
        database.execute("DROP TABLE chain")
        database.execute(f"PRAGMA user_version = {schema.WITH_CHAIN - 1}")
    found = verify_run(run)
    assert (found.problems, found.digest) == ((), None)
    assert found.notes[0].startswith("no digest: made by an older version")
    assert run_cli(["report", str(run)]) == 0
    Store.open(run).close()
    found = verify_run(run)
    assert found.problems == ()
    assert found.notes[0].startswith("begun by an older version")
    with closing(sqlite3.connect(run / files.FILE)) as database, database:
        database.execute("UPDATE calls SET seconds = 9 WHERE id = 2")
    assert verify_run(run).problems == ("call 2: its digest differs: it was edited after it was written",)


VALUES = st.one_of(
    st.none(), st.integers(-5, 10**6), st.integers(2**62, 2**63 - 1), st.floats(allow_nan=False),
    st.binary(max_size=40), st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
)  # fmt: skip
NEUTRAL: frozenset[tuple[str, str]] = frozenset()  # (table, column) of what may be edited unseen: none


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_an_edit_of_any_column_of_any_row_is_told(finished: Path, data: Any) -> None:
    run = finished.parent / "edited"
    shutil.copytree(finished, run, dirs_exist_ok=True)
    with closing(sqlite3.connect(run / files.FILE, isolation_level=None)) as database:
        table = data.draw(st.sampled_from([*chain.KEYS, "chain"]))
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        column = data.draw(st.sampled_from(columns))
        keys = chain.KEYS.get(table, ("number",))
        rows = database.execute(f"SELECT {', '.join(keys)} FROM {table}").fetchall()
        assume(rows)
        row = data.draw(st.sampled_from(rows))
        where = " AND ".join(f"{key} = ?" for key in keys)
        before = database.execute(f"SELECT {column} FROM {table} WHERE {where}", row).fetchone()
        changes = database.total_changes
        try:
            if data.draw(st.integers(0, 9)) == 0:
                database.execute(f"DELETE FROM {table} WHERE {where}", row)
            else:
                database.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (data.draw(VALUES), *row))
                after = database.execute(f"SELECT {column} FROM {table} WHERE {where}", row).fetchone()
                if after is not None and repr(tuple(after)) == repr(tuple(before)):
                    return
        except (sqlite3.IntegrityError, OverflowError):
            return
        assert database.total_changes > changes
    if (table, column) in NEUTRAL:
        return
    with suppress(RunFileError):  # so damaged that nothing more is told
        assert verify_run(run).problems
