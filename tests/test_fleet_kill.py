"""A fleet whose workers and driver are killed at random moments: never above its cap, and the same rankings."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from blackbox_diff.fleet.costs import spent, watch_record
from blackbox_diff.run.results import read_run
from tests.conftest import run_cli
from tests.leaky_toy import LeakyToy
from tests.processes import ROOT
from tests.toy_server import serving

pytestmark = pytest.mark.slow
NAMES = ("leaky", "other-leaky", "base", "other-base")
TARGET = """
[[targets]]
url = "{url}"
model = "{model}"
label = "{label}"
audit = {{ seed = {seed} }}
"""
PLAN = """
[fleet]
max_cost = {cap}
parallel = 2

[defaults]
completions = 40
max_tokens = 12
control = 8
concurrency = 2

[defaults.budget]
price_in = 1.0
price_out = 1000.0

[[references]]
url = "{url}"
model = "base"
"""
DASK = ("--engine", "dask", "--workers", "2")
Ranking = dict[str, list[tuple[str, float | None]]]


def plan_file(directory: Path, url: str, cap: float) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    targets = [
        TARGET.format(url=url, model=name.removeprefix("other-"), label=name, seed=int("other" in name))
        for name in NAMES
    ]
    file = directory / f"cap-{cap}.toml"
    file.write_text(PLAN.format(url=url, cap=cap) + "".join(targets), encoding="utf-8")
    return file


def total(out: Path) -> float:
    """USD over all audits, calls in flight at their reservation."""
    runs = [out / "runs" / name for name in NAMES]
    costs = [spent(watch_record(run), run) for run in runs]
    return sum(cost for cost in costs if cost is not None)


def rankings(out: Path) -> Ranking:
    found = {name: read_run(out / "runs" / name).analysis.ranking for name in NAMES}
    return {name: [(row.id, row.value) for row in rows] for name, rows in found.items()}


@pytest.fixture(scope="module")
def toy() -> LeakyToy:
    return LeakyToy()


@pytest.fixture(scope="module")
def url(toy: LeakyToy) -> Iterator[str]:
    with serving(toy) as url:
        yield url


@pytest.fixture(scope="module")
def whole(url: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ranking, float, float]:
    """Rankings, cost in USD and seconds of a fleet that nobody kills."""
    directory = tmp_path_factory.mktemp("whole")
    began = time.monotonic()
    assert run_cli(["fleet", str(plan_file(directory, url, 100.0)), "--out", str(directory / "out")]) == 0
    return rankings(directory / "out"), total(directory / "out"), time.monotonic() - began


def sitting(plan: Path, out: Path, engine: tuple[str, ...]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "blackbox_diff", "fleet", str(plan), "--out", str(out), *engine],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
    )  # fmt: skip


def workers(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        children = psutil.Process(driver.pid).children(recursive=True)
        return [each for each in children if "spawn_main" in " ".join(each.cmdline())]
    except psutil.Error:
        return []


def lasts(driver: subprocess.Popen[str], seconds: float) -> bool:
    """Whether the driver is still there after so long."""
    try:
        driver.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


@pytest.mark.parametrize(("engine", "kills"), [((), 8), (DASK, 12)], ids=["local", "dask"])
def test_killed_at_random_moments(
    url: str,
    toy: LeakyToy,
    whole: tuple[Ranking, float, float],
    tmp_path: Path,
    engine: tuple[str, ...],
    kills: int,
) -> None:
    """The cap is what the whole fleet costs, so what kills lose is missing in the end, and is then paid for."""
    ranking, cost, seconds = whole
    rng, out, done = random.Random(19), tmp_path / "out", 0
    tight = plan_file(tmp_path, url, round(cost, 6))
    while done < kills:
        before = len(toy.calls)
        driver = sitting(tight, out, engine)
        try:
            while driver.poll() is None and len(toy.calls) == before:
                time.sleep(0.005)
            if engine and lasts(driver, rng.uniform(0, seconds / 8)):
                for worker in rng.sample(workers(driver), k=min(1, len(workers(driver)))):
                    worker.kill()
                    done += 1
            if lasts(driver, rng.uniform(0, seconds / 8)):
                done += 1
        finally:
            driver.kill()
            code = driver.wait()
        assert total(out) <= cost + 1e-9
        if code >= 0:  # it came to its end: the rest of the kills are on a new fleet
            assert code in (0, 3)
            out = tmp_path / f"out-{done}"
    assert run_cli(["fleet", str(plan_file(tmp_path, url, 100.0)), "--out", str(out), *engine]) == 0
    assert rankings(out) == ranking
