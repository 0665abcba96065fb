"""The benchmark of a fleet's engines: what it calls the same, and what it calls a fault."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from benchmarks.fleet_engines import Fleet, digest, faults, table, total
from tests.conftest import run_cli
from tests.leaky_toy import LeakyToy
from tests.test_fleet import plan_file, spent
from tests.toy_server import serving


def test_a_score_that_differs_in_one_place_is_another_ranking(tmp_path: Path) -> None:
    with serving(LeakyToy()) as url:
        plan = plan_file(tmp_path, url)
        text = plan.read_text(encoding="utf-8").replace("http://127.0.0.1:9/v1", url)
        plan.write_text(text.replace('"nobody"', '"base"\nlabel = "again"'), encoding="utf-8")
        assert run_cli(["fleet", str(plan), "--out", str(tmp_path / "one")]) == 0
    assert total(tmp_path / "one") == sum(spent(tmp_path / "one").values())
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    change_one_bit(tmp_path / "two" / "runs" / "again" / "run.sqlite")
    assert digest(tmp_path / "one") != digest(tmp_path / "two")


def change_one_bit(file: Path) -> None:
    """Of the reference's logprob of one token."""
    with closing(sqlite3.connect(file)) as run, run:
        one = "origin = 'target' ORDER BY sample_id LIMIT 1"
        name, stored = run.execute(f"SELECT sample_id, logprobs FROM scores WHERE {one}").fetchone()
        changed = bytes([stored[0] ^ 1, *stored[1:]])
        run.execute("UPDATE scores SET logprobs = ? WHERE origin = 'target' AND sample_id = ?", (changed, name))


def test_two_digests_and_a_total_above_the_cap_are_faults() -> None:
    local = Fleet("local", 100.0, 1.0, 10.0, 0.04, "a" * 64, "")
    dask = Fleet("dask", 105.0, 2.0, 12.0, 0.06, "b" * 64, "")
    assert faults([local, local], 0.05) == []
    assert faults([local, dask], 0.05) == ["dask spent 0.06 of 0.05 USD", "the rankings differ"]
    assert "| +5.0% |" in table([local, dask], 0.05)[-1]
