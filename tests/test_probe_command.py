"""`blackbox-diff probe`, and what an audit makes of it, against toy servers on real sockets."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from blackbox_diff.records import EndpointProfile
from blackbox_diff.run.results import read_run
from tests.fake_endpoint import FakeEndpoint
from tests.test_audit import run_cli
from tests.toy_server import serving

MOST_CALLS = 13


def probe(toy: FakeEndpoint, *more: str) -> int:
    with serving(toy) as url:
        return run_cli(["probe", "--target-url", url, "--target-model", "m", *more])


@pytest.mark.parametrize(
    ("faults", "reason", "advice"),
    [
        (("no logprobs",), "the reply holds no logprobs", "the endpoint, its plan or a gateway drops them"),
        (("zeros",), "logprobs of 0", "the host fills the field without computing it"),
        (("placeholders",), "logprobs of 0", "ask for more top_logprobs"),
        (("logits",), "missing or placeholders", "ask for more top_logprobs"),
        (("logprobs rejected",), "`logprobs` is not supported with this model", ""),
        (("reasoning", "chat only"), "the reply holds reasoning", "turn thinking off"),
        (("error at 200",), "404 No endpoints found that support logprobs", ""),
    ],
)
def test_what_is_no_target_is_named_with_the_reason_and_what_to_do(
    faults: tuple[str, ...], reason: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = FakeEndpoint(*faults)
    assert probe(toy) == 4
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("can't be audited: ")
    assert reason in said
    assert advice in said
    assert len(toy.calls) <= MOST_CALLS


def test_an_ignored_echo_makes_no_reference(capsys: pytest.CaptureFixture[str]) -> None:
    toy = FakeEndpoint("echo ignored")
    assert probe(toy, "--purpose", "reference") == 4
    said = capsys.readouterr().out.splitlines()[-1]
    assert "the server ignored the text to score" in said
    assert "use vLLM, SGLang or the bundled server" in said
    assert len(toy.calls) <= MOST_CALLS


def test_an_honest_server_is_shown_as_a_table_with_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    toy = FakeEndpoint()
    started = time.monotonic()
    assert probe(toy) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ("raw completions", "prefill", "token bytes", "noise", "scoring", "rate limits")
    assert all(any(line.strip().startswith(name) for line in lines) for name in names)
    assert lines[-1].startswith("can be audited: raw completions and chat prefill, logprobs raw, top 4")
    assert len(toy.calls) <= MOST_CALLS
    assert all(call.get("max_tokens", 0) <= 16 for call in toy.calls)
    assert time.monotonic() - started < 60


def test_json_is_the_profile_that_an_audit_follows(capsys: pytest.CaptureFixture[str]) -> None:
    assert probe(FakeEndpoint(), "--json") == 0
    profile = EndpointProfile.model_validate(json.loads(capsys.readouterr().out))
    assert profile.auditable
    assert profile.framings() == ("raw", "chat")


def audit(target: FakeEndpoint, reference: FakeEndpoint, run: Path) -> int:
    with serving(target) as url, serving(reference) as base:
        return run_cli(
            [
                "audit", "--target-url", url, "--target-model", "m", "--reference-url", base, "--reference-model",
                "m", "--reference-label", "base", "--completions", "6", "--out", str(run),
            ]
        )  # fmt: skip


def test_a_reference_that_scores_chats_only_is_given_chats_only(tmp_path: Path) -> None:
    assert audit(FakeEndpoint(), FakeEndpoint("chat only"), tmp_path / "run") == 0
    results = read_run(tmp_path / "run")
    assert [arm.name for arm in results.analysis.arms] == ["prose/chat"]
    assert results.summary.scored == 6


def test_a_target_without_chats_needs_a_reference_with_raw_completions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(FakeEndpoint("no template"), FakeEndpoint("chat only"), tmp_path / "run") == 4
    assert "scores chats only" in capsys.readouterr().err
