"""The exact requests of every dialect, for every framing it has, and what in them must never change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from blackbox_diff.buying.http import Endpoint
from blackbox_diff.config.model import EndpointConfig
from blackbox_diff.errors import ConfigError
from blackbox_diff.records import Call, EndpointProfile, Sampling
from blackbox_diff.run.watch import one_token
from blackbox_diff.wire import DIALECTS, Dialect, ScoreItem, dialect
from blackbox_diff.wire.asked import output_tokens

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "fixtures" / "wire"
BASE_URLS = {
    "openai": "https://api.openai.com/v1",
    "azure": "https://x.openai.azure.com/openai/deployments/d",
    "deepseek": "https://api.deepseek.com",
    "mistral": "https://api.mistral.ai/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "together": "https://api.together.xyz/v1",
    "fireworks": "https://api.fireworks.ai/inference/v1",
    "tinker": "https://tinker.thinkingmachines.dev/services/tinker-prod/oai/api/v1",
    "bedrock": "https://bedrock-runtime.us-east-1.amazonaws.com",
    "lmi": "https://runtime.sagemaker.eu-central-1.amazonaws.com/endpoints/acme",
    "watsonx": "https://us-south.ml.cloud.ibm.com",
    "cohere": "https://api.cohere.com/v2",
    "deepinfra": "https://api.deepinfra.com/v1",
    "nebius": "https://api.tokenfactory.nebius.com/v1",
    "baseten": "https://model-abc123.api.baseten.co/environments/production/sync/v1",
    "lorax": "https://serving.app.predibase.com/acme/deployments/v2/llms/qwen",
}
MODELS = {
    "bedrock": "arn:aws:bedrock:us-east-1:123456789012:imported-model/a1b2c3",
    "watsonx": "ibm/granite-3-8b-instruct",
    "lorax": "pbase:acme/1",
    "deepinfra": "acme/tuned",
}
PROVIDERS = {"openrouter": "Host", "watsonx": "project-1"}
ITEMS = {
    "score raw": ScoreItem("A wet", "raw", " day", alternatives=20),
    "score chat": ScoreItem("A wet", "chat", " day", alternatives=20),
    "score ids": ScoreItem("A wet", "chat", " day", (1, 2, 3), (4,), alternatives=20),
}


def able(speaks: Dialect, **changes: Any) -> EndpointProfile:
    """An endpoint that can do all that its dialect knows."""
    best: dict[str, Any] = {
        "base_url": BASE_URLS.get(speaks.name, "http://127.0.0.1:8000/v1"),
        "model": MODELS.get(speaks.name, "m"),
        "dialect": speaks.name,
        "max_top_logprobs": 20,
        "provider": PROVIDERS.get(speaks.name),
        "raw": next(iter(speaks.raw_recipes), None),
        "prefill": next(iter(speaks.prefill_recipes), None),
        "scoring": next(iter(speaks.scoring_recipes), None),
        "id_prompts": speaks.id_prompts,
        "scores_template": speaks.template_scoring,
    }
    return EndpointProfile(**{**best, **changes})


def call_for(speaks: Dialect, what: str) -> Call:
    profile = able(speaks)
    if what in ITEMS:
        return speaks.score(profile, ITEMS[what])
    return speaks.sample(profile, "A wet", what.removeprefix("sample "), Sampling(), 11)  # type: ignore[arg-type]


GOLDEN = [
    (path.name.split(".")[0], what, request)
    for path in sorted(FIXTURES.glob("*.requests.json"))
    for what, request in json.loads(path.read_text(encoding="utf-8")).items()
]


def encoded(body: Any) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize(("name", "what", "request_"), GOLDEN, ids=[f"{name}-{what}" for name, what, _ in GOLDEN])
def test_the_request_is_the_golden_one_to_the_byte(name: str, what: str, request_: list[Any]) -> None:
    call = call_for(DIALECTS[name], what)
    assert call.body == request_[1]  # pytest names the fields that differ; the bytes below tell their order
    assert [call.url or call.path, encoded(call.body)] == [request_[0], encoded(request_[1])]


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_every_framing_that_a_dialect_has_is_golden(name: str) -> None:
    golden = {what for owner, what, _ in GOLDEN if owner == name}
    assert {f"sample {framing}" for framing in able(DIALECTS[name]).framings()} <= golden
    if DIALECTS[name].scoring_recipes:
        assert {"score raw", "score chat"} <= golden


@pytest.mark.parametrize("name", sorted(DIALECTS))
async def test_the_client_puts_those_bytes_on_the_wire(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):  # some are signed: tests/test_signing.py
        monkeypatch.setenv(variable, "example")
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json={"choices": []})

    base = able(DIALECTS[name]).base_url
    golden = [(what, request) for owner, what, request in GOLDEN if owner == name]
    config = EndpointConfig(url=base, model="m")
    async with Endpoint(config, transport=httpx2.MockTransport(answer)) as endpoint:
        for what, _ in golden:
            await endpoint.post(call_for(DIALECTS[name], what))
    for request, (_, (path, body)) in zip(seen, golden, strict=True):
        assert str(request.url) == (path if "://" in path else base + path)
        assert request.content == json.dumps(body).encode()


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_every_sampling_request_names_its_sampler(name: str) -> None:
    speaks = DIALECTS[name]
    profile = able(speaks)
    for framing in profile.framings():
        body = speaks.sample(profile, "A wet", framing, Sampling(temperature=0.7), None).body
        settings = body.get("parameters", body)
        assert settings["temperature"] == 0.7
        assert "stop" not in settings
        assert "seed" not in settings
        assert "random_seed" not in settings


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_the_names_of_the_limit_and_the_seed_are_known(name: str) -> None:
    """By their names the ledger reserves tokens and `watch` asks for one token without a seed."""
    speaks = DIALECTS[name]
    profile = able(speaks)
    for framing in profile.framings():
        seeded, unseeded = (
            speaks.sample(profile, "A wet", framing, Sampling(max_tokens=7), seed) for seed in (11, None)
        )
        assert output_tokens(seeded) == 7, "name the field in LIMITS of wire/asked.py"
        asked_again = [one_token(call, profile.model) for call in (seeded, unseeded)]
        assert asked_again[0] == asked_again[1], "name the seed in SEEDS there"
        assert output_tokens(asked_again[0]) == 1


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_processed_logprobs_pin_the_temperature_to_one(name: str) -> None:
    speaks = DIALECTS[name]
    profile = able(speaks, logprobs="processed")
    for framing in profile.framings():
        body = speaks.sample(profile, "A wet", framing, Sampling(temperature=0.7, top_p=0.9), None).body
        settings = body.get("parameters", body)
        assert settings["temperature"] == 1.0
        assert settings.get("top_p", 1.0) == 1.0


def test_a_rejected_field_is_never_sent_again() -> None:
    profile = able(DIALECTS["generic"], dropped=("top_k", "return_token_ids"))
    body = DIALECTS["generic"].sample(profile, "A wet", "raw", Sampling(), 1).body
    assert "top_k" not in body
    assert "return_token_ids" not in body


def test_alternatives_stay_within_what_the_endpoint_allows() -> None:
    profile = able(DIALECTS["generic"], max_top_logprobs=2)
    assert DIALECTS["generic"].sample(profile, "A", "chat", Sampling(), 1).body["top_logprobs"] == 2
    profile = able(DIALECTS["openai"])
    assert DIALECTS["openai"].sample(profile, "A", "raw", Sampling(top_logprobs=20), 1).body["logprobs"] == 5


def test_the_prefill_is_the_users_turn_in_user_framing() -> None:
    messages = DIALECTS["openai"].sample(able(DIALECTS["openai"]), "A wet", "user", Sampling(), 1).body["messages"]
    assert [m["role"] for m in messages] == ["system", "user"]
    assert messages[-1]["content"] == "A wet"


def test_scoring_a_chat_on_a_model_without_template_sends_plain_text() -> None:
    profile = able(DIALECTS["vllm"], scores_template=False)
    assert DIALECTS["vllm"].score(profile, ITEMS["score chat"]).body["prompt"] == "A wet day"


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_every_dialect_has_a_line_in_the_table_of_endpoints(name: str) -> None:
    assert f"| `{name}`" in (ROOT / "docs" / "endpoints.md").read_text(encoding="utf-8")


def test_an_unknown_dialect_is_one_line_that_lists_the_names() -> None:
    with pytest.raises(ConfigError, match="'nope' is not one of auto, generic, openai"):
        dialect("nope")
