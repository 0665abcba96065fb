"""Buying from an endpoint that fails in every way it can, over real sockets."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import resource
import sqlite3
import zlib
from pathlib import Path

import httpx2
import pytest

from blackbox_diff.buying import retry
from blackbox_diff.buying.buyer import Bought, Buyer
from blackbox_diff.buying.failures import TransportFailure
from blackbox_diff.buying.http import Endpoint
from blackbox_diff.buying.ledger import Ledger
from blackbox_diff.buying.limits import Limiter
from blackbox_diff.buying.prices import Prices
from blackbox_diff.config.model import Budget, EndpointConfig
from blackbox_diff.errors import CircuitOpenError, EndpointUsageError
from blackbox_diff.records import Call, Lost
from blackbox_diff.runfile.store import Store
from tests.fault_server import FREE, HUGE, OUTPUT_TOKENS, UNREADABLE, FaultServer, serving

KEY = "sk-verysecret-0123456789"
PRICES = Prices(1.0, 2.0)


async def no_sleep(seconds: float) -> None:
    await asyncio.sleep(0)


async def purchase(
    server: FaultServer, run: Path, n: int, *, budget: Budget | None = None, timeout: float = 1.0
) -> list[object]:
    config = EndpointConfig(url=server.url, model="m", key_env="AUDIT_KEY", timeout_seconds=timeout)
    with Store.create(run, {"config": {}}) as store:
        async with Endpoint(config) as endpoint:
            ledger = Ledger(budget or Budget(max_cost=1.0), PRICES)
            limiter = Limiter(16, sleep=no_sleep, adaptive=False)
            limiter._throttled = lambda now, after: None  # type: ignore[method-assign]
            buyer = Buyer(endpoint, store, ledger, limiter, "target", sleep=no_sleep)

            async def one(index: int) -> object:
                call = Call("/completions", {"prompt": f"opening {index}", "max_tokens": OUTPUT_TOKENS})
                return await buyer.buy(call, f"prose.raw.{index:05d}")

            return await asyncio.gather(*(one(index) for index in range(n)), return_exceptions=True)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_KEY", KEY)


@pytest.fixture
def faulty() -> FaultServer:
    return FaultServer(0.3, seed=random.Random(7).randrange(1 << 30))


async def test_two_hundred_completions_at_thirty_percent_faults(faulty: FaultServer, tmp_path: Path) -> None:
    with serving(faulty):
        bought = await purchase(faulty, tmp_path, 200)
    lost = [outcome for outcome in bought if isinstance(outcome, Lost)]
    assert len(lost) + sum(isinstance(outcome, Bought) for outcome in bought) == 200
    assert len(faulty.served) > 12, "the plan must have drawn nearly every fault"
    with Store.open(tmp_path, read_only=True) as store:
        calls = list(store.calls())
        spent = store.spent("target")
    # What can't be read is given up at once: asking again would buy it again.
    unreadable = {call.sample_id: call.attempt for call in calls if call.error in UNREADABLE}
    assert len(unreadable) == len(lost) > 5
    assert unreadable == {call.sample_id: call.attempt for call in calls if call.sample_id in unreadable}
    assert sum(call.accepted for call in calls) == 200 - len(lost)
    assert len({call.sample_id for call in calls if call.accepted}) == 200 - len(lost)
    # Every request that the server read is a row, and no row is left open.
    assert spent.calls == len(calls) >= faulty.requests
    assert {call.state for call in calls} <= {"settled", "unknown"}
    # Never below the server's own books; above them by no more than the calls of unknown fate.
    assert spent.output_tokens >= faulty.billed * OUTPUT_TOKENS
    unknown = sum(call.settled[1] for call in calls if call.state == "unknown")
    assert spent.output_tokens - unknown <= faulty.billed * OUTPUT_TOKENS


@pytest.mark.parametrize("kind", sorted(FREE))
async def test_being_turned_away_costs_nothing(kind: str, tmp_path: Path) -> None:
    with serving(FaultServer(0.5, (kind,))) as server:
        await purchase(server, tmp_path, 20, timeout=60)  # nothing hangs here, but the machine may be busy
    with Store.open(tmp_path, read_only=True) as store:
        spent = store.spent()
    assert server.requests > 20
    assert spent.output_tokens == 20 * OUTPUT_TOKENS


async def test_a_cap_in_calls_is_met_exactly_among_faults(faulty: FaultServer, tmp_path: Path) -> None:
    with serving(faulty):
        await purchase(faulty, tmp_path, 60, budget=Budget(max_calls=50))
    with Store.open(tmp_path, read_only=True) as store:
        assert store.spent("target").calls == 50
    assert faulty.requests <= 50


async def test_the_key_is_nowhere_after_every_kind_of_fault(
    faulty: FaultServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(faulty):
        outcomes = await purchase(faulty, tmp_path, 60)
    assert KEY not in caplog.text
    assert all(KEY not in repr(outcome) for outcome in outcomes)
    for name in os.listdir(tmp_path):
        assert KEY.encode() not in (tmp_path / name).read_bytes()
    rows = sqlite3.connect(tmp_path / "run.sqlite")
    replies = [zlib.decompress(row[0]) for row in rows.execute("SELECT reply FROM calls WHERE reply IS NOT NULL")]
    rows.close()
    assert any(b"[key]" in reply for reply in replies), "the server did repeat the key"
    assert all(KEY.encode() not in reply for reply in replies)


@pytest.mark.parametrize(("key", "kept"), [("x", True), ("none", True), ("sk-12345", False), (KEY, False)])
async def test_a_repeated_key_is_hidden_and_a_placeholder_leaves_the_text_alone(
    key: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_KEY", key)
    said = f"a text that says {key} and none of the rest, x times"
    transport = httpx2.MockTransport(
        lambda request: httpx2.Response(200, text=said, headers={"x-request-id": key})
    )
    config = EndpointConfig(url="http://127.0.0.1:1/v1", model="m", key_env="AUDIT_KEY")
    async with Endpoint(config, transport=transport) as endpoint:
        reply = await endpoint.post(Call("/completions", {}))
    assert (reply.body.decode() == said) == kept
    assert (key in reply.body.decode(), reply.headers["x-request-id"] == key) == (kept, kept)


@pytest.mark.parametrize("kind", HUGE)
async def test_a_reply_without_end_is_cut_off_in_bounded_memory(kind: str) -> None:
    with serving(FaultServer(1.0, (kind,))) as server:
        config = EndpointConfig(url=server.url, model="m", timeout_seconds=60)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with Endpoint(config) as endpoint:
            with pytest.raises(TransportFailure) as failed:
                await endpoint.post(Call("/completions", {"prompt": "x"}))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (failed.value.kind, failed.value.reason) == ("unknown", "reply_too_long")
    assert grown < 128 * 1024  # KB; the server is in this process, with a copy of what it sends


async def test_a_redirect_is_not_followed_and_the_key_goes_nowhere_else(tmp_path: Path) -> None:
    with serving(FaultServer(0.0)) as other, serving(FaultServer(1.0, ("redirect",))) as server:
        server.elsewhere = other.url
        (outcome,) = await purchase(server, tmp_path, 1, timeout=60)
    assert isinstance(outcome, CircuitOpenError)
    assert "redirects" in str(outcome)
    assert (server.requests, other.requests) == (1, 0)


async def test_an_absolute_url_on_another_host_is_refused_before_anything_is_sent() -> None:
    with serving(FaultServer(0.0)) as other, serving(FaultServer(0.0)) as server:
        async with Endpoint(EndpointConfig(url=server.url, model="m", key_env="AUDIT_KEY")) as endpoint:
            with pytest.raises(EndpointUsageError, match="alone gets the key"):
                await endpoint.post(Call("/completions", {}, other.url + "/completions"))
            with pytest.raises(EndpointUsageError, match="alone gets the key"):
                await endpoint.get(other.url + "/models")
    assert other.requests == 0


async def test_a_sample_that_failed_is_bought_on_resume_and_not_twice(tmp_path: Path) -> None:
    """Ten throttled attempts give a sample up; the next session tries it again, the one after does not."""
    with serving(FaultServer(1.0, ("500",))) as server:
        assert [type(outcome) for outcome in await purchase(server, tmp_path / "first", 1, timeout=60)] == [Lost]
        call = Call("/completions", {"prompt": "opening 0", "max_tokens": OUTPUT_TOKENS})
        config = EndpointConfig(url=server.url, model="m", key_env="AUDIT_KEY")
        server.share = 0.0
        for _ in range(2):
            with Store.open(tmp_path / "first") as store:
                async with Endpoint(config) as endpoint:
                    ledger = Ledger(Budget(max_cost=1.0), PRICES, store.spent("target"))
                    buyer = Buyer(endpoint, store, ledger, Limiter(4), "target", sleep=no_sleep)
                    assert isinstance(await buyer.buy(call, "prose.raw.00000"), Bought)
    assert server.requests == 11


@pytest.mark.parametrize(("fault", "asked"), [("500", 3), ("503", retry.MAX_ATTEMPTS)])
async def test_a_probe_takes_an_error_of_the_servers_own_for_an_answer(
    fault: str, asked: int, tmp_path: Path
) -> None:
    """LiteLLM's proxy answers 500 to a prompt of ids: ten attempts at each such question took minutes."""
    with serving(FaultServer(1.0, (fault,))) as server, Store.create(tmp_path / "run", {"config": {}}) as store:
        config = EndpointConfig(url=server.url, model="m", key_env="AUDIT_KEY")
        async with Endpoint(config) as endpoint:
            ledger = Ledger(Budget(max_cost=1.0), PRICES)
            limiter = Limiter(4, sleep=no_sleep, adaptive=False)
            limiter._throttled = lambda now, after: None  # type: ignore[method-assign]
            buyer = Buyer(endpoint, store, ledger, limiter, "target", sleep=no_sleep)
            reply = await buyer.post(Call("/completions", {"prompt": [1, 2], "max_tokens": OUTPUT_TOKENS}))
        assert (reply.status, server.requests) == (int(fault), asked)
