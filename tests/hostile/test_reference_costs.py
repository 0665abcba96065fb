"""A reference's calls are estimated, capped and reported; one on this machine is free and says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blackbox_diff.buying.estimate import estimate
from blackbox_diff.buying.ledger import Ledger
from blackbox_diff.buying.prices import prices_for
from blackbox_diff.config.model import AuditConfig, EndpointConfig, parse_config
from blackbox_diff.errors import BudgetError, ConfigError
from blackbox_diff.records import Arm, Call, Sample
from blackbox_diff.report import wording
from blackbox_diff.run.results import read_run
from blackbox_diff.run.verify import verify_run
from tests.fake_endpoint import FakeEndpoint
from tests.test_audit import run_cli
from tests.toy_server import serving

FAR = "https://ref.example/v1"
TARGET = EndpointConfig(url="http://127.0.0.1:1/v1", model="m")
PRICED = ["--reference-price-in", "1", "--reference-price-out", "2"]


def audit(run: Path, *more: str, completions: int = 8) -> int:
    with serving(FakeEndpoint()) as url, serving(FakeEndpoint()) as reference:
        return run_cli(
            [
                "audit", "--target-url", url, "--target-model", "m", "--reference-url", reference,
                "--reference-model", "m", "--reference-label", "base", "--completions", str(completions),
                "--out", str(run), "--concurrency", "2", "--json", *more,
            ]
        )  # fmt: skip


def test_a_reference_here_is_free_and_its_calls_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(tmp_path / "run") == 0
    (cost,) = json.loads(capsys.readouterr().out)["reference_costs"]
    assert cost["free"]
    assert cost["cost_usd"] is None
    assert cost["calls"] >= 3 * 8  # a score of each completion, its own completions, and scores of those
    assert cost["input_tokens"] > cost["calls"]
    assert "base: free, on this machine" in wording.money(read_run(tmp_path / "run").summary)


def test_a_reference_with_a_price_is_counted_and_its_cap_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, cap = tmp_path / "run", 0.0008
    assert audit(run, *PRICED, "--reference-max-cost", str(cap), completions=20) == 3
    assert json.loads(capsys.readouterr().out)["stopped_because"].startswith("--reference-max-cost")
    spent = read_run(run).summary.endpoints[1].cost_usd
    assert spent is not None
    assert 0 < spent <= cap
    assert verify_run(run).problems == ()
    with serving(FakeEndpoint()) as url, serving(FakeEndpoint()) as reference:
        assert run_cli(["resume", str(run), "--target-url", url, "--reference-url", reference]) == 2  # other ports
    assert "can't change in a resumed run" in capsys.readouterr().err


def far(**more: Any) -> EndpointConfig:
    return EndpointConfig(url=FAR, model="base", **more)


def test_a_cap_without_a_price_says_how_to_give_one() -> None:
    wanted = far(max_cost=1.0)
    with pytest.raises(
        ConfigError, match=r"--reference-max-cost: .* --reference-price-in and --reference-price-out"
    ):
        prices_for(wanted, wanted.budget(), "reference-")


def test_a_reached_cap_names_the_references_option() -> None:
    wanted = far(max_cost=0.0, price_in=1.0, price_out=1.0)
    ledger = Ledger(wanted.budget(), prices_for(wanted, wanted.budget(), "reference-"), None, "", "reference-")
    with pytest.raises(BudgetError, match=r"^--reference-max-cost 0"):
        ledger.try_reserve(ledger.worst(Call("/completions", {"prompt": "x"})))


@pytest.mark.parametrize(
    "url", ["local:smollm2", "http://localhost:9/v1", "http://127.0.0.1:9/v1", "http://[::1]:9/v1"]
)
def test_a_cap_on_what_is_free_is_none(url: str) -> None:
    assert EndpointConfig(url=url, model="m", max_cost=0.0).budget().max_cost is None


def test_the_targets_caps_have_their_own_place() -> None:
    target = {"url": FAR, "model": "m", "price_in": 1}
    with pytest.raises(ConfigError, match=r"stand in \[budget\]"):
        parse_config({"target": target}, "audit.toml")


def test_the_estimate_counts_the_reference() -> None:
    samples = [Sample(f"prose.raw.{i:05d}", Arm("prose", "raw"), "Once upon a", i) for i in range(10)]
    priced = AuditConfig(target=TARGET, reference=far(price_in=1, price_out=2), max_tokens=10)
    found = estimate(samples, priced).reference
    assert found is not None
    assert (found.calls, found.output_tokens) == (30, 20 + 100)
    assert found.usd is not None
    assert found.usd == pytest.approx((found.input_tokens + 2 * found.output_tokens) / 1e6)
    free = estimate(samples, AuditConfig(target=TARGET, reference=TARGET))
    assert any("free, on this machine" in line for line in free.lines())
    unknown = estimate(samples, AuditConfig(target=TARGET, reference=far()))
    assert any("--reference-price-in" in line for line in unknown.lines())
    assert json.loads(json.dumps(unknown.as_dict()))["reference"]["calls"] == 30
