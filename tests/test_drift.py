"""An endpoint that changes under way: the run says so, and so does every report of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blackbox_diff.run.results import read_run
from tests.fake_endpoint import FakeEndpoint
from tests.test_audit import run_cli
from tests.toy_server import serving

PROBE_CALLS = 13  # at most, as test_probe holds it to
N = 30


def audit(target: FakeEndpoint, run: Path, *more: str, completions: int = N) -> int:
    with serving(target) as url, serving(FakeEndpoint()) as reference:
        return run_cli(
            [
                "audit", "--target-url", url, "--target-model", "m", "--reference-url", reference,
                "--reference-model", "m", "--reference-label", "base", "--completions", str(completions),
                "--out", str(run), "--concurrency", "4", *more,
            ]
        )  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("other fingerprint", "m: the fingerprint changed from 'fp' to 'other fp'"),
        ("no logprobs", "m: replies came without logprobs after the probe found them"),
        ("zeros", "m: replies came with logprobs of 0 that stand for no number, after the probe found real ones"),
        ("no ids", "m: replies stopped carrying token ids"),
        ("other model", "m: the same question gives other logprobs than before the run (by 0.3 nats)"),
    ],
)
def test_a_change_under_way_is_told_everywhere(
    fault: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert audit(FakeEndpoint(later=(PROBE_CALLS + N // 2, (fault,))), run, "--json") == 0
    said = json.loads(capsys.readouterr().out)["warnings"]
    assert any(warning.startswith(words) for warning in said), said
    assert words.replace("'", "&#39;") in (run / "report.html").read_text(encoding="utf-8")
    assert run_cli(["report", str(run)]) == 0
    assert words in " ".join(capsys.readouterr().out.split())


def test_an_endpoint_that_stays_what_it_is_gives_no_warning(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert audit(FakeEndpoint("noisy"), run) == 0
    assert read_run(run).summary.warnings == ()


def test_an_endpoint_that_changed_between_two_sessions_is_told(tmp_path: Path) -> None:
    run, toy = tmp_path / "run", FakeEndpoint()
    with serving(toy) as url, serving(FakeEndpoint()) as reference:
        arguments = [
            "audit", "--target-url", url, "--target-model", "m", "--reference-url", reference,
            "--reference-model", "m", "--reference-label", "base", "--completions", "4", "--out", str(run),
        ]  # fmt: skip
        assert run_cli(arguments) == 0
        toy.faults.add("other model")
        assert run_cli(["resume", str(run), "--completions", "6"]) == 0
    assert "other logprobs" in " ".join(read_run(run).summary.warnings)


def test_watching_never_passes_a_cap(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert audit(FakeEndpoint(), run, "--max-calls", str(PROBE_CALLS + 10)) == 3
    assert read_run(run).summary.calls <= PROBE_CALLS + 10
