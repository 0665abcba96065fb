"""What the server can't do is an error in OpenAI's shape that names the field; nothing is silently ignored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from openai import AuthenticationError, BadRequestError, NotFoundError, OpenAI

from tests.server_fixtures import KEY

HEADERS = {"Authorization": f"Bearer {KEY}"}
JSON = {"Content-Type": "application/json"}
TEXT: dict[str, Any] = {"model": "tiny", "prompt": "the"}
CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "the"}]}

# path, changes to a good request, the field that the error names, words of its message
REFUSED: list[tuple[str, dict[str, Any], str | None, str]] = [
    ("completions", {"prompt": 7}, "prompt", "valid"),
    ("completions", {"prompt": ""}, "prompt", "empty"),
    ("completions", {"prompt": []}, "prompt", "empty"),
    ("completions", {"prompt": [1, 288]}, "prompt", "vocabulary"),
    ("completions", {"prompt": [[1], [-1]]}, "prompt", "vocabulary"),
    ("completions", {"prompt": ["the", ""]}, "prompt", "no tokens"),
    ("completions", {"max_tokens": "many"}, "max_tokens", "integer"),
    ("completions", {"max_tokens": 1.5}, "max_tokens", "integer"),
    ("completions", {"max_tokens": -1}, "max_tokens", "greater"),
    ("completions", {"max_tokens": 0}, "max_tokens", "echo"),
    ("completions", {"max_tokens": 1000}, "max_tokens", "context of 256"),
    ("completions", {"logprobs": 51}, "logprobs", "50"),
    ("completions", {"logprobs": True}, "logprobs", "integer"),
    ("completions", {"temperature": -1}, "temperature", "greater"),
    ("completions", {"top_p": 0}, "top_p", "greater"),
    ("completions", {"n": 0}, "n", "greater"),
    ("completions", {"seed": "x"}, "seed", "integer"),
    ("completions", {"stop": 3}, "stop", "valid"),
    ("completions", {"best_of": 2}, "best_of", "not a field"),
    ("completions", {"presence_penalty": 0.5}, "presence_penalty", "only 0"),
    ("completions", {"logit_bias": {"1": 5}}, "logit_bias", "not supported"),
    ("completions", {"echo": True, "stream": True}, "stream", "echo"),
    ("completions", {"stream_options": {"include_usage": True}}, "stream_options", "stream"),
    ("chat/completions", {"messages": []}, "messages", "at least 1"),
    ("chat/completions", {"messages": "hello"}, "messages", "list"),
    ("chat/completions", {"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role", "assistant"),
    ("chat/completions", {"messages": [{"role": "user", "content": ["x"]}]}, "messages.0.content", "string"),
    ("chat/completions", {"top_logprobs": 3}, "top_logprobs", "logprobs: true"),
    ("chat/completions", {"logprobs": True, "top_logprobs": 99}, "top_logprobs", "50"),
    ("chat/completions", {"max_tokens": 2, "max_completion_tokens": 2}, "max_tokens", "either"),
    ("chat/completions", {"continue_final_message": True}, "continue_final_message", "add_generation_prompt"),
    (
        "chat/completions",
        {"continue_final_message": True, "add_generation_prompt": False},
        "continue_final_message",
        "assistant",
    ),
    ("chat/completions", {"tools": []}, "tools", "not a field"),
    ("chat/completions", {"response_format": {"type": "json_object"}}, "response_format", "not a field"),
]


@pytest.fixture(scope="module")
def client(tiny_server: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=tiny_server, api_key=KEY, max_retries=0) as found:
        yield found


@pytest.mark.parametrize(("path", "change", "field", "words"), REFUSED)
def test_a_value_that_cannot_be_honoured_is_refused_by_name(
    tiny_server: str, path: str, change: dict[str, Any], field: str | None, words: str
) -> None:
    good = CHAT if path.startswith("chat") else TEXT
    reply = httpx2.post(f"{tiny_server}/{path}", json=good | change, headers=HEADERS)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert str(error["param"]).startswith(str(field))
    assert words in error["message"]
    assert "\n" not in error["message"]
    assert error["type"] == "invalid_request_error"


def test_an_unknown_model_is_404_and_the_models_are_named(client: OpenAI) -> None:
    for call in (
        lambda: client.completions.create(model="gone", prompt="the"),
        lambda: client.chat.completions.create(model="gone", messages=[{"role": "user", "content": "x"}]),
        lambda: client.models.retrieve("gone"),
    ):
        with pytest.raises(NotFoundError) as refused:
            call()
        assert refused.value.code == "model_not_found"
        assert "'gone'" in refused.value.message
        assert "tiny, one, two" in refused.value.message


def test_the_client_raises_bad_request_with_the_field(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.completions.create(model="tiny", prompt="the", logprobs=99)
    assert refused.value.param == "logprobs"


@pytest.mark.parametrize("key", ["wrong", KEY[:-1], f"{KEY}x", KEY.upper(), "sk-ключ"])
def test_a_wrong_key_is_401_and_is_not_repeated(tiny_server: str, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}".encode()}
    reply = httpx2.post(f"{tiny_server}/completions", json=TEXT, headers=headers)
    assert reply.status_code == 401
    assert reply.json()["error"]["code"] == "invalid_api_key"
    assert KEY not in reply.text
    assert key not in reply.text


def test_no_key_is_401_on_every_route_but_health(tiny_server: str) -> None:
    root = tiny_server.removesuffix("/v1")
    for method, path in (
        ("GET", "/v1/models"),
        ("GET", "/stats"),
        ("POST", "/v1/completions"),
        ("POST", "/tokenize"),
    ):
        assert httpx2.request(method, root + path, json=TEXT).status_code == 401
    assert httpx2.get(root + "/health").json() == {"status": "ok"}


def test_the_official_client_says_so_too(tiny_server: str) -> None:
    with (
        OpenAI(base_url=tiny_server, api_key="wrong", max_retries=0) as client,
        pytest.raises(AuthenticationError),
    ):
        client.models.list()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "not valid JSON"),
        (b'{"model": "tiny",', 400, "not valid JSON"),
        (b"[1, 2]", 400, "dictionary"),
        (b"[" * 100_000, 400, "not valid JSON"),
        (b'{"model": "tiny", "prompt": "\\ud800"}', 400, "surrogate"),
        (b'{"model": "tiny", "prompt": "\xff"}', 400, "not valid JSON"),
        (b'{"model": "tiny", "prompt": "' + b"a" * (9 << 20) + b'"}', 413, "larger than"),
    ],
    ids=["empty", "cut", "list", "deep", "surrogate", "not utf-8", "nine megabytes"],
)
def test_a_body_that_is_no_request_is_refused(tiny_server: str, body: bytes, status: int, words: str) -> None:
    reply = httpx2.post(f"{tiny_server}/completions", content=body, headers=HEADERS | JSON)
    assert reply.status_code == status
    assert words in reply.json()["error"]["message"]


def test_numbers_that_are_none_are_refused(tiny_server: str) -> None:
    for value in ("NaN", "Infinity", "1e999"):
        body = json.dumps(TEXT).replace("}", f', "temperature": {value}}}')
        reply = httpx2.post(f"{tiny_server}/completions", content=body.encode(), headers=HEADERS | JSON)
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] in ("temperature", None)


def test_an_unknown_route_and_method_are_in_openais_shape(tiny_server: str) -> None:
    for method, path, status in (("GET", "/embeddings", 404), ("GET", "/completions", 405)):
        reply = httpx2.request(method, tiny_server + path, headers=HEADERS)
        assert reply.status_code == status
        assert path in reply.json()["error"]["message"]


def test_token_ids_outside_of_the_vocabulary_have_no_text(tiny_server: str) -> None:
    body = {"model": "tiny", "tokens": [1, 100_000]}
    reply = httpx2.post(tiny_server.removesuffix("/v1") + "/detokenize", json=body, headers=HEADERS)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "tokens"
