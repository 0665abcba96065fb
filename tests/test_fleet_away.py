"""A fleet behind a URL: worked on locally, moved when done, moved back to go on; and what a fault leaves."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from blackbox_diff.errors import ConfigError
from blackbox_diff.fleet.away import Away, Claim
from blackbox_diff.fleet.rows import Index
from blackbox_diff.run.collect import TARGET
from blackbox_diff.run.results import read_run
from blackbox_diff.runfile.store import Store
from tests.conftest import run_cli
from tests.leaky_toy import LeakyToy
from tests.test_fleet import plan_file
from tests.toy_server import serving

NAMES = ("leaky", "base")


@pytest.fixture(scope="module")
def toy() -> LeakyToy:
    return LeakyToy()


@pytest.fixture(scope="module")
def url(toy: LeakyToy) -> Iterator[str]:
    with serving(toy) as url:
        yield url


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLACKBOX_DIFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["memory", pytest.param("file", marks=pytest.mark.slow)])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{tmp_path.name}/audits" if request.param == "memory" else f"file://{tmp_path}/store/audits"


def index_of(home: str) -> Index:
    with fsspec.open(f"{home}/fleet.json", "rb") as file:
        return Index.model_validate_json(file.read())


def fleet(plan: Path, home: str, *more: str) -> int:
    return run_cli(["fleet", str(plan), "--out", home, *more])


def spent(home: str, directory: Path) -> float:
    """USD in the runs that the store has."""
    files, root = fsspec.core.url_to_fs(home)
    total = 0.0
    for name in NAMES:
        if files.exists(f"{root}/runs/{name}/run.sqlite"):
            run = directory / "read" / name
            run.mkdir(parents=True, exist_ok=True)
            files.get_file(f"{root}/runs/{name}/run.sqlite", str(run / "run.sqlite"))
            with Store.open(run, read_only=True) as store:
                total += store.spent(TARGET).usd or 0.0
    return total


def test_worked_on_here_and_moved_when_done(
    home: str, url: str, toy: LeakyToy, tmp_path: Path, cache: Path
) -> None:
    plan = plan_file(tmp_path, url)
    assert fleet(plan, home) == 0
    assert {row.name: row.status for row in index_of(home).rows} == {
        "leaky": "done", "base": "done", "nobody": "failed",
    }  # fmt: skip
    files, root = fsspec.core.url_to_fs(home)
    for name in NAMES:
        assert sorted(Path(each).name for each in files.ls(f"{root}/runs/{name}", detail=False)) == [
            "claim.json", "phrases.parquet", "report.html", "run.sqlite",
        ]  # fmt: skip
    assert list(cache.glob("fleets/*/runs/*")) == []
    paid = spent(home, tmp_path)
    assert sum(row.cost_usd or 0.0 for row in index_of(home).rows) == pytest.approx(paid)
    assert read_run(tmp_path / "read" / "leaky").analysis.ranking
    calls = len(toy.calls)
    assert fleet(plan, home) == 0
    assert len([call for call in toy.calls[calls:] if "completions" in str(call)]) == 0


@pytest.mark.slow
def test_a_cap_holds_and_a_run_moves_back_to_go_on(url: str, tmp_path: Path) -> None:
    home = f"memory://{tmp_path.name}/audits"
    assert fleet(plan_file(tmp_path, url, cap=0.35), home) == 3
    first = spent(home, tmp_path)
    assert 0 < first <= 0.35
    assert fleet(plan_file(tmp_path, url, cap=5.0), home) == 0
    assert first < spent(home, tmp_path) <= 5.0
    assert {row.status for row in index_of(home).rows} == {"done", "failed"}


def test_an_upload_that_fails_loses_nothing(
    url: str, toy: LeakyToy, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, plan, put = f"memory://{tmp_path.name}/audits", plan_file(tmp_path, url), MemoryFileSystem.put_file

    def full(self: MemoryFileSystem, local: str, remote: str, *rest: Any, **more: Any) -> None:
        if "run.sqlite" in remote:
            raise OSError("the bucket is full")
        put(self, local, remote, *rest, **more)

    monkeypatch.setattr(MemoryFileSystem, "put_file", full)
    assert fleet(plan, home) == 0
    rows = {row.name: row for row in index_of(home).rows}
    kept = {run.name: run for run in cache.glob("fleets/*/runs/*") if (run / "run.sqlite").is_file()}
    assert set(kept) == set(NAMES)
    for name in NAMES:
        said = rows[name].error or ""
        assert rows[name].status == "failed"
        assert "\n" not in said
        assert f"{home}/runs/{name} is not written" in said
        assert "the bucket is full" in said
        assert str(kept[name]) in said
    monkeypatch.setattr(MemoryFileSystem, "put_file", put)
    bought = len(toy.calls)
    assert fleet(plan, home) == 0
    assert [row.status for row in index_of(home).rows] == ["done", "done", "failed"]
    assert len([call for call in toy.calls[bought:] if "completions" in str(call)]) == 0
    assert list(cache.glob("fleets/*/runs/*")) == []


def broken_off(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """A fleet whose worker dies when its runs are bought, and before they are moved."""
    home, plan = f"memory://{tmp_path.name}/audits", plan_file(tmp_path, url, cap=1.0)
    back = Away.give_back

    def dies(*_: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(Away, "give_back", dies)
    assert fleet(plan, home) in (0, 3)
    monkeypatch.setattr(Away, "give_back", back)
    return home, plan


@pytest.mark.slow
def test_a_worker_that_died_is_gone_on_with_where_its_copy_is(
    url: str, toy: LeakyToy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, _ = broken_off(url, tmp_path, monkeypatch)
    assert spent(home, tmp_path) == 0.0
    bought = len(toy.calls)
    assert fleet(plan_file(tmp_path, url, cap=5.0), home) == 0
    assert {row.status for row in index_of(home).rows} == {"done", "failed"}
    assert len(toy.calls) - bought < bought


def test_what_a_lost_copy_may_have_spent_stays_spent(
    url: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, plan = broken_off(url, tmp_path, monkeypatch)
    shutil.rmtree(cache)  # the machine is gone, too
    place = Away(home)
    counted = [place.committed(name) or 0.0 for name in NAMES]
    assert all(each > 0 for each in counted)
    assert fleet(plan, home) == 3
    assert spent(home, tmp_path) + sum(counted) <= 1.0 + 1e-9


def test_a_run_that_another_worker_took_over_is_not_overwritten(tmp_path: Path, cache: Path) -> None:
    from blackbox_diff.fleet.job import Job
    from blackbox_diff.fleet.rows import Row

    home = f"memory://{tmp_path.name}/audits"
    job = Job("one", "", {"target": {"model": "m", "url": "u"}}, max_cost=1.0, home=home)
    place = Away(home)
    taken = place.take(job)
    (taken.run / "run.sqlite").write_bytes(b"")
    place._write("one", Claim(id="another", spent=None, at_most=1.0, at_work=True))
    row = place.give_back(job, taken, Row(name="one", target="m", url="u", run="", status="done"))
    assert row.status == "failed"
    assert "another worker" in (row.error or "")
    assert taken.run.is_dir()
    assert not fsspec.filesystem("memory").exists(f"/{tmp_path.name}/audits/runs/one/run.sqlite")


@pytest.mark.parametrize(
    ("out", "said"),
    [("nowhere://x/y", "nowhere"), ("ftp://me:secret@host/x", "password"), ("gs://bucket/x", "gcsfs")],
)
def test_a_url_that_cannot_be_is_one_line(out: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        Away(out)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.slow
def test_dask_works_behind_a_url(url: str, tmp_path: Path) -> None:
    home = f"file://{tmp_path}/store"
    assert fleet(plan_file(tmp_path, url), home, "--engine", "dask", "--workers", "2") == 0
    rows = json.loads((tmp_path / "store" / "fleet.json").read_text())["rows"]
    assert [row["status"] for row in rows] == ["done", "done", "failed"]


def test_a_control_that_several_audits_fetch_at_once_arrives_whole(tmp_path: Path, cache: Path) -> None:
    """fsspec's store in memory hands every reader one file with one place in it."""
    place, content = Away(f"memory://{tmp_path.name}"), os.urandom(8_000_000)
    source = tmp_path / "source"
    source.write_bytes(content)
    place._put(source, "runs/one/run.sqlite")
    copies = [tmp_path / str(number) for number in range(12)]
    with ThreadPoolExecutor(4) as workers:
        assert all(workers.map(lambda copy: place._fetch("runs/one/run.sqlite", copy), copies))
    assert all(copy.read_bytes() == content for copy in copies)
