"""What a resumed run may be given."""

from __future__ import annotations

from typing import Any

import pytest

from blackbox_diff.config.model import AuditConfig, Budget, EndpointConfig
from blackbox_diff.config.resume import changed
from blackbox_diff.errors import ConfigError

CONFIG = AuditConfig(
    target=EndpointConfig(url="http://t/v1", model="t", key_env="OLD"),
    reference=EndpointConfig(url="http://r/v1", model="r"),
    completions=100,
    budget=Budget(max_cost=1.0, price_in=1.0, price_out=2.0),
)


def test_what_cannot_change_what_was_bought_may_differ() -> None:
    after = changed(
        CONFIG,
        {"budget": {"max_cost": 2.0, "max_calls": 9}, "completions": 200, "concurrency": 4, "control": 10,
         "target": {"key_env": "NEW", "url": "http://t/v1"}, "temperature": 1.0},
    )  # fmt: skip
    assert after.budget == Budget(max_cost=2.0, max_calls=9, price_in=1.0, price_out=2.0)
    assert (after.completions, after.concurrency, after.control, after.target.key_env) == (200, 4, 10, "NEW")


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"temperature": 0.5}, "--temperature 1.0 -> 0.5"),
        ({"seed": 4, "max_tokens": 32}, "--max-tokens 64 -> 32, --seed 0 -> 4"),
        ({"source": ["prose", "code"]}, "--source prose -> prose code"),
        ({"framing": ["raw"]}, "--framing (not given) -> raw"),
        ({"target": {"model": "other"}}, "--target-model t -> other"),
        ({"reference": {"url": "http://other/v1"}}, "--reference-url http://r/v1 -> http://other/v1"),
        ({"budget": {"price_out": 3.0}}, "--price-out 2.0 -> 3.0"),
        ({"completions": 50}, "can only grow"),
    ],
)
def test_anything_else_is_refused_with_the_difference(changes: dict[str, Any], shown: str) -> None:
    with pytest.raises(ConfigError) as refused:
        changed(CONFIG, changes)
    assert shown in str(refused.value)
    assert "\n" not in str(refused.value)
