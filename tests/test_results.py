"""Runs on disk as findings: what is asked for and is not there is said in one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from blackbox_diff.errors import InputError
from blackbox_diff.records import ScoredCompletion
from blackbox_diff.run.results import benign_rows
from blackbox_diff.runfile.store import Store
from tests.scored import REFERENCE, scored


async def stored(path: Path, rows: Sequence[ScoredCompletion]) -> Path:
    with Store.create(path, {}) as store:
        for row in rows:
            await store.put_completion(row.sample, "target", row.completion, None)
            for label, score in row.scores.items():
                await store.put_score(row.sample.id, "target", label, score, None)
    return path


async def test_a_control_run_gives_its_targets_completions(tmp_path: Path) -> None:
    rows = [scored(k, f" one two {k}") for k in range(3)]
    run = await stored(tmp_path, rows)
    assert [row.completion for row in benign_rows(run, REFERENCE)] == [row.completion for row in rows]


async def test_a_control_run_that_the_reference_has_not_scored_is_refused(tmp_path: Path) -> None:
    run = await stored(tmp_path, [scored(0, " one two")])
    with pytest.raises(InputError, match=r"--control: .* has no scores of 'other'"):
        benign_rows(run, "other")
