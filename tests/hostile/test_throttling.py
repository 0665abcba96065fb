"""Throttling by chance slows nothing down for long, and a hidden limit is still found and kept to."""

from __future__ import annotations

import pytest

from tests.hostile.simulated import Endpoint, Simulation

MOST = 32
ENOUGH = 0.8  # of what the best fixed setting brings, which under chance is as many in flight as there may be


def best_fixed(endpoint: Endpoint) -> float:
    return max(
        Simulation(endpoint, most, adaptive=False).run(20).per_second(5, 20) for most in (2, 4, 8, 16, MOST)
    )


@pytest.mark.parametrize("chance", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_throttling_by_chance_costs_little(chance: float, seed: int) -> None:
    endpoint = Endpoint(chance=chance)
    found = Simulation(endpoint, MOST, seed=seed).run(60)
    assert found.per_second(10, 60) >= ENOUGH * best_fixed(endpoint)


def test_it_stays_so_for_minutes() -> None:
    endpoint = Endpoint(chance=0.03)
    found = Simulation(endpoint, MOST, seed=5).run(300)
    best = best_fixed(endpoint)
    assert all(found.per_second(at, at + 20) >= ENOUGH * best for at in range(20, 300, 20))


def test_a_wait_that_a_chance_refusal_names_holds_that_call_alone() -> None:
    endpoint = Endpoint(chance=0.03, retry_after=1.0)
    found = Simulation(endpoint, MOST, seed=1).run(60)
    assert found.per_second(20, 60) >= 5 * Simulation(endpoint, MOST, adaptive=False).run(60).per_second(20, 60)


@pytest.mark.parametrize(
    ("endpoint", "best"),
    [(Endpoint(in_flight=8), 80.0), (Endpoint(rate=50), 50.0), (Endpoint(in_flight=8, rate=50), 50.0)],
)
def test_hidden_limits_are_kept_to_as_before(endpoint: Endpoint, best: float) -> None:
    found = Simulation(endpoint, 64).run(60)
    assert found.per_second(10, 60) >= 0.9 * best
    assert found.share_refused(10) <= 0.02


@pytest.mark.parametrize("chance", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("limits", [{"in_flight": 8}, {"rate": 50}])
@pytest.mark.parametrize("seed", range(2))
def test_a_hidden_limit_among_chance_is_used_to_the_full(chance: float, limits: dict[str, int], seed: int) -> None:
    """The best fixed setting brings all that the limit allows, since it may be refused as often as it likes."""
    found = Simulation(Endpoint(chance=chance, **limits), 64, seed=seed).run(120)
    assert found.per_second(60, 120) >= ENOUGH * min(80.0, float(limits.get("rate", 80)))


def test_chance_that_ends_is_forgotten_and_a_limit_that_comes_is_found() -> None:
    calm = Simulation(Endpoint(chance=0.03), MOST, seed=3)
    calm.run(30)
    assert 0.01 < calm.limiter.background < 0.08
    calm.endpoint = Endpoint(in_flight=8)
    calm.run(120)
    assert calm.share_refused(100) <= 0.05
    assert calm.per_second(100, 120) >= 0.8 * 80
