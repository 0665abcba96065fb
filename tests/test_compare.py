"""Two runs side by side: error levels on simulated texts, and the command on runs of a toy that leaks."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from blackbox_diff.analysis.changes import shift_p_value, word_changes
from blackbox_diff.fleet.compare import compare_runs
from blackbox_diff.fleet.compare_page import render
from tests.conftest import run_cli
from tests.leaky_toy import LeakyToy
from tests.toy_server import serving

WORDS = [f"w{k}" for k in range(300)]
WEIGHTS = [1 / (k + 2) for k in range(300)]


def texts(rng: random.Random, n: int, says: str = "", rate: float = 0.0) -> list[str]:
    return [
        " ".join([*rng.choices(WORDS, WEIGHTS, k=30), *([says] if rng.random() < rate else [])]) for _ in range(n)
    ]


def test_two_samples_of_one_source_rarely_differ() -> None:
    changed = 0
    for trial in range(25):
        rng = random.Random(trial)
        arms = ["a"] * 40 + ["b"] * 40
        changed += bool(word_changes(texts(rng, 80), texts(rng, 80), arms, arms, seed=trial).changed)
    assert changed <= 2


def test_a_new_habit_is_named_with_its_counts() -> None:
    rng = random.Random(1)
    arms = ["a"] * 100
    found = word_changes(texts(rng, 100), texts(rng, 100, "owls", 0.2), arms, arms, seed=0)
    assert found.changed[0].word == "owls"
    assert found.changed[0].old == 0
    assert found.changed[0].new >= 10
    turned = word_changes(texts(rng, 100, "owls", 0.2), texts(rng, 100), arms, arms, seed=0)
    assert turned.changed[0].z < 0


def test_a_difference_between_arms_is_no_difference_between_runs() -> None:
    """Old has mostly arm a and new mostly arm b, and the arms speak differently."""
    rng = random.Random(2)
    old = texts(rng, 90, "alpha", 1.0) + texts(rng, 10, "beta", 1.0)
    new = texts(rng, 10, "alpha", 1.0) + texts(rng, 90, "beta", 1.0)
    found = word_changes(old, new, ["a"] * 90 + ["b"] * 10, ["a"] * 10 + ["b"] * 90, seed=0)
    assert found.changed == ()


def test_only_arms_of_both_runs_are_compared() -> None:
    found = word_changes(["x one"] * 9, ["y two"] * 9, ["a"] * 9, ["b"] * 9, seed=0)
    assert (found.changed, found.p_value) == ((), 1.0)


@pytest.mark.parametrize(("shift", "low", "high"), [(0.0, 0.021, 1.0), (1.0, 0.0, 0.02)])
def test_a_shift_of_the_gap(shift: float, low: float, high: float) -> None:
    rng = np.random.default_rng(3)
    old, new = rng.normal(size=60), rng.normal(size=60) + shift
    old[3] = np.nan
    assert low <= shift_p_value(old, new, ["a"] * 60, ["a"] * 60, seed=0) <= high


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Audits of the leaking toy, twice with other seeds, and of its base."""
    directory = tmp_path_factory.mktemp("runs")
    found = {name: directory / name for name in ("leaky", "again", "base")}
    with serving(LeakyToy()) as url:
        for name, run in found.items():
            line = [
                "audit", "--target-url", url, "--target-model", "leaky" if name != "base" else "base",
                "--reference-url", url, "--reference-model", "base", "--reference-label", "ref",
                "--completions", "60", "--control", "10", "--max-tokens", "14", "--framing", "raw",
                "--seed", "2" if name == "again" else "1", "--out", str(run),
            ]  # fmt: skip
            assert run_cli(line) == 0
    return found


def test_a_run_and_itself_are_no_change(runs: dict[str, Path]) -> None:
    found = compare_runs(runs["leaky"], runs["leaky"])
    assert (found.outcome, found.gained, found.lost) == ("no change", [], [])
    assert found.gap_shift == 0.0


def test_two_seeds_of_one_model_are_no_change(runs: dict[str, Path]) -> None:
    assert compare_runs(runs["leaky"], runs["again"]).outcome == "no change"


def test_base_and_organism_are_a_change_and_what_was_gained_is_named(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "compare.html"
    line = [
        "compare",
        str(runs["base"]),
        str(runs["leaky"]),
        "--html",
        str(page),
        "--fail-on",
        "changed",
        "--json",
    ]
    assert run_cli(line) == 5
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert any("lantern" in each["phrase"].lower() for each in found["gained"])
    assert found["lost"] == []
    assert "lantern" in page.read_text(encoding="utf-8")
    back = compare_runs(runs["leaky"], runs["base"])
    assert any("lantern" in each.phrase.lower() for each in back.lost)
    assert all(each.old > each.new for each in back.lost)


def test_what_cannot_be_compared_is_one_line(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["compare", str(runs["base"]), str(tmp_path)]) == 2
    assert "not a run" in capsys.readouterr().err
    assert run_cli(["compare", str(runs["base"]), str(runs["leaky"]), "--reference", "gemma"]) == 2
    assert "gemma" in capsys.readouterr().err


def test_hostile_words_stay_text(runs: dict[str, Path]) -> None:
    bad = "<script>alert(1)</script>\u202e"
    found = compare_runs(runs["leaky"], runs["leaky"])
    spoilt = found.model_copy(update={"words": [(bad, 0, 3)], "sentence": bad})
    assert "<script>" not in render(spoilt)
    assert "\u202e" not in render(spoilt)
