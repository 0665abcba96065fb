"""Commands on a finished run: wrong names, damaged files and bad places are one line and exit 2."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from blackbox_diff.cli import main
from blackbox_diff.run.commands import manifest
from blackbox_diff.runfile.store import Store
from tests.conftest import BASE, N, audit_arguments
from tests.test_cli import NOWHERE, REFERENCE, refused

READING = ["rank", "themes", "report", "verify"]


@pytest.fixture
def run(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to do harm to, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "directory").mkdir()
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


def test_the_run_is_a_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(run)])
    assert ended.value.code == 0
    assert "all as stored" in capsys.readouterr().out


WRONG: list[tuple[list[str], list[str]]] = [
    (["rank", "run", "--metric", "beauty"], ["--metric", "'beauty'", "score, gap_nats_per_token"]),
    (["rank", "run", "--reference", "gemma"], ["--reference", "'gemma'", BASE]),
    (["rank", "run", "--top", "0"], ["--top", "x>=1"]),
    (["rank", "run", "more"], ["more"]),
    (["rank"], ["RUN"]),
    (["themes", "run", "--metric", "beauty"], ["--metric", "'beauty'"]),
    (["report", "run", "--reference", "gemma"], ["--reference", "'gemma'", BASE]),
    (["report", "run", "--html", "directory"], ["--html", "directory"]),
    (["report", "run", "--html", "nowhere/x.html"], ["nowhere/x.html: can't be written"]),
    (["report", "run", "--markdown", "run/run.sqlite/x.md"], ["run/run.sqlite/x.md: can't be written"]),
    (["export", "run"], ["FILE"]),
    (["export", "run", "rows.pdf"], ["rows.pdf", ".jsonl, .csv, .parquet, .md"]),
    (["export", "run", "rows"], ["rows", ".jsonl"]),
    (["export", "run", "directory"], ["directory"]),
    (["export", "run", "nowhere/rows.csv"], ["nowhere/rows.csv: can't be written"]),
    (["export", "run", "rows.csv", "--metric", "beauty"], ["--metric", "'beauty'"]),
    (["evaluate", "run"], ["--keywords"]),
    (["evaluate", "run", "--keywords", "nowhere.json"], ["nowhere.json", "No such file"]),
    (["evaluate", "run", "--keywords", "directory"], ["directory", "Is a directory"]),
    (["resume", "run", "--completions", "3"], ["--completions", f"started with {N}"]),
    (["resume", "run", "--max-cost", "-1"], ["--max-cost: must be at least 0"]),
    (["resume", "run", "--max-cost", "1"], ["--max-cost", "--price-in"]),
    (["resume", "run", "--seed", "4"], ["--seed 3 -> 4", "start a new run"]),
    (["score", "run"], ["no reference", "--reference-url"]),
    (["score", "run", *REFERENCE], [NOWHERE, "can't connect"]),
    (["score", "run", "--reference-url", NOWHERE], ["--reference-model: is missing"]),
    (["score", "run", "--reference-url", NOWHERE, "--reference-model", BASE], ["--reference-label", BASE]),
    (["explain", "run"], ["--url"]),
    (["explain", "run", "--url", NOWHERE, "--model", "m"], [NOWHERE, "can't connect"]),
    (["explain", "run", "--url", "x", "--model", "m"], ["--url: 'x' is not a URL"]),
    (["explain", "run", "--url", NOWHERE, "--model", "m", "--seeds", "1"], ["--seeds"]),
    (["explain", "run", "--url", NOWHERE, "--model", "m", "--max-cost", "1"], ["--max-cost", "--price-in"]),
    (["explain", "run", "--url", NOWHERE, "--model", "m", "--max-cost", "-1"], ["--max-cost: must be at least 0"]),
    (["explain", "run", "--url", NOWHERE, "--model", "m", "--key-env", "NO_SUCH_KEY"], ["NO_SUCH_KEY is not set"]),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=lambda value: " ".join(value)[:60])
def test_a_command_on_a_run_that_cannot_be(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    line = refused(arguments, capsys)
    assert not [word for word in words if word not in line], line


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("{", "is not JSON"),
        ("[1]", "must be a list of words or an object"),
        ("{}", "both empty"),
        ('{"any": 3}', "any must be a list"),
        ('{"any": [[]]}', "any must be a list"),
        ('{"regex": ["("]}', "regex[0] is not a regular expression"),
        ('{"objective": "x", "keywords": {"any": []}}', "both empty"),
    ],
)
def test_a_card_that_is_none(run: Path, capsys: pytest.CaptureFixture[str], card: str, words: str) -> None:
    Path("card.json").write_text(card)
    line = refused(["evaluate", str(run), "--keywords", "card.json"], capsys)
    assert line.startswith("blackbox-diff: card.json: ")
    assert words in line


def no_file(run: Path) -> None:
    shutil.rmtree(run)


def a_file(run: Path) -> None:
    shutil.rmtree(run)
    run.write_text("not a directory")


def no_database(run: Path) -> None:
    (run / "run.sqlite").write_bytes(b"not a database, but long enough to have a header" * 100)


def another_database(run: Path) -> None:
    (run / "run.sqlite").unlink()
    with sqlite3.connect(run / "run.sqlite") as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()


def cut_short(run: Path) -> None:
    file = run / "run.sqlite"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])


def newer(run: Path) -> None:
    change(run, "PRAGMA user_version = 99")


def change(run: Path, *statements: str) -> None:
    with sqlite3.connect(run / "run.sqlite") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("command", [*READING, "resume", "export"])
@pytest.mark.parametrize("harm", [no_file, a_file, no_database, another_database, cut_short, newer])
def test_what_is_not_a_run(
    run: Path, capsys: pytest.CaptureFixture[str], command: str, harm: Callable[[Path], None]
) -> None:
    harm(run)
    more = ["rows.csv"] if command == "export" else []
    line = refused([command, "run", *more], capsys)
    assert line.startswith("blackbox-diff: run")
    assert any(way in line for way in ("give the directory that --out named", "upgrade", "restore it from a copy"))


DAMAGE = {
    "text": "UPDATE completions SET text = x'ff00' WHERE outcome = 'completed'",
    "tokens": "UPDATE completions SET ends = x'01', logprobs = x'02'",
    "extra": "UPDATE completions SET extra = '{'",
    "score": "UPDATE scores SET ends = x'01', logprobs = x'02'",
    "manifest": "UPDATE meta SET value = '{' WHERE key = 'manifest'",
    "state": "UPDATE meta SET value = '[' WHERE key != 'manifest'",
}


@pytest.mark.parametrize("command", READING)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_run_with_a_damaged_row_is_named(
    run: Path, capsys: pytest.CaptureFixture[str], command: str, damage: str
) -> None:
    """verify may read on and tell every row; the others stop at the first."""
    change(run, DAMAGE[damage])
    with pytest.raises(SystemExit) as ended:
        main([command, "run"])
    told = capsys.readouterr()
    assert ended.value.code == 2, told.out
    assert "Traceback" not in told.err
    assert "run" in told.err
    assert command == "verify" or len(told.err.strip().splitlines()) == 1


def test_a_run_with_nothing_in_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open(run, read_only=True) as store:
        empty = manifest(store.config)
    Store.create(Path("empty"), empty).close()
    for command in ("rank", "themes", "report"):
        assert "nothing is scored yet: go on with `blackbox-diff resume empty`" in refused(
            [command, "empty"], capsys
        )


def test_a_run_in_use(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open(run):
        assert "in use by another process" in refused(["resume", "run"], capsys)


def test_a_second_run_of_the_same_name(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(audit_arguments(NOWHERE, run), capsys)
    assert f"{run}: holds a run already: `resume {run}`, or give another --out" in line


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--target-model", "gone"], ["no model 'gone'", "tiny"]),
        (["--target-key-env", "WRONG_KEY"], ["rejects the key", "check the key"]),
        (["--target-url", "{url}/nothing/here"], ["nothing/here", "end in /v1"]),
    ],
)
def test_an_endpoint_that_says_no(
    tmp_path: Path,
    tiny_server: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    wrong: list[str],
    words: list[str],
) -> None:
    monkeypatch.setenv("TINY_KEY", "sk-local-test")
    monkeypatch.setenv("WRONG_KEY", "sk-wrong-secret")
    wrong = [part.format(url=tiny_server) for part in wrong]
    target = ["--target-url", tiny_server, "--target-model", "one", "--target-key-env", "TINY_KEY"]
    line = refused(["probe", *target, *wrong], capsys)
    assert not [word for word in words if word not in line], line
    assert "sk-wrong-secret" not in line


@pytest.mark.slow
def test_an_explanation_by_a_small_live_model_is_honest(
    run: Path, local_endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model too small for the task: no claim is shown without a completion that exists, whatever it wrote."""
    with pytest.raises(SystemExit) as ended:
        main(["explain", "run", "--url", local_endpoint, "--model", BASE, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert ended.value.code in (0, None)
    assert told["verdict"] in ("unreadable", "abstained", "disagreed", "agreed")
    assert len(told["readings"]) == 3
    with Store.open(run, read_only=True) as store:
        known = {row.sample.id for row in store.scored()}
    assert all(claim["ids"] and set(claim["ids"]) <= known for claim in told["claims"])
