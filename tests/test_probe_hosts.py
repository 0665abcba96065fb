"""The probe against hosts with routes of their own: the toy model behind each host's documented protocol."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import unquote

import httpx2
import pytest

from blackbox_diff.buying.http import Endpoint
from blackbox_diff.config.model import EndpointConfig
from blackbox_diff.probing.probe import probe
from blackbox_diff.records import EndpointProfile
from tests.fake_endpoint import FakeEndpoint
from tests.test_wire_requests import BASE_URLS, MODELS, PROVIDERS

Entry = tuple[str, float | None, dict[str, float]]
STRICT = {"n", "seed"}  # what these hosts' documentation does not have at the top of a body


class Host:
    """Speaks one host's protocol for the toy. spell: how the host writes a token's string."""

    def __init__(self, name: str, spell: Callable[[str], str] = str) -> None:
        self.name = name
        self.spell = spell
        self.toy = FakeEndpoint()
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return httpx2.Response(404, json={"message": "no such route"})
        body = json.loads(request.content)
        self.calls.append((str(request.url), body))
        unknown = STRICT & set(body) if self.name != "cohere" else {"n"} & set(body)
        if unknown:
            return httpx2.Response(400, json={"message": f"extraneous key [{unknown.pop()}] is not permitted"})
        return httpx2.Response(200, **getattr(self, self.name)(body))

    def said(
        self, prompt: str, max_tokens: int, temperature: float, *, echo: bool
    ) -> tuple[list[Entry], list[Entry]]:
        """Entries of the prompt, where they are asked for, and of what the toy writes after it."""
        body = {"model": "m", "prompt": prompt, "max_tokens": max_tokens, "temperature": temperature}
        tokens = self.toy.prompt(body)
        written = self.toy.write(tokens, body)
        entries = self.toy.entries(tokens, written, body, echo)
        return entries[: -len(written)], entries[-len(written) :]

    def bedrock(self, body: dict[str, Any]) -> dict[str, Any]:
        url = unquote(self.calls[-1][0])
        assert url.endswith(f"/model/{MODELS['bedrock']}/invoke")
        route = "/v1/chat/completions" if "messages" in body else "/v1/completions"
        return {"json": self.toy.reply(route, {"model": "m", **body})}

    def watsonx(self, body: dict[str, Any]) -> dict[str, Any]:
        parameters, options = body["parameters"], body["parameters"]["return_options"]
        assert (body["model_id"], body["project_id"]) == (MODELS["watsonx"], PROVIDERS["watsonx"])
        greedy = parameters["decoding_method"] == "greedy"
        given, written = self.said(
            body["input"], parameters["max_new_tokens"], 0 if greedy else parameters["temperature"], echo=True
        )
        row = lambda entry: {  # noqa: E731
            "text": self.spell(entry[0]),
            "logprob": entry[1],
            "rank": 1,
            "top_tokens": [{"text": self.spell(token), "logprob": value} for token, value in entry[2].items()],
        }
        result = {
            "generated_text": "".join(token for token, _, _ in written),
            "generated_token_count": len(written),
            "input_token_count": len(given),
            "stop_reason": "max_tokens",
            "generated_tokens": [row(entry) for entry in written],
        }
        if options["input_tokens"]:
            result["input_tokens"] = [row(entry) for entry in given]
        return {"json": {"model_id": body["model_id"], "results": [result]}}

    def lmi(self, body: dict[str, Any]) -> dict[str, Any]:
        return self.details(body, "log_prob")

    def lorax(self, body: dict[str, Any]) -> dict[str, Any]:
        assert (body["parameters"]["adapter_id"], body["parameters"]["adapter_source"]) == ("acme/1", "pbase")
        return self.details(body, "logprob")

    def details(self, body: dict[str, Any], key: str) -> dict[str, Any]:
        parameters = body["parameters"]
        temperature = parameters.get("temperature", 1.0) if parameters["do_sample"] else 0
        given, written = self.said(body["inputs"], parameters["max_new_tokens"], temperature, echo=True)
        rows = [{"id": number, "text": token, key: value} for number, (token, value, _) in enumerate(written)]
        found = {"finish_reason": "length", "generated_tokens": len(written), "tokens": rows}
        if parameters.get("decoder_input_details"):
            found["prefill"] = [{"id": 1, "text": self.spell(token), key: value} for token, value, _ in given]
        return {"json": {"generated_text": "".join(token for token, _, _ in written), "details": found}}

    def deepinfra(self, body: dict[str, Any]) -> dict[str, Any]:
        assert body["stream"] is True
        _, written = self.said(body["input"], body["max_new_tokens"], body["temperature"], echo=True)
        events: list[dict[str, Any]] = [
            {"token": {"id": 1, "text": token, "logprob": value, "special": False}, "details": None}
            for token, value, _ in written
        ]
        events[-1]["details"] = {"finish_reason": "length", "generated_tokens": len(written)}
        return {"content": "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()}

    def cohere(self, body: dict[str, Any]) -> dict[str, Any]:
        limit, temperature = body["max_tokens"], body["temperature"]
        _, written = self.said("<|assistant|>", limit, temperature, echo=True)
        pieces = [{"token_ids": [1], "text": token, "logprobs": [value]} for token, value, _ in written]
        text = "".join(token for token, _, _ in written)
        message = {"role": "assistant", "content": [{"type": "text", "text": text}]}
        tokens = {"input_tokens": 9, "output_tokens": len(written)}
        return {
            "json": {
                "id": "1",
                "finish_reason": "MAX_TOKENS",
                "message": message,
                "usage": {"tokens": tokens},
                "logprobs": pieces,
            }
        }


def gpt2(token: str) -> str:
    """A token as byte-level vocabularies spell it."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return "".join(chr(byte) if byte in printable else chr(0x100 + others.index(byte)) for byte in token.encode())


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "example")


async def probed(host: Host, purpose: Literal["target", "reference"] = "reference") -> EndpointProfile:
    config = EndpointConfig(
        url=BASE_URLS[host.name], model=MODELS.get(host.name, "m"), provider=PROVIDERS.get(host.name)
    )
    async with Endpoint(config, transport=httpx2.MockTransport(host.answer)) as endpoint:
        return await probe(endpoint, config, purpose=purpose)


@pytest.mark.parametrize(
    ("name", "spell", "top"),
    [("watsonx", str, 4), ("watsonx", gpt2, 4), ("lmi", str, 0), ("lmi", gpt2, 0), ("lorax", str, 0)],
)
async def test_a_native_host_is_target_and_reference(name: str, spell: Callable[[str], str], top: int) -> None:
    found = await probed(Host(name, spell))
    assert found.dialect == name
    assert found.framings() == ("raw",)
    assert found.can_score
    assert found.self_consistency_nats == pytest.approx(0.0, abs=1e-9)
    assert (found.logprobs, found.max_top_logprobs) == ("raw", top)
    assert found.verdict.startswith("can be a reference: scores text,")


async def test_bedrock_is_target_and_reference_in_raw_and_chat() -> None:
    host = Host("bedrock")
    found = await probed(host)
    assert found.dialect == "bedrock"
    assert found.framings() == ("raw", "chat")
    assert (found.can_score, found.scoring, found.scores_template) == (True, "prompt_logprobs", True)
    assert found.id_prompts
    assert not any("seed" in body or "model" in body for _, body in host.calls)


@pytest.mark.parametrize(("name", "framings"), [("deepinfra", ("raw",)), ("cohere", ("user",))])
async def test_a_native_host_is_a_target_alone(name: str, framings: tuple[str, ...]) -> None:
    found = await probed(Host(name), "target")
    assert found.framings() == framings
    assert found.auditable
    assert not found.can_score
    assert "can't score text, so bring a reference" in found.verdict


async def test_models_imported_to_bedrock_before_strings_came_are_refused_with_the_fix() -> None:
    host = Host("bedrock")
    host.bedrock = lambda body: {"json": {"generation": " x", "logprobs": [{"1": -0.5}]}}  # type: ignore[method-assign]
    found = await probed(host, "target")
    assert not found.auditable
    assert "import this one again" in found.verdict
