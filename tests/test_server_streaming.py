"""Streamed replies: the same text and logprobs as whole ones, and a row that is free once its reader has gone."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from openai import APIStatusError, OpenAI

from tests.server_fixtures import KEY

NATS = 1e-3
PROMPT = "the inner and"
HEADERS = {"Authorization": f"Bearer {KEY}"}
FULL = 2048  # jobs that the server accepts before it says 503


@pytest.fixture(scope="module")
def client(tiny_server: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=tiny_server, api_key=KEY, max_retries=0) as found:
        yield found


def test_a_streamed_completion_is_the_whole_one_in_parts(client: OpenAI) -> None:
    options: dict[str, Any] = {"model": "one", "prompt": PROMPT, "max_tokens": 30, "seed": 4, "logprobs": 2}
    whole = client.completions.create(**options).choices[0]
    parts = [chunk.choices[0] for chunk in client.completions.create(**options, stream=True)]
    assert "".join(part.text for part in parts) == whole.text
    assert parts[-1].finish_reason == whole.finish_reason
    assert all(part.finish_reason is None for part in parts[:-1])
    assert whole.logprobs is not None
    told = [part.logprobs for part in parts if part.logprobs is not None]
    for name in ("tokens", "text_offset"):
        assert [one for part in told for one in getattr(part, name)] == getattr(whole.logprobs, name)
    streamed = [value for part in told for value in part.token_logprobs or []]
    assert streamed == pytest.approx(whole.logprobs.token_logprobs, abs=NATS)


def test_a_streamed_chat_is_the_whole_one_in_parts(client: OpenAI) -> None:
    options: dict[str, Any] = {
        "model": "tiny", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 30, "seed": 4,
        "logprobs": True, "top_logprobs": 3,
    }  # fmt: skip
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    *parts, last = chunks
    assert last.usage == whole.usage
    assert parts[0].choices[0].delta.role == "assistant"
    text = "".join(part.choices[0].delta.content or "" for part in parts)
    assert text == whole.choices[0].message.content
    assert whole.choices[0].logprobs is not None
    told = [
        entry for part in parts if part.choices[0].logprobs for entry in part.choices[0].logprobs.content or []
    ]
    expected = whole.choices[0].logprobs.content or []
    assert [entry.bytes for entry in told] == [entry.bytes for entry in expected]
    assert [entry.logprob for entry in told] == pytest.approx([entry.logprob for entry in expected], abs=NATS)
    assert [len(entry.top_logprobs) for entry in told] == [3] * len(expected)


def test_a_streamed_text_never_shows_the_stop_string(client: OpenAI) -> None:
    options: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 40, "seed": 9}
    whole = client.completions.create(**options).choices[0].text
    stop = whole[7:9]
    parts = [c.choices[0] for c in client.completions.create(**options, stop=[stop], stream=True)]
    assert "".join(part.text for part in parts) == whole[: whole.index(stop)]
    assert parts[-1].finish_reason == "stop"


def test_several_choices_stream_side_by_side(client: OpenAI) -> None:
    options: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 6, "seed": 1, "n": 3}
    whole = {choice.index: choice.text for choice in client.completions.create(**options).choices}
    texts = dict.fromkeys(range(3), "")
    for chunk in client.completions.create(**options, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == whole


def now(url: str) -> dict[str, int]:
    """What the tiny model's batch is doing."""
    found: dict[str, int] = httpx2.get(url.removesuffix("/v1") + "/stats", headers=HEADERS).json()["now"]["tiny"]
    return found


def wait_until(url: str, *, busy: bool) -> None:
    """Until the batch is busy, or has nothing to do and nothing waits; a failure after ten seconds."""
    end = time.monotonic() + 10
    while any(now(url).values()) != busy:
        assert time.monotonic() < end, now(url)
        time.sleep(0.02)


def much(stream: bool) -> dict[str, Any]:
    """A request that fills the queue and would write for minutes."""
    return {
        "model": "tiny", "prompt": ["the"] * (FULL // 128), "n": 128, "max_tokens": 200, "ignore_eos": True,
        "stream": stream,
    }  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_rows(tiny_server: str, client: OpenAI, stream: bool) -> None:
    """And until then a queue that is full says so, with the time to wait."""
    address = httpx2.URL(tiny_server)
    request = httpx2.Request("POST", f"{tiny_server}/completions", json=much(stream), headers=HEADERS)
    lines = [b"POST /v1/completions HTTP/1.1", *(b"%s: %s" % header for header in request.headers.raw)]
    with socket.create_connection((address.host, address.port)) as caller:
        caller.sendall(b"\r\n".join([*lines, b"", request.content]))
        wait_until(tiny_server, busy=True)
        with pytest.raises(APIStatusError) as full:
            client.completions.create(model="tiny", prompt="the", max_tokens=1)
        assert full.value.status_code == 503
        assert full.value.response.headers["retry-after"] == "1"
        assert "queue is full" in str(full.value)
    wait_until(tiny_server, busy=False)
    assert client.completions.create(model="tiny", prompt="the", max_tokens=1).choices
