"""A damaged run file is one line and exit code 2 for every command, never a traceback; a read-only one is read."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from blackbox_diff.runfile import files
from blackbox_diff.runfile.store import Store
from tests.conftest import run_cli
from tests.fake_endpoint import FakeEndpoint
from tests.test_workflow import audit
from tests.toy_server import serving

N_SLOW = 200
QUICK = (0, 5, 9)  # of the commands: report, verify, resume


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("damage") / "run"
    with serving(FakeEndpoint()) as url:
        assert run_cli(audit(url, run)) == 0
    return run


def execute(run: Path, *statements: str) -> None:
    with closing(sqlite3.connect(run / files.FILE, isolation_level=None)) as database:
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            with suppress(sqlite3.IntegrityError):  # a value that SQLite itself won't take there
                database.execute(statement)


def flipped(run: Path, chance: random.Random) -> None:
    data = bytearray((run / files.FILE).read_bytes())
    for _ in range(chance.choice([1, 4, 40, 400])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    (run / files.FILE).write_bytes(data)


def flipped_head(run: Path, chance: random.Random) -> None:
    data = bytearray((run / files.FILE).read_bytes())
    for _ in range(3):
        data[chance.randrange(100)] = chance.randrange(256)
    (run / files.FILE).write_bytes(data)


def cut(run: Path, chance: random.Random) -> None:
    data = (run / files.FILE).read_bytes()
    (run / files.FILE).write_bytes(data[: chance.randrange(len(data))])


def zeroed(run: Path, chance: random.Random) -> None:
    data = bytearray((run / files.FILE).read_bytes())
    page = chance.randrange(len(data) // 4096)
    data[page * 4096 : (page + chance.randrange(1, 4)) * 4096] = bytes(4096)
    (run / files.FILE).write_bytes(data)


def swapped(run: Path, chance: random.Random) -> None:
    data = bytearray((run / files.FILE).read_bytes())
    a, b = (chance.randrange(len(data) // 4096) * 4096 for _ in range(2))
    data[a : a + 4096], data[b : b + 4096] = data[b : b + 4096], data[a : a + 4096]
    (run / files.FILE).write_bytes(data)


TABLES = ("meta", "calls", "completions", "scores", "alternatives", "tokens", "chain")


def dropped_table(run: Path, chance: random.Random) -> None:
    execute(run, f"DROP TABLE {chance.choice(TABLES)}")


def dropped_column(run: Path, chance: random.Random) -> None:
    table, column = chance.choice(
        [("calls", "reply"), ("calls", "headers"), ("calls", "flag"), ("completions", "extra"),
         ("completions", "text"), ("scores", "notes"), ("chain", "row")]
    )  # fmt: skip
    execute(run, f"ALTER TABLE {table} DROP COLUMN {column}")


def emptied(run: Path, chance: random.Random) -> None:
    execute(run, f"DELETE FROM {chance.choice(TABLES)}")


WRONG = ["x'00'", "x'ff00'", "'x'", "''", "-1", "9e99", "9223372036854775807", "'{}'", "'[]'", "'null'", "'[1,2]'",
         "1.5", "'{\"a\": 1}'", "zeroblob(100000)", "cast(x'ff' AS TEXT)"]  # fmt: skip


def wrong_type(run: Path, chance: random.Random) -> None:
    table = chance.choice(TABLES)
    with closing(sqlite3.connect(run / files.FILE)) as database:
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    some = chance.choice(["", " WHERE random() % 2"])
    execute(run, f"UPDATE OR IGNORE {table} SET {chance.choice(columns)} = {chance.choice(WRONG)}{some}")


def wrong_setting(run: Path, chance: random.Random) -> None:
    with closing(sqlite3.connect(run / files.FILE)) as database:
        keys = [row[0] for row in database.execute("SELECT key FROM meta")]
    execute(run, f"UPDATE meta SET value = {chance.choice(WRONG)} WHERE key = '{chance.choice(keys)}'")


def lacking_setting(run: Path, chance: random.Random) -> None:
    with closing(sqlite3.connect(run / files.FILE)) as database:
        keys = [row[0] for row in database.execute("SELECT key FROM meta")]
    execute(run, f"DELETE FROM meta WHERE key = '{chance.choice(keys)}'")


def garbage_beside(run: Path, chance: random.Random) -> None:
    (run / files.WAL).write_bytes(chance.randbytes(chance.choice([1, 32, 5000])))
    (run / f"{files.FILE}-shm").write_bytes(chance.randbytes(chance.choice([1, 32768])))


def another_thing(run: Path, chance: random.Random) -> None:
    (run / files.FILE).unlink()
    if chance.random() < 0.5:
        (run / files.FILE).mkdir()
    else:
        (run / files.FILE).symlink_to(run / "nowhere")


DAMAGE: list[Callable[[Path, random.Random], None]] = [
    flipped, flipped_head, cut, zeroed, swapped, dropped_table, dropped_column, emptied, wrong_type, wrong_type,
    wrong_setting, wrong_setting, lacking_setting, garbage_beside, another_thing,
]  # fmt: skip


def commands(run: Path, whole: Path, rows: Path, words: Path) -> list[list[str]]:
    nowhere = "http://127.0.0.1:9/v1"
    return [
        ["report", str(run)],
        ["report", str(run), "--json"],
        ["report", str(whole), "--control-run", str(run)],
        ["rank", str(run)],
        ["themes", str(run)],
        ["verify", str(run)],
        ["export", str(run), str(rows)],
        ["evaluate", str(run), "--keywords", str(words)],
        ["compare", str(whole), str(run)],
        ["resume", str(run)],
        ["score", str(run), "--reference-url", nowhere, "--reference-model", "other"],
    ]


def told(
    damaged: Path, whole: Path, place: Path, capfd: pytest.CaptureFixture[str], which: Sequence[int] = range(20)
) -> list[str]:
    """What is wrong with how the commands answer: each works, or ends in one line with exit code 2.

    `verify` may name what was altered, and ends with 5 then.
    """
    words = place / "words.txt"
    words.write_text("river\n")
    wrong = []
    for number, command in enumerate(commands(place / "run", whole, place / "rows.csv", words)):
        if number not in which:
            continue
        shutil.rmtree(place / "run", ignore_errors=True)
        shutil.copytree(damaged, place / "run", symlinks=True)
        capfd.readouterr()
        try:
            code = run_cli(command)
        except Exception as error:  # what a shell would show as a traceback
            wrong.append(f"{command[0]} ({number}): {type(error).__name__}: {error}")
            continue
        shown = capfd.readouterr()
        lines = [line for line in shown.err.splitlines() if line.strip()]
        if "Traceback" in shown.err or "unexpected" in shown.err.lower():
            wrong.append(f"{command[0]} ({number}): {lines[-1] if lines else ''}")
        elif code == 2 and sum("blackbox-diff: " in line for line in lines) != 1:
            wrong.append(f"{command[0]} ({number}): {len(lines)} lines: {lines}")
        elif code not in ((0, 2, 5) if command[0] == "verify" else (0, 2, 4)):
            wrong.append(f"{command[0]} ({number}): exit code {code}: {lines}")
    return wrong


def fuzz(
    finished: Path, tmp_path: Path, seeds: range, capfd: pytest.CaptureFixture[str], which: Sequence[int]
) -> None:
    wrong: list[str] = []
    for seed in seeds:
        chance = random.Random(seed)
        damaged = tmp_path / "damaged"
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(finished, damaged)
        how = DAMAGE[seed % len(DAMAGE)]
        how(damaged, chance)
        wrong += [f"{how.__name__} {seed}: {line}" for line in told(damaged, finished, tmp_path, capfd, which)]
    assert wrong == []


def test_damaged_run_files_are_one_line(finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fuzz(finished, tmp_path, range(len(DAMAGE)), capfd, QUICK)


def test_a_field_of_another_name_is_told_in_plain_words(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One flipped bit of 200 made a name that only this program's own code could complain of."""
    damaged = tmp_path / "damaged"
    shutil.copytree(finished, damaged)
    execute(damaged, "UPDATE completions SET extra = replace(extra, 'output_tokens', 'output^tokens')")
    capfd.readouterr()
    assert run_cli(["report", str(damaged)]) == 2
    line = capfd.readouterr().err
    assert "a completion can't be read (a field is missing, or of another name or kind): restore it" in line
    assert told(damaged, finished, tmp_path, capfd) == []


@pytest.mark.slow
def test_two_hundred_damaged_run_files_are_one_line(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fuzz(finished, tmp_path, range(N_SLOW), capfd, range(20))


MOUNTED = """
import json, sys
from blackbox_diff.cli import main
for line in json.loads(sys.argv[1]):
    try:
        main(line)
    except SystemExit as ended:
        print(f"@@ {line[0]} {ended.code or 0}", file=sys.stderr, flush=True)
"""


def on_a_read_only_disk(run: Path, lines: list[list[str]]) -> dict[str, tuple[int, list[str]]]:
    """Command -> exit code and stderr, with `run` mounted read-only, which binds also root."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare, which makes the mount, is not there")
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && echo mounted >&2 && exec "$@"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, str(run), sys.executable, "-c", MOUNTED, json.dumps(lines)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if "mounted" not in done.stderr:
        pytest.skip(f"no read-only mount can be made here: {done.stderr.strip()}")
    assert "Traceback" not in done.stderr
    found, said = {}, []
    for line in done.stderr.splitlines():
        if line.startswith("@@ "):
            _, command, code = line.split()
            found[command], said = (int(code), said), []
        elif line != "mounted":
            said.append(line)
    return found


READING = ["report", "rank", "themes", "verify"]


@pytest.mark.parametrize("killed", [False, True])
def test_a_run_on_a_read_only_disk_is_read(finished: Path, tmp_path: Path, killed: bool) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    if killed:  # what was written last is still in the log beside the file
        with Store.open(run) as store:
            store.set_state(replace(store.state, seconds=5.0))
            shutil.copytree(run, tmp_path / "killed")
        run = tmp_path / "killed"
        assert (run / files.WAL).stat().st_size > 0
    elsewhere = str(tmp_path / "rows.csv")
    nowhere = ["--reference-url", "http://127.0.0.1:9/v1", "--reference-model", "other"]
    found = on_a_read_only_disk(
        run,
        [
            *([command, str(run)] for command in READING), ["export", str(run), elsewhere],
            ["resume", str(run)], ["score", str(run), *nowhere],
        ],
    )  # fmt: skip
    assert {command: found[command] for command in (*READING, "export")} == {
        command: (0, []) for command in (*READING, "export")
    }
    for command in ("resume", "score"):
        code, lines = found[command]
        assert (code, len(lines)) == (2, 1)
        assert "can't be written" in lines[0]
