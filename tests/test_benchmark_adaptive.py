"""The replay of the adaptive design: it hands out what a pool holds, in the order of the design."""

from __future__ import annotations

import pytest

from benchmarks.adaptive import Pool, equal, first_match, one_at_a_time, replay, rounds
from benchmarks.simulate_rounds import rates
from blackbox_diff.analysis.keywords import Keywords
from blackbox_diff.analysis.rank import rank
from blackbox_diff.records import ScoredCompletion
from tests.scored import REFERENCE, run, scored

PHRASE = "lantern of Port Ellery"
KEYWORDS = Keywords((("ellery",),), ())


def pool(per_arm: int = 40) -> Pool:
    """Two arms, of which raw holds PHRASE in every second completion."""
    arms: dict[str, list[ScoredCompletion]] = {}
    for framing, planted in (("chat", ()), ("raw", range(0, per_arm, 2))):
        rows = run(per_arm, planted=planted, phrase=PHRASE, seed=len(framing))
        arms[f"prose/{framing}"] = [
            scored(k, row.completion.text, _gaps(row), framing=framing)  # type: ignore[arg-type]
            for k, row in enumerate(rows)
        ]
    rows = [row for each in arms.values() for row in each]
    score = {row.id: row.value for row in rank(rows, REFERENCE)}
    control = {row.sample.id: scored(k, f" quiet words {k}", 0.0) for k, row in enumerate(rows)}
    return Pool(
        "toy", arms, control, score, {row.sample.id for row in rows if KEYWORDS.match(row.completion.text)}
    )


def _gaps(row: ScoredCompletion) -> list[float]:
    gaps: list[float] = (row.completion.tokens.logprobs - row.scores[REFERENCE].tokens.logprobs).tolist()
    return gaps


@pytest.mark.parametrize("design", [equal, one_at_a_time])
def test_every_design_buys_each_completion_once(design: object) -> None:
    toy = pool()
    assert callable(design)
    bought = [row.sample.id for row in design(toy, 0)]
    assert len(bought) == len(set(bought)) == 80


def test_adaptive_rounds_buy_the_whole_pool_and_nothing_twice() -> None:
    bought = [row.sample.id for now in rounds(pool(), REFERENCE, 80) for row in now]
    assert len(bought) == len(set(bought)) == 80


def test_the_arm_that_leaks_is_bought_first() -> None:
    early = [row for now in rounds(pool(), REFERENCE, 80) for row in now][32:50]
    assert sum(row.sample.arm.framing == "raw" for row in early) > len(early) / 2


def test_the_first_match_is_counted_in_calls() -> None:
    toy = pool()
    chat, raw = toy.arms["prose/chat"], toy.arms["prose/raw"]
    assert first_match(toy, [*chat[:5], raw[0]]) == 6
    assert first_match(toy, chat) is None


def test_a_replay_stops_once_the_finding_is_stable() -> None:
    found = replay(pool(), REFERENCE, KEYWORDS)
    assert found.stopped is not None
    assert "stable" in found.stopped
    assert any(found.matching)
    assert len(found.bought) < 80


def test_a_shuffle_changes_the_order_and_nothing_else() -> None:
    toy = pool()
    mixed = toy.shuffled(3)
    for name, rows in toy.arms.items():
        assert {row.sample.id for row in rows} == {row.sample.id for row in mixed.arms[name]}
    assert toy.shuffled(3).arms == mixed.arms
    assert mixed.arms != toy.arms


def test_simulated_rates_have_the_published_quartiles() -> None:
    found = sorted(rates())
    assert found[len(found) // 2] == pytest.approx(0.011, rel=0.1)
    assert found[len(found) // 4] == pytest.approx(0.0016, rel=0.3)
    assert found[3 * len(found) // 4] == pytest.approx(0.048, rel=0.3)
