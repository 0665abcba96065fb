"""Wrong input ends as one clear line and exit code 2, with no traceback and nothing bought."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from blackbox_diff.cli import COMMANDS, main

TARGET = ["--target-url", "http://127.0.0.1:9/v1", "--target-model", "m"]
REFERENCE = ["--reference-url", "http://127.0.0.1:9/v1", "--reference-model", "r"]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that must exit with 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip()
    assert "Traceback" not in error
    return error.splitlines()[-1]


def test_unreachable_url(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(["audit", *TARGET, *REFERENCE, "--out", str(tmp_path / "run")], capsys)
    assert "http://127.0.0.1:9/v1" in line


def test_a_url_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(["audit", "--target-url", "nonsense", "--target-model", "m", "--out", str(tmp_path)], capsys)
    assert "target.url" in line
    assert "nonsense" in line


def test_missing_key_variable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    arguments = ["audit", *TARGET, *REFERENCE, "--target-key-env", "NO_SUCH_KEY", "--out", str(tmp_path / "run")]
    assert "NO_SUCH_KEY" in refused(arguments, capsys)


def test_unknown_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["audit", *TARGET, *REFERENCE, "--source", "poetry", "--out", str(tmp_path / "run")]
    assert "poetry" in refused(arguments, capsys)
    assert not (tmp_path / "run").exists()


def test_no_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--reference-url" in refused(["audit", *TARGET, "--out", str(tmp_path / "run")], capsys)


def test_a_cap_in_usd_without_a_price(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["audit", *TARGET, *REFERENCE, "--max-cost", "1", "--out", str(tmp_path / "run")]
    assert "--price-in" in refused(arguments, capsys)


def test_a_directory_that_is_not_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("rank", "themes", "report", "verify", "resume"):
        assert str(tmp_path) in refused([command, str(tmp_path)], capsys)


def test_an_unknown_setting_in_toml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "audit.toml"
    path.write_text('colour = "red"\n[target]\nurl = "http://x/v1"\nmodel = "m"\n')
    line = refused(["audit", str(path), "--out", str(tmp_path / "run")], capsys)
    assert str(path) in line
    assert "colour" in line


def test_broken_toml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "audit.toml"
    path.write_text("target = [")
    assert str(path) in refused(["estimate", str(path)], capsys)


def test_an_unknown_organism(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "false-fact" in refused(["demo", "--organism", "unicorn", "--out", str(tmp_path / "run")], capsys)


def test_an_option_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--fast" in refused(["audit", "--fast"], capsys)


def test_estimate_spends_nothing_and_says_what_an_audit_costs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["estimate", *TARGET, "--price-in", "0.3", "--price-out", "1.2", "--completions", "100"])
    assert ended.value.code == 0
    assert "prose/raw" in capsys.readouterr().out


def test_help_lists_every_command_and_loads_none_of_the_heavy_modules() -> None:
    code = (
        "import sys\nfrom blackbox_diff.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('openai', 'numpy', 'pydantic', 'torch', 'rich', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    assert all(name in done.stdout for name in COMMANDS)
