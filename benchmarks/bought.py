"""A server in front of another: it answers what runs have bought before, and passes on the rest.

The bundled server's replies follow from the request (they are seeded, and the same bits in any batch), so the same
request gets the reply that it would get again, without the work.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2

from blackbox_diff.records import Call
from blackbox_diff.runfile.store import Store

ROOT = "/v1"
Known = Mapping[str, tuple[Path, int]]


def known(runs: Iterable[Path]) -> Known:
    """A request's digest -> the run that bought its reply, and the call's id there."""
    found: dict[str, tuple[Path, int]] = {}
    for run in runs:
        with Store.open(run, read_only=True) as store:
            found |= {each.digest: (run, each.id) for each in store.calls() if each.accepted and each.reply}
    return found


@contextmanager
def serving(url: str, replies: Known) -> Iterator[str]:
    """Base URL of a server that stands before the one at `url`."""
    beyond = httpx2.Client(timeout=None)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, said = self.bought(body) or self.passed_on(body)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def bought(self, body: bytes) -> tuple[int, bytes] | None:
            if self.command != "POST":
                return None
            asked = Call(self.path.removeprefix(ROOT), json.loads(body))
            run, number = replies.get(asked.digest(), (None, 0))
            if run is None:
                return None
            with Store.open(run, read_only=True) as store:
                call = store.call(number)
            return (call.reply.status, call.reply.body) if call is not None and call.reply is not None else None

        def passed_on(self, body: bytes) -> tuple[int, bytes]:
            reply = beyond.request(
                self.command,
                url.removesuffix(ROOT) + self.path,
                content=body,
                headers={"content-type": "application/json"},
            )
            return reply.status_code, reply.content

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # as many connections as come at once
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}{ROOT}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        beyond.close()
