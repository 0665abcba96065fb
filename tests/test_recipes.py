"""The recipes of docs/recipes, run with a toy in the vendor's place: one model in CI, and a fleet by cron."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.leaky_toy import LeakyToy
from tests.toy_server import serving

RECIPES = ROOT / "docs" / "recipes"
KEY = "vk-0123456789abcdef"
SETTINGS = """
completions = 24
max_tokens = 12
control = 8
"""
TARGET = """
url = "{url}"
model = "leaky"
key_env = "VENDOR_KEY"
"""
REFERENCE = """
url = "{url}"
model = "base"
"""


@pytest.fixture
def toy() -> LeakyToy:
    return LeakyToy()


@pytest.fixture
def url(toy: LeakyToy) -> Iterator[str]:
    with serving(toy) as url:
        yield url


def environment(directory: Path, **more: str) -> dict[str, str]:
    """With a `blackbox-diff` that is this checkout's."""
    command = directory / "bin" / "blackbox-diff"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m blackbox_diff "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **more}


def job(directory: Path) -> list[int]:
    """Exit codes of the workflow's own steps, run as GitHub's runner does, up to the first that fails."""
    workflow = yaml.safe_load((RECIPES / "audit.yml").read_text(encoding="utf-8"))
    (steps,) = (each["steps"] for each in workflow["jobs"].values())
    env = environment(directory, VENDOR_KEY=KEY, BLACKBOX_DIFF_CACHE=str(directory / "cache"))
    codes: list[int] = []
    for script in [step["run"] for step in steps if "run" in step and "pip install" not in step["run"]]:
        if any(codes):
            break
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script], cwd=directory, env=env, capture_output=True, check=False
        )
        assert KEY.encode() not in done.stdout + done.stderr
        codes.append(done.returncode)
    return codes


@pytest.mark.slow
def test_the_workflow_audits_then_watches_and_audits_anew_what_changed(
    url: str, toy: LeakyToy, tmp_path: Path
) -> None:
    settings = f"{SETTINGS}[target]{TARGET}[reference]{REFERENCE}".format(url=url)
    (tmp_path / "audit.toml").write_text(settings)
    assert job(tmp_path) == [0, 0, 0]
    first = (tmp_path / "runs" / "acme" / "run.sqlite").read_bytes()
    assert job(tmp_path) == [0, 0, 0]  # it is still the same model: nothing is audited
    assert (tmp_path / "runs" / "acme" / "run.sqlite").read_bytes() == first
    toy.faults.add("other model")
    assert job(tmp_path) == [0, 0, 0]
    (kept,) = (tmp_path / "runs").glob("acme-before-*")
    assert (kept / "run.sqlite").read_bytes() == first
    assert (tmp_path / "runs" / "acme" / "report.html").is_file()


@pytest.mark.slow
def test_the_script_tells_of_a_model_that_changed(url: str, toy: LeakyToy, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(KEY)
    plan = f"[defaults]{SETTINGS}[[targets]]{TARGET}[[references]]{REFERENCE}".format(url=url)
    (tmp_path / "fleet.toml").write_text(plan)
    env = environment(tmp_path, VENDOR_KEY_FILE=str(key))

    def week(name: str) -> int:
        line = [str(RECIPES / "weekly-fleet.sh"), str(tmp_path), name]
        done = subprocess.run(line, env=env, capture_output=True, check=False)
        assert KEY.encode() not in done.stdout + done.stderr
        return done.returncode

    assert [week("one"), week("two")] == [0, 0]
    assert not (tmp_path / "two" / "runs" / "leaky").exists()
    toy.faults.add("other model")
    assert week("three") == 5
    assert (tmp_path / "latest").resolve() == (tmp_path / "three").resolve()
    for file in (tmp_path / "three").rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()
