"""Runs on disk as findings: what is asked for and is not there is said in one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from blackbox_diff.config.model import AuditConfig, EndpointConfig
from blackbox_diff.errors import InputError
from blackbox_diff.records import ScoredCompletion
from blackbox_diff.report import wording
from blackbox_diff.run.results import arm_losses, benign_rows, summarise
from blackbox_diff.runfile.store import Store
from tests.scored import REFERENCE, scored


async def stored(path: Path, rows: Sequence[ScoredCompletion], config: AuditConfig | None = None) -> Path:
    with Store.create(path, {} if config is None else {"config": config.model_dump(mode="json")}) as store:
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
    with pytest.raises(InputError, match=r"--control-run: .* has no scores of 'other'"):
        benign_rows(run, "other")


@pytest.mark.parametrize("adaptive", [False, True])
async def test_a_run_that_was_stopped_says_how_much_of_the_plan_was_not_bought(
    tmp_path: Path, adaptive: bool
) -> None:
    target = EndpointConfig(url="http://127.0.0.1:1/v1", model="m")
    config = AuditConfig(target=target, framing=("raw", "chat"), completions=9, adaptive=adaptive)
    run = await stored(tmp_path, [scored(k, f" one two {k}") for k in range(3)], config)
    with Store.open(run, read_only=True) as store:
        summary, arms = summarise(store, "run", 3), arm_losses(store)
    assert (summary.completions, summary.unpaid) == (3, 6)
    assert wording.outcomes(summary).endswith("6 unpaid of 9 planned")
    assert arms == ({"prose/raw": (0, 0, 0)} if adaptive else {"prose/raw": (0, 0, 2), "prose/chat": (0, 0, 4)})
