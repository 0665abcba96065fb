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


@pytest.mark.slow
def test_a_fresh_install_without_torch_writes_the_report(wheel: Path, finished_run: Path, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    pins = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *pins, str(wheel)], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    html = tmp_path / "report.html"
    done = subprocess.run(
        [str(python.parent / "blackbox-diff"), "report", str(finished_run), "--html", str(html)],
        capture_output=True, text=True, cwd=tmp_path, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = html.read_text(encoding="utf-8")
    assert "uPlot" in page
    assert 'id="data"' in page
    torch = subprocess.run([str(python), "-c", "import torch"], capture_output=True, env=environment, check=False)
    assert torch.returncode != 0
