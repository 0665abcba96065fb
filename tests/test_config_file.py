"""Settings in a file: the shipped example, files that `--write-config` wrote, and options written as keys."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blackbox_diff.config.model import (
    DEFAULT_FOLLOW_UPS,
    DEFAULT_VALIDATION,
    AuditConfig,
    Budget,
    EndpointConfig,
    parse_config,
    read_toml,
)
from blackbox_diff.config.write import as_toml
from tests.conftest import ROOT, run_cli
from tests.leaky_toy import LeakyToy
from tests.toy_server import serving

EXAMPLE = ROOT / "docs" / "audit.example.toml"
TARGET = [
    "--target-url",
    "http://vendor.example/v1",
    "--target-model",
    "acme-ft",
    "--target-key-env",
    "VENDOR_KEY",
]
REFERENCE = ["--reference", "local:smollm2-135m-instruct"]


def test_the_example_is_an_audit_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VENDOR_KEY", "k" * 20)
    with serving(LeakyToy()) as url:
        options = [
            "--target-url", url, "--target-model", "leaky", "--reference-url", url, "--reference-model", "base",
            "--completions", "8", "--max-tokens", "12", "--control", "4",
        ]  # fmt: skip
        assert run_cli(["audit", str(EXAMPLE), *options, "--out", str(tmp_path / "run")]) == 0


def uncommented() -> dict[str, Any]:
    """The example with every setting and table that stands in a comment."""
    return tomllib.loads(re.sub(r"(?m)^# (\w+ = |\[)", r"\1", EXAMPLE.read_text(encoding="utf-8")))


def test_every_setting_stands_in_the_example_and_its_comments_are_settings() -> None:
    """Uncommented as a whole, the file is still valid, and no setting is missing."""
    data = uncommented()
    parse_config(data, "example")
    assert data.keys() == AuditConfig.model_fields.keys()
    assert data["budget"].keys() == Budget.model_fields.keys()
    endpoint = EndpointConfig.model_fields.keys()
    assert data["target"].keys() | data["reference"].keys() == endpoint


def test_what_the_example_says_of_defaults_is_so() -> None:
    data = uncommented()
    assert (data["follow_ups"], data["validation"]) == (DEFAULT_FOLLOW_UPS, DEFAULT_VALIDATION)
    for name in ("max_tokens", "temperature", "top_logprobs", "concurrency", "adaptive", "seed"):
        assert data[name] == AuditConfig.model_fields[name].default, name


def test_a_written_file_has_what_was_given_and_does_the_same(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "acme.toml"
    more = ["--completions", "40", "--source", "code", "--max-cost", "2", "--price-in", "1e-06"]
    assert run_cli(["audit", *TARGET, *REFERENCE, *more, "--write-config", str(file)]) == 0
    assert "blackbox-diff audit" in capsys.readouterr().out
    assert read_toml(file) == {
        "completions": 40,
        "source": ["code"],
        "target": {"url": "http://vendor.example/v1", "model": "acme-ft", "key_env": "VENDOR_KEY"},
        "reference": {"url": "local:smollm2-135m-instruct", "model": "smollm2-135m-instruct"},
        "budget": {"max_cost": 2.0, "price_in": 1e-6},
    }
    before = file.read_text()
    assert run_cli(["audit", str(file), "--write-config", str(file)]) == 2  # what is there is not overwritten
    assert file.read_text() == before
    again = tmp_path / "again.toml"
    assert run_cli(["audit", str(file), "--seed", "7", "--write-config", str(again)]) == 0
    assert read_toml(again) == read_toml(file) | {"seed": 7}


@settings(max_examples=30)
@given(st.text(min_size=1).filter(str.strip), st.floats(0, 2))
def test_any_name_and_number_survive_the_file(name: str, temperature: float) -> None:
    target = EndpointConfig(url="http://a/v1", model=name, label=name)
    config = AuditConfig(target=target, temperature=temperature)
    assert parse_config(tomllib.loads(as_toml(config)), "file") == config


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("target-url", "[target] url"),
        ("target_key_env", "[target] key_env"),
        ("max-cost", "[budget] max_cost"),
        ("price_in", "[budget] price_in"),
        ("reference-price-in", "[reference] price_in"),
        ("max-tokens", "max_tokens"),
    ],
)
def test_an_options_name_is_told_where_it_stands(tmp_path: Path, capsys: Any, key: str, place: str) -> None:
    file = tmp_path / "a.toml"
    file.write_text(f"{key} = 3\n[target]\nurl = 'http://x/v1'\nmodel = 'm'\n")
    assert run_cli(["estimate", str(file)]) == 2
    assert f"{key}: unknown key: use {place}" in capsys.readouterr().err


def test_an_audit_without_a_directory_says_so(capsys: Any) -> None:
    assert run_cli(["audit", *TARGET, *REFERENCE]) == 2
    assert "--out" in capsys.readouterr().err
