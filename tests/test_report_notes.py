"""Notes on a run come back from a file, several references stand side by side, and the control can be exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blackbox_diff.errors import InputError
from blackbox_diff.report import markdown
from blackbox_diff.report.notes import read_notes
from blackbox_diff.run.results import read_run
from tests.conftest import run_cli
from tests.fake_endpoint import FakeEndpoint
from tests.report_data import analysis_of, summary_of
from tests.test_cli import refused
from tests.test_workflow import N, audit
from tests.toy_server import serving

FILE: dict[str, Any] = {
    "schema": 1,
    "run": "demo-run",
    "created": "2026-11-24T05:00:00Z",
    "target": "t",
    "notes": [{"on": "completion", "name": "prose.raw.00000", "mark": "keep", "note": "![x](http://h/)"}],
}
KNOWN = ("prose.raw.00000",)


def written(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps({**FILE, **changes}), encoding="utf-8")
    return path


def test_notes_come_back_and_stand_inert_in_markdown(tmp_path: Path) -> None:
    found = read_notes(written(tmp_path / "n.json"), run="r", created=FILE["created"], known=KNOWN)
    assert [(note.name, note.mark) for note in found.notes] == [("prose.raw.00000", "keep")]
    analysis = analysis_of(40)
    text = markdown.render(analysis, summary_of(analysis), notes=found)
    assert "- keep, completion ` prose.raw.00000 `: ` ![x](http://h/) `" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"created": "2020-01-01"}, "of another run"),
        ({"schema": 2}, "schema: Input should be 1"),
        ({"notes": [{"on": "completion", "name": "nobody"}]}, "completion nobody is not in it"),
        ({"notes": [{"on": "token", "name": "x"}]}, "notes.0.on"),
        ({"notes": 3}, "notes: "),
    ],
)
def test_what_is_no_file_of_this_runs_notes_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    path = written(tmp_path / "n.json", **changes)
    with pytest.raises(InputError) as told:
        read_notes(path, run="r", created=FILE["created"], known=KNOWN)
    assert words in str(told.value)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two references."""
    run = tmp_path_factory.mktemp("notes") / "run"
    with serving(FakeEndpoint()) as url:
        assert run_cli(audit(url, run)) == 0
        second = ["--reference-url", url, "--reference-model", "m", "--reference-label", "second"]
        assert run_cli(["score", str(run), *second]) == 0
    return run


def test_score_leaves_the_report_with_its_first_reference_and_adds_the_other(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    assert '<b id="against">m</b>' in page
    assert 'data-view="1" aria-pressed="false">second</button>' in page


def test_report_takes_notes_of_this_run_and_no_other(run: Path, tmp_path: Path, capsys: Any) -> None:
    results = read_run(run)
    note = {"on": "completion", "name": results.analysis.order[0], "mark": "dismiss", "note": "a loop"}
    path = written(tmp_path / "n.json", created=results.summary.created, notes=[note])
    out = tmp_path / "out.html"
    assert run_cli(["report", str(run), "--notes", str(path), "--html", str(out)]) == 0
    assert '"note":"a loop"' in out.read_text(encoding="utf-8")
    capsys.readouterr()
    assert "of another run" in refused(["report", str(run), "--notes", str(written(tmp_path / "o.json"))], capsys)


def test_the_control_is_exported(run: Path, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "control.jsonl"
    assert run_cli(["export", str(run), str(file), "--written-by", "control"]) == 0
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert {row["completion"] for row in rows} == {row.completion for row in read_run(run).analysis.controls}
    assert 0 < len(rows) <= N
    assert run_cli(["export", str(run), str(tmp_path / "summary.md")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"wrote the summary to {tmp_path / 'summary.md'}"
