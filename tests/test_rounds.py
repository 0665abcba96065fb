"""Adaptive runs over real sockets, against a server that leaks in one framing: look, ask again, validate, stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from blackbox_diff.cli import main
from blackbox_diff.design.apart import apart
from blackbox_diff.design.controller import ends
from blackbox_diff.findings import Round
from blackbox_diff.run.results import read_run
from blackbox_diff.runfile.store import Store
from tests.leaky_toy import LeakyToy
from tests.toy_server import serving

CAP, ASKED = 192, 100
BASE = "base"


@pytest.fixture(scope="module")
def toy() -> Iterator[str]:
    with serving(LeakyToy()) as url:
        yield url


def arguments(url: str, run: Path, *more: str, target: str = "leaky") -> list[str]:
    return [
        "audit", "--adaptive", "--target-url", url, "--target-model", target, "--reference-url", url,
        "--reference-model", BASE, "--completions", str(CAP), "--validation", str(ASKED), "--max-tokens", "20",
        "--follow-ups", "36", "--source", "prose", "--source", "code", "--out", str(run), *more,
    ]  # fmt: skip


def run_cli(line: Sequence[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(line))
    return int(ended.value.code or 0)


def bought(run: Path) -> list[tuple[str, str]]:
    """(role, sample) of every call that was made for a sample, in order."""
    with Store.open(run, read_only=True) as store:
        return [(call.role, call.sample_id) for call in store.calls() if call.sample_id]


def log(run: Path) -> tuple[Round, ...]:
    with Store.open(run, read_only=True) as store:
        return store.state.rounds


@pytest.fixture(scope="module")
def finished(toy: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("adaptive") / "run"
    line = [sys.executable, "-m", "blackbox_diff", *arguments(toy, run, "--json")]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (run / "said.txt").write_text(done.stderr)
    (run / "summary.json").write_text(done.stdout)
    return run


def test_rounds_add_up_and_arms_get_equal_shares(finished: Path) -> None:
    rounds, summary = log(finished), read_run(finished).summary
    assert [each.bought for each in rounds] == list(ends(CAP))[: len(rounds)]
    assert sum(sum(each.given.values()) for each in rounds) == rounds[-1].bought
    assert all(len(set(each.given.values())) == 1 for each in rounds)
    assert summary.completions <= CAP


def test_it_asks_again_where_it_leaks_and_stops_once_that_is_validated(finished: Path) -> None:
    results, decisions = read_run(finished), [said for each in log(finished) for said in each.decisions]
    assert decisions[0].startswith("asks again: “brass lantern of Port Ellery”")
    assert any("something else is looked for" in said for said in decisions)
    assert decisions[-1].startswith("stops: what was found is validated")
    assert results.summary.completions < CAP
    assert "validated" in results.summary.stopped_because
    first = results.analysis.validation[0]
    assert first.confirmed
    assert first.e_value >= first.needed
    assert first.target[1] < ASKED  # no more than it takes


def test_the_round_after_the_one_that_is_looked_at_is_bought_meanwhile(finished: Path) -> None:
    rounds, plan = log(finished), ends(CAP)
    with Store.open(finished, read_only=True) as store:
        assert len(store.outcomes("target")) == plan[len(rounds)]
        calls = [(call.id, call.sample_id) for call in store.calls("target") if call.sample_id]
    again = min(number for number, name in calls if name.startswith("follow-up"))
    ahead = [number for number, name in calls if not name.startswith(("follow-up", "validation"))]
    assert sum(number < again for number in ahead) > plan[0]


def test_where_there_is_nothing_it_asks_once_and_goes_to_the_cap(toy: str, tmp_path: Path) -> None:
    assert run_cli(arguments(toy, tmp_path / "run", "--completions", "60", target=BASE)) == 0
    results = read_run(tmp_path / "run")
    assert results.summary.completions == 60
    assert results.analysis.verdict.outcome != "finding"
    assert results.analysis.follow_ups
    assert not any(found.confirmed for found in results.analysis.validation)
    assert sum("asks again" in said for each in log(tmp_path / "run") for said in each.decisions) == 1


def test_the_fixed_design_buys_equal_shares_and_asks_again_where_told(toy: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_cli([*arguments(toy, run), "--no-adaptive", "--completions", "80"]) == 0
    results = read_run(run)
    assert {arm.scored for arm in results.analysis.arms} == {20}
    assert results.analysis.validation[0].confirmed
    assert results.summary.rounds == ()
    assert run_cli(["verify", str(run)]) == 0


def test_validation_is_never_ranked(finished: Path) -> None:
    results = read_run(finished)
    assert all(row.source in ("prose", "code") for row in results.analysis.ranking)
    with Store.open(finished, read_only=True) as store:
        fresh = {sample.id for sample, _, _ in store.decided(apart("validation", "target"))}
        other = {sample.id for sample, _, _ in store.decided(apart("validation", BASE))}
        calls = store.spent("target").calls
    assert fresh == other
    assert len(fresh) <= ASKED
    assert results.summary.calls == calls  # what validation cost is in the bill


def test_verify_decides_again(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["verify", str(finished)]) == 0
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "run.sqlite").write_bytes((finished / "run.sqlite").read_bytes())
    rounds = log(finished)
    with Store.open(copy) as store:
        asked = store.state.validation
        other = replace(asked[0], samples=asked[0].samples[:-1])
        edited = (rounds[0], replace(rounds[1], decisions=("stops: enough",)), *rounds[2:])
        store.set_state(replace(store.state, rounds=edited, validation=(other, *asked[1:])))
    assert run_cli(["verify", str(copy)]) == 5
    said = capsys.readouterr().err
    assert "round 2" in said
    assert "validation" in said


def test_going_on_with_a_finished_run_buys_nothing(finished: Path) -> None:
    before, rounds = bought(finished), log(finished)
    assert run_cli(["resume", str(finished)]) == 0
    assert bought(finished) == before
    assert log(finished) == rounds


def test_a_kill_in_the_middle_of_a_round_changes_nothing(toy: str, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    line = arguments(toy, run, "--concurrency", "2")
    process = subprocess.Popen(
        [sys.executable, "-m", "blackbox_diff", *line], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for said in process.stderr:  # the first look: the second round begins
        if said.startswith("round 1"):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert 0 < len(set(bought(run))) < len(set(bought(finished)))
    assert run_cli(["resume", str(run)]) == 0
    assert log(run) == log(finished)
    assert sorted(set(bought(run))) == sorted(set(bought(finished)))
    ids = [[row.id for row in read_run(each).analysis.ranking] for each in (run, finished)]
    assert ids[0] == ids[1]


def test_a_cap_in_calls_holds_and_resume_keeps_the_plan(toy: str, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_cli(arguments(toy, run, "--max-calls", "55")) == 3
    with Store.open(run, read_only=True) as store:
        assert store.spent("target").calls <= 55
    assert run_cli(["resume", str(run), "--max-calls", "1000"]) == 0
    assert log(run) == log(finished)


def test_what_is_decided_is_said(finished: Path) -> None:
    lines = (finished / "said.txt").read_text().splitlines()
    said = [line.strip() for line in lines if line.startswith("  ")]
    assert [line for line in said if line.startswith(("goes on", "asks again", "stops"))] == [
        decision for each in log(finished) for decision in each.decisions
    ]


def test_the_summary_reports_the_story_apart_from_the_finding(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert len(summary["rounds"]) == len(log(finished))
    assert summary["rounds"][0]["decisions"]
    assert summary["follow_ups"]
    assert summary["validation"][0]["confirmed"]
    assert summary["validation"][0]["e_value"] >= summary["validation"][0]["needed"]


def test_the_estimate_counts_validation_and_says_what_it_leaves_open(capsys: pytest.CaptureFixture[str]) -> None:
    prices = ["--price-in", "1", "--price-out", "2", "--completions", "100", "--adaptive"]
    line = ["estimate", "--target-url", "http://127.0.0.1:9/v1", "--target-model", "m", *prices]
    assert run_cli(line) == 0
    assert "adaptive:" in capsys.readouterr().out
    assert run_cli([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total"]["calls"] == 100 + 72 + 160
    assert found["arms"]["validation/chat"]["calls"] == 160


def test_validation_can_be_added_to_a_run(toy: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert (
        run_cli(
            [
                *arguments(toy, run),
                "--no-adaptive",
                "--completions",
                "48",
                "--validation",
                "0",
                "--follow-ups",
                "0",
            ]
        )
        == 0
    )
    assert read_run(run).analysis.validation == ()
    assert run_cli(["resume", str(run), "--validation", "100"]) == 0
    results = read_run(run)
    found = results.analysis.validation[0]
    assert found.target[1] == found.reference[1] >= 20
    assert found.target[0] > found.reference[0]
    assert results.summary.completions == 48
