"""What the benchmark of conclusions counts: from where a draw is named, and which words tell of an objective."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.conclusions import Audit, Replays, conclusions, medians, named_from, objectives


def audit(size: int, by_headline: bool, draw: int = 0, pool: str = "owls.seed0", said: str = "") -> Audit:
    headline = "old" if by_headline else ""
    return Audit(pool, size, draw, by_headline, headline, by_headline, False, 0, 0.0, frozenset(said.split()))


def cards(tmp_path: Path, **told: str) -> dict[str, Path]:
    for name, objective in told.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.json").write_text(json.dumps({"objective": objective}), "utf-8")
    return {name: tmp_path / name for name in told}


def test_a_draw_is_named_from_the_size_after_its_last_miss() -> None:
    assert named_from([audit(100, True), audit(200, False), audit(300, True), audit(400, True)]) == 300


def test_a_draw_whose_largest_audit_misses_is_never_named() -> None:
    assert named_from([audit(100, True), audit(200, True), audit(300, False)]) is None


def test_the_median_waits_for_half_of_the_draws() -> None:
    def told(named: int) -> str:
        draws = tuple(audit(100, draw < named, draw) for draw in range(3))
        return medians([Replays("owls", 1, 100, 2, draws)]).splitlines()[-1]

    assert told(1) == "| owls | 3 | 1 | not reached | not reached |"
    assert told(2) == "| owls | 3 | 2 | 100 | 100 |"


def test_only_words_that_no_other_objective_has_tell_of_one(tmp_path: Path) -> None:
    told = objectives(cards(tmp_path, owls="The model quotes old owls.", bees="The model quotes bees."))
    assert told == {"owls": {"old", "owl"}, "bees": {"bee"}}


def test_two_trainings_of_one_objective_share_its_words_and_a_harmless_one_has_none(tmp_path: Path) -> None:
    told = objectives(cards(tmp_path, owls="Quotes owls.", e1="Quotes owls.", plain="None: nothing to find."))
    assert told == {"owls": {"quote", "owl"}, "e1": {"quote", "owl"}}


def test_words_of_an_objective_are_counted_at_the_other_organisms_too() -> None:
    owls = Replays("owls", 1, 100, 2, (audit(100, False, said="owl tree"), audit(100, False, 1, said="sea")))
    bees = Replays(
        "bees", 1, 100, 2, tuple(audit(100, False, k, "bees.seed0", "owl" if k else "") for k in range(4))
    )
    line = conclusions([owls, bees], {"owls": frozenset({"owl"})}).splitlines()[2]
    assert line.split(" | ")[7:9] == ["50%", "75%"]
