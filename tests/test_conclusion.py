"""The versioned object that machines read: its schema is shipped, and every kind of run fits it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from blackbox_diff.cli import main
from blackbox_diff.findings import Interval, Validation, Verdict
from blackbox_diff.report.conclusion import as_json, conclude, schema
from blackbox_diff.run.results import Results
from tests.report_data import analysis_of, summary_of


def shipped() -> dict[str, Any]:
    text = resources.files("blackbox_diff.report").joinpath("conclusion.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def results_of(**changes: Any) -> Results:
    analysis = replace(analysis_of(40), **changes)
    return Results(analysis, summary_of(analysis))


def read(results: Results) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(as_json(conclude(results)))
    jsonschema.Draft202012Validator(shipped()).validate(found)
    return found


def test_the_shipped_schema_is_the_models_own() -> None:
    jsonschema.Draft202012Validator.check_schema(shipped())
    assert shipped() == schema()


@pytest.mark.parametrize("outcome", ["finding", "no finding", "undecided"])
def test_every_outcome_fits_the_schema(outcome: Any) -> None:
    verdict = Verdict(outcome, "A sentence.", 1.0, None, "the reference against itself")
    found = read(results_of(verdict=verdict))
    assert (found["schema"], found["verdict"]["outcome"]) == (1, outcome)


def test_a_run_without_anything_to_say_fits_the_schema() -> None:
    empty = results_of(ranking=(), themes=(), control=None, kl_nats_per_token=None, top_stability=None, arms=())
    found = read(replace(empty, summary=replace(empty.summary, cost_usd=None, refused={}, failed={})))
    assert found["control"] is None
    assert found["themes"] == []


def test_what_is_no_number_is_null() -> None:
    found = read(results_of(kl_nats_per_token=Interval(math.nan, -math.inf, 1.0), top_stability=math.nan))
    assert (found["kl_nats_per_token"], found["top_stability"]) == (None, None)


def test_a_validated_theme_keeps_its_counts() -> None:
    one = Validation("old owls", (9, 30), (1, 30), Interval(0.27, 0.1, 0.4), ("as the",), confirmed=True)
    found = read(results_of(validation=(one,)))["validation"][0]
    assert found["target"] == {"hits": 9, "n": 30}
    assert (found["interval"], found["confirmed"]) == ([0.1, 0.4], True)


def run_cli(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_report_prints_the_conclusion_and_fails_on_what_it_is_told_to(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["report", str(finished_run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(shipped()).validate(found)
    outcome = found["verdict"]["outcome"]
    kinds = {"finding", "undecided"}
    for kind in kinds:
        expected = 5 if kind == outcome else 0
        assert run_cli(["report", str(finished_run), "--json", "--fail-on", kind]) == expected
        capsys.readouterr()
    assert run_cli(["report", str(finished_run), "--fail-on", "clean"]) == 2
