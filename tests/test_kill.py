"""An audit that is killed at any moment, or stopped by a signal or a full disk, loses and repeats nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from blackbox_diff.buying.buyer import PROBING
from blackbox_diff.cli import main
from blackbox_diff.errors import RunFileError
from blackbox_diff.run.results import read_run
from blackbox_diff.runfile.encoding import StoredCall
from blackbox_diff.runfile.store import Store
from tests.processes import ROOT

N, CONCURRENCY = 12, 6
MODELS = {"target": "one", "reference:tiny": "tiny"}
FIELDS = ("requests", "prompt_tokens", "completion_tokens")

Books = dict[str, tuple[int, ...]]


def options(url: str, run: Path, *more: str) -> list[str]:
    return [
        "audit", "--target-url", url, "--target-model", "one", "--reference-url", url, "--reference-model", "tiny",
        "--completions", str(N), "--max-tokens", "16", "--concurrency", str(CONCURRENCY), "--seed", "3",
        "--out", str(run), *more,
    ]  # fmt: skip


def cli(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def launch(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "blackbox_diff", *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> str:
    """What the process wrote to stderr until its end, which must not be a traceback."""
    _, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors, errors
    return errors


def wait_for(process: subprocess.Popen[str], path: Path) -> None:
    while process.poll() is None and not path.exists():
        time.sleep(0.002)


def books(url: str) -> Books:
    """The server's own count, per model: requests, prompt tokens, completion tokens."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as reply:
        found = json.load(reply)["asked"]
    return {model: tuple(found.get(model, {}).get(field, 0) for field in FIELDS) for model in MODELS.values()}


def ranking(run: Path) -> list[tuple[str, str]]:
    return [(row.id, row.completion) for row in read_run(run).analysis.ranking]


def question(call: StoredCall) -> tuple[str, str, str]:
    return call.role, call.sample_id, call.digest


@dataclass(frozen=True)
class Whole:
    """An uninterrupted audit: its ranking, the questions it paid for, and how long it was at work."""

    ranking: list[tuple[str, str]]
    questions: Counter[tuple[str, str, str]]
    watched: set[tuple[str, str, str]]
    seconds: float


@pytest.fixture(scope="module")
def whole(plain_server: str, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    run = tmp_path_factory.mktemp("whole") / "run"
    process = launch(*options(plain_server, run))
    wait_for(process, run / "run.lock")
    started = time.monotonic()
    ended(process)
    seconds = time.monotonic() - started
    assert process.returncode == 0
    with Store.open(run, read_only=True) as store:
        calls = [question(call) for call in store.calls()]
    return Whole(ranking(run), Counter(calls), set(calls[-len(MODELS) :]), seconds)


@pytest.fixture
def before(plain_server: str) -> Books:
    return books(plain_server)


def replies(run: Path) -> dict[int, tuple[tuple[str, str, str], bytes]]:
    """Every reply on disk; none where the process died before the run file was there."""
    try:
        with Store.open(run, read_only=True) as store:
            return {call.id: (question(call), call.reply.body) for call in store.calls() if call.reply}
    except RunFileError:
        return {}


def kill_and_resume(url: str, run: Path, moments: list[float]) -> None:
    """Audit with a SIGKILL at each of `moments` (seconds after the run's lock is taken), then to the end."""
    kept: dict[int, tuple[tuple[str, str, str], bytes]] = {}
    for moment in moments:
        resuming = bool(kept) or exists(run)
        process = launch(*(["resume", str(run)] if resuming else options(url, run)))
        wait_for(process, run / "run.lock")
        try:
            process.wait(moment + (1.0 if resuming else 0.0))  # the lock is there at once when resuming
        except subprocess.TimeoutExpired:
            process.kill()
        ended(process)
        found = replies(run)
        assert found | kept == found, "a stored reply was lost or changed"
        kept = found
    assert cli(*(["resume", str(run)] if exists(run) else options(url, run))) == 0
    found = replies(run)
    assert found | kept == found


def exists(run: Path) -> bool:
    try:
        Store.open(run, read_only=True).close()
    except RunFileError:
        return False
    return True


def check(url: str, run: Path, whole: Whole, before: Books, kills: int) -> None:
    after = books(url)
    with Store.open(run, read_only=True) as store:
        calls = list(store.calls())
        for role, model in MODELS.items():
            mine = [call for call in calls if call.role == role]
            unknown = [call for call in mine if call.state == "unknown"]
            spent = store.spent(role)
            ledger = (len(mine), spent.input_tokens, spent.output_tokens)
            server = tuple(b - a for a, b in zip(before[model], after[model], strict=True))
            most = (len(unknown), sum(c.reserved[0] for c in unknown), sum(c.reserved[1] for c in unknown))
            for counted, billed, reserved in zip(ledger, server, most, strict=True):
                assert billed <= counted <= billed + reserved, (role, ledger, server, most)
            assert len(unknown) <= kills * CONCURRENCY
            assert all((c.error, c.settled) == ("process_died", c.reserved) for c in unknown)
    answered = [call for call in calls if call.state != "unknown"]
    assert all(call.state == "settled" and call.accepted for call in answered)
    # Everything that the uninterrupted run asked was asked, and nothing was paid for twice; but the watch for
    # drift asks its own question of the target after each resume, and of both models at the end.
    questions = Counter(map(question, answered))
    assert whole.questions <= questions
    again = questions - whole.questions
    assert {sample_id for _, sample_id, _ in again} <= {PROBING}
    assert again.total() <= 3 * kills
    assert {digest for _, _, digest in again} <= {digest for _, _, digest in whole.watched}
    assert ranking(run) == whole.ranking
    assert cli("verify", str(run)) == 0


def test_killed_again_and_again_an_audit_ends_as_if_it_had_not_been(
    plain_server: str, whole: Whole, before: Books, tmp_path: Path
) -> None:
    chance = random.Random(1)
    moments = [chance.uniform(0, whole.seconds) for _ in range(4)]
    kill_and_resume(plain_server, tmp_path / "run", moments)
    check(plain_server, tmp_path / "run", whole, before, len(moments))


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(100))
def test_a_kill_at_a_random_moment_costs_no_more_than_the_calls_in_flight(
    trial: int, plain_server: str, whole: Whole, before: Books, tmp_path: Path
) -> None:
    moment = random.Random(trial).uniform(0, whole.seconds)
    kill_and_resume(plain_server, tmp_path / "run", [moment])
    check(plain_server, tmp_path / "run", whole, before, 1)


@pytest.fixture
def under_way(plain_server: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """An audit into tmp_path/run that is past its probe and buying."""
    process = launch(*options(plain_server, tmp_path / "run", "--completions", "400"))
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "bought" in line:
                break
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_second_process_is_refused_and_two_signals_end_the_first_without_a_traceback(
    under_way: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert cli("resume", str(run)) == 2
    assert f"in use by another process (id {under_way.pid})" in capsys.readouterr().err
    under_way.send_signal(signal.SIGTERM)
    under_way.send_signal(signal.SIGINT)
    ended(under_way)
    assert under_way.returncode == 130
    with Store.open(run) as store:
        assert {call.state for call in store.calls()} <= {"settled", "unknown"}
        assert store.state.stopped_because == "interrupted"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_probing_ends_in_one_line(
    number: signal.Signals, plain_server: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = launch(*options(plain_server, run))
    wait_for(process, run / "run.sqlite-wal")
    while process.poll() is None and not replies(run):
        time.sleep(0.002)
    process.send_signal(number)
    errors = ended(process)
    assert process.returncode == 130, errors
    assert "resume" in errors.splitlines()[-1]


def test_a_full_disk_ends_an_audit_in_one_line_and_resume_completes_it(
    plain_server: str, whole: Whole, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        (disk / "ballast").write_bytes(b"\0" * (8 * 2**20 - 300_000))
        process = launch(*options(plain_server, disk / "run"))
        errors = ended(process)
        assert process.returncode == 3
        assert "disk is full" in errors
        (disk / "ballast").unlink()
        assert cli("resume", str(disk / "run")) == 0
        assert ranking(disk / "run") == whole.ranking
    finally:
        subprocess.run(["umount", str(disk)], check=True)
