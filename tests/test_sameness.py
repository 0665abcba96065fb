"""Is it still the same model: error levels on simulated hosts, and the command against a server that changes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_diff.probing.sameness import LEAST, Draws, compare_draws, distance
from blackbox_diff.records import Call
from blackbox_diff.run.watch import one_token

LISTS = st.dictionaries(st.text(max_size=3), st.floats(-30, 0), min_size=1, max_size=20)


def top(logits: list[float], k: int = 20) -> dict[str, float]:
    total = math.log(sum(math.exp(x) for x in logits))
    ranked = sorted(((x - total, f"t{i}") for i, x in enumerate(logits)), reverse=True)
    return {token: value for value, token in ranked[:k]}


def host(rng: random.Random, noise: float) -> Callable[[list[float]], dict[str, float]]:
    return lambda logits: top([x + rng.gauss(0, noise) for x in logits])


def trial(rng: random.Random, noise: float, shift: float, prompts: int = 20) -> str:
    serve = host(rng, noise)
    draws = []
    for _ in range(prompts):
        before = [rng.gauss(0, 2.5) for _ in range(60)]
        after = [x + rng.gauss(0, shift) for x in before]
        draws.append(Draws(serve(before), serve(after), serve(after)))
    return compare_draws(draws).outcome


@pytest.mark.parametrize("noise", [0.0, 0.003, 0.05, 0.3])
def test_an_unchanged_model_is_hardly_ever_called_changed(noise: float) -> None:
    rng = random.Random(7)
    alarms = sum(trial(rng, noise, 0.0) == "changed" for _ in range(60))
    assert alarms <= 3


@pytest.mark.parametrize("noise", [0.0, 0.003, 0.05])
def test_a_change_of_half_a_nat_is_seen(noise: float) -> None:
    rng = random.Random(8)
    assert sum(trial(rng, noise, 0.5) == "changed" for _ in range(20)) >= 19


def test_another_build_of_the_model_is_no_other_model() -> None:
    rng = random.Random(9)
    assert {trial(rng, 0.0, 0.03) for _ in range(10)} == {"same"}


def test_few_prompts_say_nothing() -> None:
    one = Draws({"a": -1.0}, {"b": -0.1}, {"b": -0.1})
    assert compare_draws([one] * (LEAST - 1)).outcome == "unknown"
    assert compare_draws([Draws({}, {"a": -1.0}, {"a": -1.0})] * 30).outcome == "unknown"


def test_lists_without_a_common_token_are_far_apart() -> None:
    a, b = {f"a{i}": -2.0 - i for i in range(5)}, {f"b{i}": -2.0 - i for i in range(5)}
    far = distance(a, b)
    assert far is not None
    assert far > 0.5


def test_a_sampled_token_beside_the_likeliest_bounds_nothing() -> None:
    """Hosts list the sampled token, however unlikely, after the likeliest ones."""
    likeliest = {"a": -0.5, "b": -1.5, "c": -3.0}
    assert distance(likeliest, {"a": -0.5, "b": -1.5, "rare": -9.0}) == 0.0
    assert distance({**likeliest, "rare": -9.5}, likeliest) == pytest.approx(0.0)


@given(LISTS, LISTS)
def test_distance_is_symmetric_and_none_of_itself(a: dict[str, float], b: dict[str, float]) -> None:
    assert distance(a, b) == pytest.approx(distance(b, a))
    assert (distance(a, a) or 0.0) == 0.0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"model": "m", "max_tokens": 64, "seed": 3}, {"model": "n", "max_tokens": 1}),
        ({"model": "m", "max_completion_tokens": 64}, {"model": "n", "max_completion_tokens": 1}),
        ({"parameters": {"max_new_tokens": 64, "seed": 1}}, {"parameters": {"max_new_tokens": 1}}),
        ({"sampling_params": {"max_new_tokens": 9}}, {"sampling_params": {"max_new_tokens": 1}}),
    ],
)
def test_the_same_question_for_one_token(body: dict[str, object], expected: dict[str, object]) -> None:
    assert one_token(Call("/completions", body), "n").body == expected
