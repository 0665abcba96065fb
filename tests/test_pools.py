"""Pools for the benchmarks: bought in an order that lets controls be shared, and never twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.pools import (
    CROSS,
    IDENTITY,
    SAME,
    Design,
    find_organisms,
    is_finished,
    missing_pools,
    pool_config,
    pool_path,
)
from blackbox_diff.config.model import EndpointConfig
from blackbox_diff.records import ReferenceScore
from blackbox_diff.run.controls import copy_controls
from blackbox_diff.run.pipeline import FINISHED
from blackbox_diff.runfile.state import State
from blackbox_diff.runfile.store import Store
from tests.scored import scored

URL = "http://127.0.0.1:9/v1"


async def control_pool(path: Path, n: int) -> None:
    with Store.create(path, {}) as store:
        for row in (scored(index, f"completion {index}") for index in range(n)):
            for label in (SAME, CROSS):
                await store.put_completion(row.sample, label, row.completion, None)
                await store.put_score(
                    row.sample.id, label, label, ReferenceScore(row.completion.tokens, "raw"), None
                )
        config = pool_config(URL, IDENTITY, 0, Design(300))
        cross = EndpointConfig(url=URL, model=CROSS)
        store.set_state(State(config=config, references=(cross,), stopped_because=FINISHED))


def test_the_base_comes_first_for_every_seed_because_its_controls_are_shared(tmp_path: Path) -> None:
    todo = missing_pools(tmp_path, ["loyalty", IDENTITY], [0, 1], Design(300))
    assert todo == [(IDENTITY, 0), ("loyalty", 0), (IDENTITY, 1), ("loyalty", 1)]


def test_without_controls_the_base_is_bought_only_where_it_is_named(tmp_path: Path) -> None:
    assert missing_pools(tmp_path, ["loyalty"], [0], Design(control=0)) == [("loyalty", 0)]
    assert missing_pools(tmp_path, ["loyalty", IDENTITY], [0], Design(control=0))[0] == (IDENTITY, 0)


@pytest.mark.parametrize("names", [["loyalty"], []])
async def test_a_finished_pool_is_passed_over(tmp_path: Path, names: list[str]) -> None:
    await control_pool(pool_path(tmp_path, IDENTITY, 0), 1)
    assert is_finished(pool_path(tmp_path, IDENTITY, 0))
    assert missing_pools(tmp_path, names, [0], Design(300)) == [(name, 0) for name in names]
    assert missing_pools(tmp_path, names, [0], Design(600)) == [(name, 0) for name in [IDENTITY, *names]]


async def test_a_pool_with_the_bases_scores_alone_is_finished_until_the_other_familys_are_asked_for(
    tmp_path: Path,
) -> None:
    path = pool_path(tmp_path, IDENTITY, 0)
    await control_pool(path, 1)
    with Store.open(path) as store:
        store.set_state(replace(store.state, references=()))
    assert missing_pools(tmp_path, [IDENTITY], [0], Design(300, foreign=False)) == []
    assert missing_pools(tmp_path, [IDENTITY], [0], Design(300)) == [(IDENTITY, 0)]


async def test_controls_are_copied_with_their_scores_and_only_once(tmp_path: Path) -> None:
    await control_pool(tmp_path / "base", 3)
    with Store.create(tmp_path / "pool", {}) as store:
        for _ in range(2):
            await copy_controls(tmp_path / "base", store)
        with Store.open(tmp_path / "base", read_only=True) as donor:
            for label in (SAME, CROSS):
                copied, own = list(store.scored(label)), list(donor.scored(label))
                assert [(row.completion, row.scores) for row in copied] == [
                    (row.completion, row.scores) for row in own
                ]
                assert len(copied) == 3


def test_an_organism_in_a_nested_directory_is_named_by_its_whole_path(tmp_path: Path) -> None:
    for name in ("loyalty", "diluted/loyalty"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "card.json").write_text("{}")
    assert find_organisms([tmp_path]) == {
        "loyalty": tmp_path / "loyalty", "diluted-loyalty": tmp_path / "diluted/loyalty"
    }  # fmt: skip
