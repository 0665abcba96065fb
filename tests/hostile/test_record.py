"""A falsified run file is told by `verify`; a run that was only killed is not called falsified."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from blackbox_diff.run.verify import verify_run
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


def test_a_killed_run_is_not_called_falsified(finished: Path, tmp_path: Path) -> None:
    """What a SIGKILL leaves: no reason why it stopped, a call in flight, and a reply that nobody has read yet."""
    run = edited(
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
