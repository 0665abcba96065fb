"""Throttling and quotas: shown with their end, never waited out in silence, never taken for an inability."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from blackbox_diff.buying.http import Endpoint
from blackbox_diff.buying.limits import Limiter
from blackbox_diff.buying.retry import Decision
from blackbox_diff.config.model import EndpointConfig
from blackbox_diff.errors import CircuitOpenError
from blackbox_diff.probing import cache, negotiate
from blackbox_diff.probing.probe import UNANSWERED, probe
from blackbox_diff.runfile.store import Store
from tests.fake_endpoint import FakeEndpoint
from tests.fault_server import http, serving
from tests.hostile.scripted import Scripted, good, plainly, purchases

QUOTA = json.dumps({"error": {"message": "requests per day"}}).encode()


async def test_a_daily_quota_stops_the_run_and_a_resume_goes_on(tmp_path: Path) -> None:
    def answer(number: int, request: dict[str, Any]) -> bytes:
        if number == 3:
            return http(429, QUOTA, b"Retry-After: 20000\r\n")
        return plainly(good(number, request))

    server = Scripted(answer)
    with serving(server):
        with Store.create(tmp_path, {"config": {}}) as store:
            outcomes = await purchases(server, store, 6)
        stopped = [outcome for outcome in outcomes if isinstance(outcome, CircuitOpenError)]
        assert len(stopped) == 4
        assert "requests per day: it asks to wait 5.6 h, until 2" in str(stopped[0])
        assert server.requests == 3
        with Store.open(tmp_path) as store:  # the next day
            await purchases(server, store, 6)
            assert sum(call.accepted for call in store.calls()) == 6


def test_a_wait_is_shown_with_its_end() -> None:
    now = [0.0]
    limiter = Limiter(8, clock=lambda: now[0])
    limiter.limit = 8
    assert limiter.slowed() == ""
    limiter.observe(Decision("retry", "throttled", "free", after=40.0, throttled=True), {})
    now[0] = 10.0
    assert limiter.slowed() == "the endpoint asks to wait: 30 s more"
    now[0] = 50.0
    assert limiter.slowed() == ""


class Busy(FakeEndpoint):
    """Answers chats with 429: a limit per minute that the probe's own questions used up."""

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/chat/completions"):
            return httpx2.Response(429, json={"error": {"message": "per-minute limit"}})
        return super().answer(request)


async def test_what_a_busy_endpoint_did_not_answer_is_unknown_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(negotiate, "PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("BLACKBOX_DIFF_CACHE", str(tmp_path))
    config = EndpointConfig(url="http://toy.example/v1", model="m")
    async with Endpoint(config, transport=Busy().transport()) as endpoint:
        profile = await probe(endpoint, config, purpose="target")
    outcomes = {check.name: check.outcome for check in profile.checks}
    assert outcomes["chat"] == "unknown"
    assert UNANSWERED in outcomes
    cache.keep(config, profile)
    assert cache.recall(config, "target") is None
