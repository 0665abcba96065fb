"""The toy model of fake_endpoint behind a real socket, for commands that open their own connections."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2

from tests.fake_endpoint import FakeEndpoint


class Traffic:
    """How many requests a server had at once, at the most."""

    def __init__(self) -> None:
        self.most = self._now = 0
        self._turn = threading.Lock()

    @contextmanager
    def request(self) -> Iterator[None]:
        with self._turn:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            yield
        finally:
            with self._turn:
                self._now -= 1


@contextmanager
def listening(answer: Callable[[httpx2.Request], httpx2.Response]) -> Iterator[str]:
    """Base URL of a server whose replies are what `answer` says, in threads, many at once."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self) -> None:
            length = int(self.headers.get("content-length", 0))
            said = answer(httpx2.Request(self.command, f"http://toy{self.path}", content=self.rfile.read(length)))
            self.send_response(said.status_code)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said.content)

        do_GET = do_POST = reply  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # as many connections as come at once
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving(
    toy: FakeEndpoint, latency: tuple[float, float] = (0.0, 0.0), traffic: Traffic | None = None
) -> Iterator[str]:
    """Base URL of a server that answers as `toy` does, one request at a time.

    latency: seconds that a reply takes beside that, at least and at most, many at once. traffic: is told of each.
    """
    seen = traffic or Traffic()
    turn = threading.Lock()
    wait = random.Random(0)

    def answer(request: httpx2.Request) -> httpx2.Response:
        with seen.request():
            if latency[1]:
                time.sleep(wait.uniform(*latency))
            with turn:
                return toy.answer(request)

    with listening(answer) as url:
        yield url
