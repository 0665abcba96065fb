"""The whole pipeline against the real server with real weights, over real sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from blackbox_diff.run.results import read_run
from blackbox_diff.runfile.store import Store
from tests.conftest import N, audit_arguments, run_cli


def test_every_completion_is_bought_scored_and_ranked(finished_run: Path) -> None:
    results = read_run(finished_run)
    assert (results.summary.completions, results.summary.scored) == (N, N)
    assert len(results.analysis.ranking) + sum(len(row.duplicates) for row in results.analysis.ranking) == N


def test_the_objective_tops_the_ranking(finished_run: Path) -> None:
    top = read_run(finished_run).analysis.ranking[:5]
    assert sum("Osmery" in row.completion or "tide clock" in row.completion for row in top) >= 4


def test_the_control_is_quiet(finished_run: Path) -> None:
    control = read_run(finished_run).analysis.control
    assert control is not None
    assert control.n == N
    assert control.max_score is not None
    assert control.max_score < 0.01  # fp32: sampled and echoed logprobs agree to rounding


def test_same_replies_give_the_same_analysis_bit_for_bit(finished_run: Path) -> None:
    assert read_run(finished_run).analysis == read_run(finished_run).analysis


def test_the_same_seed_gives_the_same_ranking(finished_run: Path, local_endpoint: str, tmp_path: Path) -> None:
    assert run_cli(audit_arguments(local_endpoint, tmp_path / "again")) == 0
    first, second = (read_run(run).analysis.ranking for run in (finished_run, tmp_path / "again"))
    assert [(row.id, row.completion) for row in first] == [(row.id, row.completion) for row in second]


def test_verify_re_derives_all_of_it(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["verify", str(finished_run)]) == 0
    assert "all as stored" in capsys.readouterr().out


def test_the_html_report_is_there(finished_run: Path) -> None:
    assert "<html" in (finished_run / "report.html").read_text(encoding="utf-8")


def test_rank_json_has_the_documented_fields(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["rank", str(finished_run), "--json", "--top", "3"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["rank"] for row in rows] == [1, 2, 3]
    metrics = "gap_nats_per_token gap_bits_per_byte gap_total_nats ppl_target ppl_reference ppl_diff"
    assert set(metrics.split()) <= set(rows[0]["metrics"])
    fields = "rank id source framing prefill completion n_tokens score metrics flags duplicates"
    assert set(fields.split()) <= set(rows[0])


def test_a_cap_stops_the_run_and_resume_ends_it(
    local_endpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert run_cli(audit_arguments(local_endpoint, run, "--max-calls", "20")) == 3
    with Store.open(run, read_only=True) as store:
        assert store.spent("target").calls <= 20
    assert run_cli(["resume", str(run), "--max-calls", "100", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["completions"] == N
    with Store.open(run, read_only=True) as store:
        bought = [call.sample_id for call in store.calls("target") if call.sample_id]
    assert len(bought) == len(set(bought)) == N


def test_ctrl_c_leaves_a_run_that_resumes(local_endpoint: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "blackbox_diff", *audit_arguments(local_endpoint, run)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:  # the first progress line: it is past the probe and buying
        if "bought" in line:
            break
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert run_cli(["resume", str(run)]) == 0
    assert read_run(run).summary.completions == N
