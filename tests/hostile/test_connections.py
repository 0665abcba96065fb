"""A reply that belongs to another request is never read as this one's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blackbox_diff.buying.buyer import Bought
from blackbox_diff.runfile.store import Store
from tests.fault_server import http, serving
from tests.hostile.scripted import Scripted, good, plainly, purchases


def chunked(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n"


def twice(number: int, request: dict[str, Any]) -> bytes:
    return plainly(good(number, request)) * 2


def twice_chunked(number: int, request: dict[str, Any]) -> bytes:
    return chunked(good(number, request)) * 2


def and_the_beginning_of_another(number: int, request: dict[str, Any]) -> bytes:
    whole = plainly(good(number, request))
    return whole + whole[:40]


def sometimes_twice(number: int, request: dict[str, Any]) -> bytes:
    return plainly(good(number, request)) * (2 if number % 5 == 0 else 1)


def with_a_late_note(number: int, request: dict[str, Any]) -> bytes:
    return plainly(good(number, request)) + http(408, b"") * (number % 3 == 0)


def texts(outcomes: list[Any]) -> list[str]:
    assert all(isinstance(outcome, Bought) for outcome in outcomes), outcomes
    return [json.loads(outcome.reply.body)["choices"][0]["text"] for outcome in outcomes]


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize(
    "answer", [twice, twice_chunked, and_the_beginning_of_another, sometimes_twice, with_a_late_note]
)
async def test_every_completion_is_its_own(answer: Any, at_once: int, tmp_path: Path) -> None:
    server = Scripted(answer)
    with serving(server), Store.create(tmp_path, {"config": {}}) as store:
        outcomes = await purchases(server, store, 28, at_once=at_once)
    assert texts(outcomes) == [f" you said opening {index}" for index in range(28)]


async def test_a_connection_that_brings_one_reply_a_request_is_used_again(tmp_path: Path) -> None:
    """Also fails where the libraries no longer let left-over bytes be seen: then none would be."""
    for answer in (lambda n, request: plainly(good(n, request)), lambda n, request: chunked(good(n, request))):
        server = Scripted(answer)
        with serving(server), Store.create(tmp_path / str(id(server)), {"config": {}}) as store:
            await purchases(server, store, 12)
        assert (server.requests, server.connections) == (12, 1)


async def test_an_endpoint_that_once_mixed_replies_gets_a_connection_a_call(tmp_path: Path) -> None:
    server = Scripted(lambda number, request: plainly(good(number, request)) * (2 if number == 3 else 1))
    with serving(server), Store.create(tmp_path, {"config": {}}) as store:
        outcomes = await purchases(server, store, 10)
        calls = [call.error for call in store.calls()]
    assert texts(outcomes) == [f" you said opening {index}" for index in range(10)]
    assert calls.count("replies_mixed_up") == 1
    assert (server.requests, server.connections) == (11, 9)
