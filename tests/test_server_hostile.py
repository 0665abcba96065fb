"""What strangers, web pages and broken clients send: counted first, refused by name, and nobody else waits."""

from __future__ import annotations

import random
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from pydantic import BaseModel

from local_server.__main__ import listen
from local_server.engine.jobs import Generate, Score
from local_server.engine.scheduler import MAX_FAILURES, Scheduler
from local_server.http import prompts, protocol
from local_server.http.access import host_name, own_names
from local_server.model.load import load
from tests.server_fixtures import KEY

HEADERS = {"Authorization": f"Bearer {KEY}"}
TEXT: dict[str, Any] = {"model": "tiny", "prompt": "the", "max_tokens": 1}
CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "the"}], "max_tokens": 1}

TOO_MUCH: list[tuple[str, dict[str, Any], str]] = [
    ("completions", {"prompt": ["a"] * 20_000, "n": 128}, "prompt: 2560000 texts"),
    ("completions", {"prompt": ["a"] * 2_000, "n": 2}, "prompt: 4000 texts"),
    ("completions", {"prompt": [[1]] * 3_000}, "prompt: 3000 texts"),
    ("completions", {"prompt": "word " * 1_000_000}, "prompt: 5000000 characters"),
    ("completions", {"prompt": [1] * 2_000_000}, "prompt: 2000000 ids"),
    ("completions", {"stop": ["x"] * 100_000}, "stop: 100000 strings"),
    ("completions", {"stop": "x" * 2_000}, "stop: at most 1000 characters"),
    ("chat/completions", {"messages": CHAT["messages"] * 3_000}, "messages: 3000 texts"),
    ("chat/completions", {"messages": [{"role": "user", "content": "a " * 2_000_000}]}, "messages: 4000000 char"),
]


@pytest.mark.parametrize(("path", "change", "words"), TOO_MUCH)
def test_too_much_is_counted_and_refused_before_it_is_read(
    tiny_server: str, path: str, change: dict[str, Any], words: str
) -> None:
    good = CHAT if path.startswith("chat") else TEXT
    reply = httpx2.post(f"{tiny_server}/{path}", json=good | change, headers=HEADERS, timeout=30)
    assert reply.status_code in (400, 413)
    assert words in reply.json()["error"]["message"]


def test_health_is_answered_while_a_long_text_is_tokenised(tiny_server: str) -> None:
    long = TEXT | {"prompt": "and the inner " * 20_000}  # too long for the context, which only its tokens show
    replies: list[int] = []
    caller = threading.Thread(
        target=lambda: replies.append(
            httpx2.post(f"{tiny_server}/completions", json=long, headers=HEADERS, timeout=120).status_code
        )
    )
    caller.start()
    slowest = 0.0
    with httpx2.Client(timeout=60) as client:
        while caller.is_alive():
            start = time.perf_counter()
            assert client.get(tiny_server.removesuffix("/v1") + "/health").status_code == 200
            slowest = max(slowest, time.perf_counter() - start)
    assert replies == [400]
    assert slowest < 2


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "", "text/plain; application/json"]
)
def test_only_json_is_read(tiny_server: str, kind: str) -> None:
    """What a page of another site may post without asking first."""
    headers = HEADERS | {"Content-Type": kind}
    reply = httpx2.post(
        f"{tiny_server}/completions", content=b'{"model": "tiny", "prompt": "the"}', headers=headers
    )
    assert reply.status_code == 415
    assert "access-control-allow-origin" not in reply.headers


def test_a_preflight_is_not_allowed(tiny_server: str) -> None:
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    reply = httpx2.options(f"{tiny_server}/completions", headers=HEADERS | asks)
    assert reply.status_code == 405
    assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.nip.io", ""]
)
def test_a_name_that_is_not_the_servers_gets_nothing(tiny_server: str, host: str) -> None:
    for path in ("/v1/models", "/health"):
        reply = httpx2.get(tiny_server.removesuffix("/v1") + path, headers=HEADERS | {"Host": host})
        assert reply.status_code in (400, 403)
        assert "tiny" not in reply.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "[::1]:80"])
def test_its_own_names_are_answered(tiny_server: str, host: str) -> None:
    assert httpx2.get(f"{tiny_server}/models", headers=HEADERS | {"Host": host}).status_code == 200


def test_more_names_are_allowed_by_option() -> None:
    assert "gpu-box.lan" in own_names("0.0.0.0", ["GPU-box.lan"])
    assert "gpu-box.lan" not in own_names("0.0.0.0")
    assert host_name("[FE80::1]:8000") == "fe80::1"


@pytest.mark.parametrize("value", [KEY, f"Basic {KEY}", f"Bearer{KEY}", f"Token {KEY}"])
def test_the_key_counts_only_as_a_bearer_token(tiny_server: str, value: str) -> None:
    assert httpx2.get(f"{tiny_server}/models", headers={"Authorization": value}).status_code == 401


@pytest.mark.parametrize(
    "options",
    [
        {"chat_template": "{% for i in range(10 ** 10) %}{% endfor %}"},
        {"tokenize": True},
        {"tools": "x"},
        {"messages": "x"},
        {"documents": "x"},
        {"eos_token": "x"},
        {"padding": True},
    ],
)
def test_a_request_brings_no_template_of_its_own(tiny_server: str, options: dict[str, Any]) -> None:
    for path in ("v1/chat/completions", "tokenize"):
        body = {**CHAT, "chat_template_kwargs": options}
        if path == "tokenize":
            del body["max_tokens"]
        url = f"{tiny_server.removesuffix('/v1')}/{path}"
        error = httpx2.post(url, json=body, headers=HEADERS).json()["error"]
        assert error["param"] == f"chat_template_kwargs.{next(iter(options))}"
    top = httpx2.post(f"{tiny_server}/chat/completions", json=CHAT | {"chat_template": "x"}, headers=HEADERS)
    assert top.json()["error"]["param"] == "chat_template"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "refuses"),
        ("{% for a in range(99999) %}{{ messages[0]['content'] }}{% endfor %}", "characters"),
        ("", "makes no text"),
    ],
)
def test_rendering_is_bounded(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, template: str, words: str
) -> None:
    monkeypatch.setattr(prompts, "RENDER_SECONDS", 0.3)
    loaded = load(str(tiny_model), "float32")
    loaded.tokenizer.chat_template = template or "{% if false %}x{% endif %}"
    messages = [prompts.Message(role="user", content="the")]
    start = time.perf_counter()
    with pytest.raises(prompts.RequestError, match=words):
        prompts.render(loaded, messages, generation=True, continue_final=False, options={})
    assert time.perf_counter() - start < 20


def test_a_connection_that_sends_nothing_ends(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer of the real protocol, on a real socket, with a shorter time."""
    import uvicorn

    from local_server.http import connections

    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.2)

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = uvicorn.Config(answer, http=connections.TimedProtocol, lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            for sent in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
                with socket.create_connection(listener.getsockname(), timeout=20) as client:
                    client.sendall(sent)
                    received = b""
                    if sent.endswith(b"\r\n\r\n"):
                        received = client.recv(1 << 16)
                        client.sendall(b"GET / HT")  # and the next one never ends
                    while more := client.recv(1 << 16):
                        received += more
                    assert (b"200 OK" in received) == sent.endswith(b"\r\n\r\n")
        finally:
            server.should_exit = True
            thread.join(30)


def test_small_replies_are_not_held_back() -> None:
    """asyncio sets TCP_NODELAY only for sockets that say they are TCP's."""
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_a_failing_pass_answers_the_job_that_caused_it_and_the_others_go_on(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from local_server.engine import scheduler as module

    poison = 77
    real = module.run

    def run(loaded: Any, layout: Any) -> torch.Tensor:
        if poison in layout.ids.tolist():
            raise RuntimeError("a fault")
        return real(loaded, layout)

    loaded = load(str(tiny_model), "float32")

    def finished(broken: bool) -> list[Generate | Score]:
        scheduler = Scheduler(loaded, 8)
        monkeypatch.setattr(module, "run", run if broken else real)
        work: list[Generate | Score] = []
        for seed in range(6):
            ids = [seed + 1, 40, 50]
            drawn = random.Random(seed)
            work += [Generate(ids, None, 0, max_tokens=9, ignore_eos=True, random=drawn), Score(ids, None, 0)]
            for job in work[-2:]:
                scheduler.add(job)
            if seed == 3:
                bad = [Score([1, poison], None, 0), Generate([poison, 2], None, 0)]
                work += bad
                for job in bad:
                    scheduler.add(job)
            turn(scheduler)
        for _ in range(1_000):
            if not scheduler.busy:
                break
            turn(scheduler)
        assert not scheduler.busy
        return work

    def turn(scheduler: Scheduler) -> None:
        try:
            scheduler.work()
        except RuntimeError as error:
            scheduler.isolate(error)

    for job, good in zip(finished(True), finished(False), strict=True):
        drawn = [token.id for token in job.tokens] if isinstance(job, Generate) else []
        if poison in job.prompt or poison in drawn:
            assert str(job.future.exception()) == "a fault"
            continue
        assert job.future.exception() is None
        if isinstance(job, Generate) and isinstance(good, Generate):
            assert drawn == [token.id for token in good.tokens]
        else:
            ours, theirs = job.future.result(), good.future.result()
            assert [token.logprob for token in ours[1:]] == pytest.approx(
                [t.logprob for t in theirs[1:]], abs=1e-3
            )


def test_jobs_that_fail_only_together_end_as_well(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from local_server.engine import scheduler as module

    real = module.run

    def run(loaded: Any, layout: Any) -> torch.Tensor:
        if layout.n > 1:
            raise RuntimeError("too many rows")
        return real(loaded, layout)

    monkeypatch.setattr(module, "run", run)
    scheduler = Scheduler(load(str(tiny_model), "float32"), 8)
    work = [Generate([seed, 3], None, 0, max_tokens=5, ignore_eos=True) for seed in range(4)]
    for job in work:
        scheduler.add(job)
    for _ in range(200):
        if scheduler.busy:
            try:
                scheduler.work()
            except RuntimeError as error:
                scheduler.isolate(error)
    assert all(job.future.done() for job in work)
    assert max(job.failures for job in work) == MAX_FAILURES


WRONG: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (protocol.CompletionRequest, TEXT | {"prompt": [True] * 500_000}),
    (protocol.CompletionRequest, TEXT | {"prompt": [[1.5] * 500_000]}),
    (protocol.CompletionRequest, TEXT | {f"field{number}": 1 for number in range(100_000)}),
    (protocol.CompletionRequest, TEXT | {"logit_bias": {str(number): "x" for number in range(100_000)}}),
    (protocol.CompletionRequest, TEXT | {"x" * 1_000_000: 1}),
    (protocol.ChatRequest, CHAT | {"messages": [{f"field{number}": 1 for number in range(100_000)}]}),
    (protocol.ChatRequest, CHAT | {"chat_template_kwargs": {f"k{number}": [] for number in range(100_000)}}),
    (protocol.DetokenizeRequest, {"model": "tiny", "tokens": [True] * 500_000}),
]


@pytest.mark.parametrize(("kind", "body"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_what_is_wrong_many_times_is_told_once_and_soon(kind: type[BaseModel], body: dict[str, Any]) -> None:
    """On the loop: a message for each of a million wrong ids took it 40 s, and nobody else was answered."""
    started = time.process_time()
    with pytest.raises(prompts.RequestError) as told:
        protocol.read(kind, body)
    assert time.process_time() - started < 2
    assert len(str(told.value)) < 300


def test_a_long_name_is_not_repeated_in_full(tiny_server: str) -> None:
    long = TEXT | {"model": "m" * 1_000_000}
    reply = httpx2.post(f"{tiny_server}/completions", json=long, headers=HEADERS, timeout=60)
    assert reply.status_code == 404
    assert len(reply.content) < 1_000


@pytest.mark.parametrize("host", ["localhost:evil", "[localhost", "localhost]", "[::1]x", "a:b:c"])
def test_a_host_that_is_none_has_no_name(host: str) -> None:
    assert host_name(host) == ""
