"""A server in front of another: it answers what runs have bought before, and passes on the rest.

The bundled server's replies follow from the request (they are seeded, and the same bits in any batch), so the same
request gets the reply that it would get again, without the work.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2

from blackbox_diff.records import Call
from blackbox_diff.runfile.store import Store
from tests.toy_server import listening

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
    with httpx2.Client(timeout=None) as beyond:

        def answer(request: httpx2.Request) -> httpx2.Response:
            there = bought(request, replies) or passed_on(request, url, beyond)
            return httpx2.Response(
                there.status_code, content=there.content, headers={"content-type": "application/json"}
            )

        with listening(answer) as own:
            yield own


def bought(request: httpx2.Request, replies: Known) -> httpx2.Response | None:
    """The stored reply to a request; None where there is none."""
    if request.method != "POST":
        return None
    asked = Call(request.url.path.removeprefix(ROOT), json.loads(request.content))
    run, number = replies.get(asked.digest(), (None, 0))
    if run is None:
        return None
    with Store.open(run, read_only=True) as store:
        call = store.call(number)
    reply = call.reply if call is not None else None
    return httpx2.Response(reply.status, content=reply.body) if reply is not None else None


def passed_on(request: httpx2.Request, url: str, beyond: httpx2.Client) -> httpx2.Response:
    return beyond.request(
        request.method,
        url.removesuffix(ROOT) + request.url.path,
        content=request.content,
        headers={"content-type": "application/json"},
    )
