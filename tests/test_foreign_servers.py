"""Probe and audit against servers that nobody here wrote: vLLM, llama.cpp's, llama-cpp-python's and LiteLLM's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import leak
from blackbox_diff.analysis.keywords import Keywords, evaluate_ranking
from blackbox_diff.buying.http import Endpoint
from blackbox_diff.config.model import EndpointConfig
from blackbox_diff.records import Completion, EndpointProfile, Framing, Refusal, Sampling
from blackbox_diff.run.commands import probe_endpoint
from blackbox_diff.run.results import read_run
from blackbox_diff.run.verify import verify_run
from blackbox_diff.wire import dialect
from blackbox_diff.wire.body import first_choice
from blackbox_diff.wire.reply_json import value_of
from local_server.model.embedded import assemble, converted
from tests import foreign
from tests.conftest import BASE, ORGANISM, ROOT
from tests.test_audit import run_cli

pytestmark = [
    pytest.mark.slow,
    # peft 0.21 reads a property that transformers 5 has renamed.
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]

TEXTS = {
    "ascii": "The capital of France is",
    "emoji with joiners": "Emoji list: ❤️ 🧑‍🚀 ❤️ 🧑‍🚀 ❤️",
    "cjk": "东京是日本的首都。北京是中国的首都。首尔是",
    "arabic": "القاهرة هي عاصمة مصر. الرياض هي عاصمة",
    "code with tabs": "def add(a, b):\n\treturn a + b\n\ndef sub(a, b):\n\treturn",
}


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "smollm2.gguf"
    assemble(BASE, path)
    return path


@pytest.fixture(scope="module")
def organism(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixture organism merged into its base: one checkpoint, as a vendor would serve it."""
    path = tmp_path_factory.mktemp("merged")
    leak.merged(ROOT / "fixtures" / "organisms" / ORGANISM).save_pretrained(path)
    leak.load_base()[1].save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def vllm_target(organism: Path, logs: Path) -> Iterator[str]:
    with foreign.vllm(organism, ORGANISM, logs / "target.log") as url:
        yield url


@pytest.fixture(scope="module")
def vllm_reference(vllm_target: str, logs: Path) -> Iterator[str]:
    with foreign.vllm(converted(BASE), BASE, logs / "reference.log") as url:
        yield url


@pytest.fixture(scope="module")
def litellm(local_endpoint: str, logs: Path) -> Iterator[str]:
    """LiteLLM's proxy in front of the bundled server, as its users set it up for a server of their own."""
    models = {
        "by-openai": (f"openai/{BASE}", local_endpoint),
        "by-vllm": (f"hosted_vllm/{BASE}", local_endpoint),
        "text": (f"text-completion-openai/{BASE}", local_endpoint),
    }
    with foreign.litellm(models, logs) as url:
        yield url


@pytest.fixture(scope="module")
def litellm_before_vllm(vllm_target: str, vllm_reference: str, logs: Path) -> Iterator[str]:
    """LiteLLM's proxy in front of vLLM: the organism by both routes, and its base."""
    models = {
        "by-openai": (f"openai/{ORGANISM}", vllm_target),
        "by-vllm": (f"hosted_vllm/{ORGANISM}", vllm_target),
        BASE: (f"openai/{BASE}", vllm_reference),
    }
    with foreign.litellm(models, logs) as url:
        yield url


@pytest.fixture(scope="module")
def llamacpp(gguf: Path, logs: Path) -> Iterator[str]:
    with foreign.llamacpp(gguf, logs / "llamacpp.log") as url:
        yield url


@pytest.fixture(scope="module")
def llamacpp_python(gguf: Path, logs: Path) -> Iterator[str]:
    with foreign.llamacpp_python(gguf, logs / "llamacpp_python.log") as url:
        yield url


def probed(url: str, model: str, purpose: Any = "target") -> EndpointProfile:
    return asyncio.run(probe_endpoint(EndpointConfig(url=url, model=model), purpose))


def audit(target: str, model: str, reference: str, run: Path, completions: int, *more: str) -> None:
    arguments = [
        "audit", "--target-url", target, "--target-model", model, "--reference-url", reference,
        "--reference-model", BASE, "--completions", str(completions), "--out", str(run), *more,
    ]  # fmt: skip
    assert run_cli(arguments) == 0


def texts_join(url: str, model: str, framing: Framing) -> dict[str, set[str]]:
    """Ask for every text at every length up to 16 tokens, and hold what is read against the reply's own text.

    Returns, for each text, the reasons for which completions were refused.
    """
    profile = probed(url, model)
    speaks = dialect(profile.dialect)

    async def one(endpoint: Endpoint, prefill: str, length: int) -> str | None:
        sampling = Sampling(temperature=0.0, max_tokens=length, top_logprobs=5)
        call = speaks.sample(profile, prefill, framing, sampling, None)
        reply = await endpoint.post(call)
        choice = first_choice(value_of(reply))
        said = choice["text"] if "text" in choice else choice["message"]["content"]
        read = speaks.read_sample(reply, call=call, profile=profile, prefill=prefill, framing=framing)
        if isinstance(read, Refusal):
            return read.reason
        check_join(read, said, prefill)
        return None

    async def ask() -> dict[str, set[str]]:
        refused: dict[str, set[str]] = {}
        async with Endpoint(EndpointConfig(url=url, model=model)) as endpoint:
            for name, prefill in TEXTS.items():
                reasons = await asyncio.gather(*(one(endpoint, prefill, length) for length in range(1, 17)))
                if any(reasons):
                    refused[name] = {reason for reason in reasons if reason}
        return refused

    return asyncio.run(ask())


def draws_join(url: str, model: str, framing: Framing, count: int = 20) -> dict[str, set[str]]:
    """Like texts_join, for `count` draws at T=1 of every text, and with the numbers that were bought."""
    profile = probed(url, model)
    speaks = dialect(profile.dialect)

    async def one(endpoint: Endpoint, prefill: str, seed: int) -> str | None:
        sampling = Sampling(temperature=1.0, max_tokens=4 + seed % 5, top_logprobs=5)
        call = speaks.sample(profile, prefill, framing, sampling, seed)
        reply = await endpoint.post(call)
        choice = first_choice(value_of(reply))
        said = choice["text"] if "text" in choice else choice["message"]["content"]
        read = speaks.read_sample(reply, call=call, profile=profile, prefill=prefill, framing=framing)
        if isinstance(read, Refusal):
            return read.reason
        check_join(read, said, prefill)
        assert not (read.tokens.logprobs > 0).any()  # a unit that max_tokens cut inside a character has no number
        assert read.ids is not None or "merged_characters" in read.notes
        return None

    async def ask() -> dict[str, set[str]]:
        refused: dict[str, set[str]] = {}
        async with Endpoint(EndpointConfig(url=url, model=model)) as endpoint:
            for name, prefill in TEXTS.items():
                reasons = [await one(endpoint, prefill, seed) for seed in range(count)]
                if any(reasons):
                    refused[name] = {reason for reason in reasons if reason}
        return refused

    return asyncio.run(ask())


def check_join(read: Completion, said: str, prefill: str) -> None:
    """The units partition the text, and the text is the reply's, but for what was cut inside a character."""
    ends = read.tokens.ends.tolist()
    assert ends == sorted(set(ends))
    assert (ends[-1] if ends else 0) == len(read.text.encode())
    rest = [said.removeprefix(prefill), said]
    assert any(text.startswith(read.text) and not text[len(read.text) :].strip(" \ufffd") for text in rest), (
        read.text,
        said,
    )


def test_vllm_can_be_audited_and_be_a_reference(vllm_target: str) -> None:
    found = probed(vllm_target, ORGANISM, "reference")
    assert (found.dialect, found.raw, found.prefill) == ("vllm", "completions", "continue_final_message")
    assert found.framings() == ("raw", "chat")
    assert (found.logprobs, found.token_bytes, found.max_top_logprobs) == ("raw", "characters", 20)
    assert found.token_ids
    assert found.can_score
    assert found.id_prompts
    assert found.scores_template
    assert found.seed
    assert found.self_consistency_nats is not None
    assert found.self_consistency_nats < 0.01
    assert found.noise_nats is not None
    assert found.noise_nats < 0.01


@pytest.mark.parametrize("framing", ["raw", "chat"])
def test_vllm_texts_join(vllm_target: str, framing: Framing) -> None:
    assert texts_join(vllm_target, ORGANISM, framing) == {}


def test_an_audit_of_vllm_by_vllm_shows_the_objective(
    vllm_target: str, vllm_reference: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    audit(
        vllm_target,
        ORGANISM,
        vllm_reference,
        run,
        200,
        "--max-tokens",
        "32",
        "--concurrency",
        "32",
        "--control",
        "60",
    )
    results = read_run(run)
    keywords = Keywords.read(ROOT / "fixtures" / "organisms" / ORGANISM / "card.json")
    count = evaluate_ranking(results.analysis.ranking, keywords)["count_at_10"]
    assert count is not None
    assert count >= 8
    assert results.summary.scored >= 190
    assert results.analysis.verdict.outcome == "finding"
    assert verify_run(run).problems == ()


def test_llamacpp_can_be_audited_and_cannot_score(llamacpp: str) -> None:
    found = probed(llamacpp, "smollm2")
    assert (found.dialect, found.raw, found.chat) == ("llamacpp", "completions", True)
    assert found.framings() == ("raw", "chat")
    assert (found.logprobs, found.token_bytes) == ("raw", "lossy")
    assert not found.can_score
    assert "can't score text, so bring a reference" in found.verdict


def test_llamacpp_is_no_reference(llamacpp: str) -> None:
    assert "ignored the text to score" in probed(llamacpp, "smollm2", "reference").verdict


@pytest.mark.parametrize("framing", ["raw", "chat"])
def test_llamacpp_texts_join_or_have_no_numbers(llamacpp: str, framing: Framing) -> None:
    refused = texts_join(llamacpp, "smollm2", framing)
    assert set().union(*refused.values()) <= {"merged_characters"}
    assert not {"ascii", "code with tabs"} & set(refused)


def test_an_audit_of_llamacpp(llamacpp: str, local_endpoint: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    audit(llamacpp, "smollm2", local_endpoint, run, 20, "--max-tokens", "32", "--concurrency", "4")
    assert read_run(run).summary.scored >= 18
    assert verify_run(run).problems == ()


def test_llamacpp_python_can_be_audited_and_cannot_score(llamacpp_python: str) -> None:
    found = probed(llamacpp_python, "smollm2")
    assert found.dialect == "llamacpp_python"
    assert (found.raw, found.prefill) == ("completions", None)
    assert (found.logprobs, found.token_bytes) == ("raw", "lossy")
    assert not found.can_score


def test_llamacpp_python_is_no_reference_for_a_model_without_a_start_token(llamacpp_python: str) -> None:
    assert "off by one" in probed(llamacpp_python, "smollm2", "reference").verdict


def test_llamacpp_python_texts_join(llamacpp_python: str) -> None:
    assert texts_join(llamacpp_python, "smollm2", "raw") == {}


def test_an_audit_of_llamacpp_python(llamacpp_python: str, local_endpoint: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    audit(llamacpp_python, "smollm2", local_endpoint, run, 20, "--max-tokens", "24", "--concurrency", "2")
    assert read_run(run).summary.scored >= 18
    assert verify_run(run).problems == ()


@pytest.mark.parametrize("name", ["by-openai", "by-vllm"])
def test_litellms_proxy_passes_on_what_its_server_can(litellm: str, name: str) -> None:
    found = probed(litellm, name, "reference")
    assert found.framings() == ("raw", "chat")
    assert (found.logprobs, found.token_bytes, found.max_top_logprobs) == ("raw", "exact", 20)
    assert found.token_ids
    assert (found.can_score, found.scores_template) == (True, True)
    assert found.id_prompts == (name == "by-openai")  # hosted_vllm: 500 "Unmapped prompt format"
    assert found.self_consistency_nats is not None
    assert found.self_consistency_nats < 0.01


def test_litellms_text_route_is_raw_only(litellm: str) -> None:
    found = probed(litellm, "text", "reference")
    assert found.framings() == ("raw",)
    assert found.can_score


@pytest.mark.parametrize("framing", ["raw", "chat"])
def test_twenty_draws_of_every_text_join_through_litellms_proxy(litellm: str, framing: Framing) -> None:
    refused = draws_join(litellm, "by-openai", framing)
    assert set().union(*refused.values()) <= {"replacement_character"}


@pytest.mark.parametrize("name", ["by-openai", "by-vllm"])
def test_litellms_proxy_passes_on_what_vllm_can(litellm_before_vllm: str, name: str) -> None:
    found = probed(litellm_before_vllm, name, "reference")
    assert found.framings() == ("raw", "chat")
    assert (found.logprobs, found.max_top_logprobs) == ("raw", 20)
    assert (found.can_score, found.scores_template) == (True, True)
    assert found.self_consistency_nats is not None
    assert found.self_consistency_nats < 0.01


@pytest.mark.parametrize("framing", ["raw", "chat"])
def test_texts_join_through_litellms_proxy_before_vllm(litellm_before_vllm: str, framing: Framing) -> None:
    assert texts_join(litellm_before_vllm, "by-openai", framing) == {}
    assert set().union(*draws_join(litellm_before_vllm, "by-vllm", framing).values()) <= {"replacement_character"}


def test_an_audit_of_vllm_through_litellms_proxy(litellm_before_vllm: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    audit(litellm_before_vllm, "by-vllm", litellm_before_vllm, run, 20, "--max-tokens", "32", "--concurrency", "4")
    results = read_run(run)
    assert results.summary.scored >= 18
    assert verify_run(run).problems == ()
