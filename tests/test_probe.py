"""The probe against servers that lack things, pretend, or lie: each is named before any money is spent."""

from __future__ import annotations

from typing import Literal

import pytest

from blackbox_diff.buying.http import Endpoint
from blackbox_diff.config.model import EndpointConfig
from blackbox_diff.errors import ConfigError, EndpointUsageError
from blackbox_diff.probing import negotiate
from blackbox_diff.probing.identify import identify
from blackbox_diff.probing.probe import probe, shares_vocabulary
from blackbox_diff.records import EndpointProfile
from blackbox_diff.wire import DIALECTS, ScoreItem
from tests.fake_endpoint import FakeEndpoint
from tests.replies import raw

Purpose = Literal["target", "reference"]
OPENAI_FIELDS = {
    "model", "messages", "prompt", "max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty",
    "seed", "stream", "logprobs", "top_logprobs",
}  # fmt: skip


async def probed(
    server: FakeEndpoint,
    purpose: Literal["target", "reference"] = "target",
    model: str = "m",
    dialect: str = "auto",
) -> EndpointProfile:
    config = EndpointConfig(url="http://127.0.0.1:1/v1", model=model, dialect=dialect)
    async with Endpoint(config, transport=server.transport()) as endpoint:
        return await probe(endpoint, config, purpose=purpose)


def detail(found: EndpointProfile, name: str) -> str:
    return next(check.detail for check in found.checks if check.name == name)


async def test_an_honest_server_can_do_everything() -> None:
    server = FakeEndpoint()
    found = await probed(server, "reference")
    assert found.auditable
    assert found.can_score
    assert (found.raw, found.prefill, found.scoring) == ("completions", "continue_final_message", "echo")
    assert found.token_ids
    assert found.id_prompts
    assert found.scores_template
    assert found.seed
    assert (found.logprobs, found.max_top_logprobs, found.noise_nats) == ("raw", 4, 0.0)
    assert found.self_consistency_nats == pytest.approx(0.0, abs=1e-9)
    assert found.fingerprint == "fp"
    assert len(server.calls) <= 13


async def test_the_verdict_is_a_sentence() -> None:
    found = await probed(FakeEndpoint("echo ignored"))
    assert found.verdict.startswith(
        "can be audited: raw completions and chat prefill, logprobs raw, top 4, bytes "
    )
    assert found.verdict.endswith("can't score text, so bring a reference")


@pytest.mark.parametrize("fault", ["no logprobs", "zeros", "placeholders", "logprobs rejected"])
async def test_an_endpoint_without_real_logprobs_cannot_be_audited(fault: str) -> None:
    found = await probed(FakeEndpoint(fault))
    assert not found.auditable
    assert found.framings() == ()
    assert found.verdict.startswith("can't be audited: ")


async def test_unnormalised_numbers_are_no_logprobs() -> None:
    found = await probed(FakeEndpoint("logits"))
    assert not found.auditable


async def test_an_ignored_echo_makes_no_reference() -> None:
    found = await probed(FakeEndpoint("echo ignored"), "reference")
    assert not found.can_score
    assert "ignored the text to score" in found.verdict


async def test_a_rejected_echo_makes_no_reference_and_a_good_target() -> None:
    server = FakeEndpoint("echo rejected", "no prompt logprobs")
    found = await probed(server, "reference")
    assert not found.can_score
    assert "Setting 'echo' and 'logprobs' at the same time is not supported" in found.verdict
    assert (await probed(server)).framings() == ("raw", "chat")


async def test_an_echo_that_is_off_by_one_makes_no_reference() -> None:
    found = await probed(FakeEndpoint("off by one"), "reference")
    assert not found.can_score
    assert "off by one" in found.verdict


async def test_processed_logprobs_are_found() -> None:
    assert (await probed(FakeEndpoint("processed"))).logprobs == "processed"


async def test_a_prefill_that_is_only_history_is_no_prefill() -> None:
    found = await probed(FakeEndpoint("fake prefill"))
    assert found.prefill is None
    assert found.framings() == ("raw",)


async def test_a_fake_prefill_is_found_without_ids_too() -> None:
    assert (await probed(FakeEndpoint("fake prefill", "no ids"))).prefill is None


async def test_a_real_prefill_is_found_without_ids_and_raw_completions() -> None:
    found = await probed(FakeEndpoint("no ids", "chat only"))
    assert found.framings() == ("chat",)


async def test_chat_without_prefill_leaves_the_users_turn() -> None:
    found = await probed(FakeEndpoint("fake prefill", "chat only"))
    assert found.framings() == ("user",)
    assert "weaker probe" in found.verdict


async def test_a_base_model_without_template_keeps_its_raw_completions() -> None:
    found = await probed(FakeEndpoint("no template"), "reference")
    assert (found.has_template, found.framings(), found.can_score) == (False, ("raw",), True)


async def test_fields_that_are_rejected_are_dropped() -> None:
    found = await probed(FakeEndpoint("no ids", fields=OPENAI_FIELDS))
    assert found.auditable
    vllm = {"top_k", "min_p", "repetition_penalty", "return_token_ids"}
    assert set(found.dropped) == vllm | {"add_generation_prompt", "continue_final_message", "n"}
    assert len(set(found.dropped)) == len(found.dropped)


async def test_the_most_alternatives_are_read_from_the_error() -> None:
    server = FakeEndpoint("top five")
    await probed(server)
    asked = [call.get("top_logprobs", call["logprobs"]) for call in server.calls if call.get("logprobs")]
    assert asked[0] == 20
    assert all(n is True or n <= 5 for n in asked[1:])


@pytest.mark.parametrize(("fault", "most"), [("scores list three", 3), ("scores list one, unsaid", 1)])
async def test_a_reference_that_lists_fewer_alternatives_for_given_text_is_asked_for_fewer(
    fault: str, most: int
) -> None:
    found = await probed(FakeEndpoint(fault), purpose="reference")
    assert found.can_score
    assert found.max_top_scored is not None
    assert found.max_top_scored <= most
    assert found.max_top_logprobs > most
    item = ScoreItem("A wet", "raw", " day", alternatives=20)
    assert DIALECTS["generic"].score(found, item).body["logprobs"] <= most


async def test_the_newer_limit_field_is_found() -> None:
    found = await probed(FakeEndpoint("new limit field"))
    assert found.max_tokens_field == "max_completion_tokens"
    assert found.auditable


async def test_a_seed_that_is_ignored_is_noticed() -> None:
    checks = (await probed(FakeEndpoint("no seed"))).checks
    assert next(check.outcome for check in checks if check.name == "seed") == "limited"


async def test_noise_is_measured() -> None:
    found = await probed(FakeEndpoint("noisy"))
    # Every other call is 0.02 nats off, so one of the two repeats is.
    assert found.noise_nats == pytest.approx(((0.02**2 + 0) / (2 * 2)) ** 0.5, rel=0.01)


async def test_several_completions_per_call_are_noticed_and_rejected_ones_do_no_harm() -> None:
    assert detail(await probed(FakeEndpoint()), "several per call") == "n=2 gives 2"
    assert detail(await probed(FakeEndpoint("one choice")), "several per call") == "n=2 is ignored"
    strict = await probed(FakeEndpoint(fields=OPENAI_FIELDS))
    assert detail(strict, "several per call") == "n=2 is rejected"
    assert strict.noise_nats == 0.0


async def test_rate_limits_and_usage_are_told() -> None:
    found = await probed(FakeEndpoint("limited rate", "cached"))
    assert detail(found, "rate limits") == "limit requests 500, remaining requests 499"
    assert detail(found, "usage") == "input tokens, output tokens, cached tokens, cost in USD"
    assert detail(await probed(FakeEndpoint()), "rate limits") == "no headers"


async def test_a_chat_endpoint_without_raw_completions_is_a_reference_by_its_own_template() -> None:
    found = await probed(FakeEndpoint("chat only"), "reference")
    assert (found.framings(), found.can_score, found.scoring) == (("chat",), True, "prompt_logprobs")
    assert found.self_consistency_nats == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("fault", ["off by one", "no prompt logprobs"])
async def test_a_chat_endpoint_that_scores_wrongly_is_no_reference(fault: str) -> None:
    found = await probed(FakeEndpoint("chat only", fault), "reference")
    assert not found.can_score
    assert not found.scores_template


async def test_lost_bytes_are_graded() -> None:
    found = await probed(FakeEndpoint("lost bytes"))
    assert found.token_bytes == "lossy"
    assert found.auditable


async def test_a_server_that_is_busy_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negotiate, "PAUSE_SECONDS", 0.0)
    assert (await probed(FakeEndpoint("busy once"))).auditable


async def test_a_rejected_key_is_one_line() -> None:
    with pytest.raises(EndpointUsageError, match="rejects the key") as caught:
        await probed(FakeEndpoint("bad key"))
    assert "\n" not in str(caught.value)


async def test_an_unknown_model_names_the_ones_there_are() -> None:
    with pytest.raises(EndpointUsageError, match="no model 'nope'; it has m"):
        await probed(FakeEndpoint(), model="nope")


async def test_an_unreachable_server_is_one_line() -> None:
    config = EndpointConfig(url="http://127.0.0.1:9/v1", model="m")
    async with Endpoint(config) as endpoint:
        with pytest.raises(EndpointUsageError, match=r"127\.0\.0\.1:9.*can't connect"):
            await probe(endpoint, config, purpose="target")


async def test_an_unknown_dialect_is_a_usage_error() -> None:
    with pytest.raises(ConfigError, match="'nope' is not one of"):
        await probed(FakeEndpoint(), dialect="nope")


async def test_the_profile_survives_its_own_json() -> None:
    found = await probed(FakeEndpoint())
    assert EndpointProfile.model_validate_json(found.model_dump_json()) == found


async def test_equal_tokenizers_share_ids_and_others_do_not() -> None:
    a = await probed(FakeEndpoint())
    assert shares_vocabulary(a, a)
    assert not shares_vocabulary(a, a.model_copy(update={"vocabulary": "sha256:other"}))
    assert not shares_vocabulary(a, a.model_copy(update={"id_prompts": False}))
    assert not shares_vocabulary(
        a.model_copy(update={"vocabulary": None}), a.model_copy(update={"vocabulary": None})
    )


@pytest.mark.parametrize(
    ("url", "owner", "name"),
    [
        ("https://api.openai.com/v1", "system", "openai"),
        ("https://x.openai.azure.com/openai/deployments/d", "x", "azure"),
        ("https://openrouter.ai/api/v1", "", "openrouter"),
        ("http://127.0.0.1:8000/v1", "vllm", "vllm"),
        ("http://127.0.0.1:30000/v1", "sglang", "sglang"),
        ("http://127.0.0.1:8080/v1", "llamacpp", "llamacpp"),
        ("http://127.0.0.1:8001/v1", "me", "llamacpp_python"),
        ("http://127.0.0.1:11434/v1", "library", "ollama"),
        ("https://notopenrouter.ai.example.com/v1", "", "generic"),
    ],
)
def test_the_dialect_is_guessed_from_host_and_owner(url: str, owner: str, name: str) -> None:
    assert identify(url, "m", raw({"data": [{"id": "m", "owned_by": owner}]})).dialect == name


def test_an_adapter_tells_its_base() -> None:
    reply = raw({"data": [{"id": "m", "owned_by": "vllm", "parent": "base"}, {"id": "base", "parent": None}]})
    assert identify("http://127.0.0.1/v1", "m", reply).parent == "base"


@pytest.mark.parametrize("body", [b"", b"<html>", {"data": 7}, {"data": [None, 3, {"id": 4}]}, {"data": [[]]}])
def test_an_odd_model_list_is_no_list(body: object) -> None:
    assert identify("http://127.0.0.1/v1", "m", raw(body)).models == ()
