"""Buying from an endpoint that fails in every way it can, over real sockets."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sqlite3
import zlib
from pathlib import Path

import httpx2
import pytest

from blackbox_diff.budget import Ledger, Prices
from blackbox_diff.client import Bought, Buyer
from blackbox_diff.config import Budget, EndpointConfig
from blackbox_diff.endpoint import Endpoint
from blackbox_diff.limits import Limiter
from blackbox_diff.records import Call
from blackbox_diff.store import Store
from tests.fault_server import FREE, OUTPUT_TOKENS, FaultServer, serving

KEY = "sk-verysecret-0123456789"
PRICES = Prices(1.0, 2.0)


async def no_sleep(seconds: float) -> None:
    await asyncio.sleep(0)


async def purchase(server: FaultServer, run: Path, n: int, *, budget: Budget | None = None) -> list[object]:
    config = EndpointConfig(url=server.url, model="m", key_env="AUDIT_KEY", timeout_seconds=0.2)
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
    assert [b for b in bought if not isinstance(b, Bought)] == []
    assert len(faulty.served) > 12, "the plan must have drawn nearly every fault"
    with Store.open(tmp_path, read_only=True) as store:
        calls = list(store.calls())
        spent = store.spent("target")
    assert sum(call.accepted for call in calls) == 200
    assert len({call.sample_id for call in calls if call.accepted}) == 200
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
        await purchase(server, tmp_path, 20)
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
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, text=said, headers={"x-key": key}))
    config = EndpointConfig(url="http://127.0.0.1:1/v1", model="m", key_env="AUDIT_KEY")
    async with Endpoint(config, transport=transport) as endpoint:
        reply = await endpoint.post(Call("/completions", {}))
    assert (reply.body.decode() == said) == kept
    assert (key in reply.body.decode(), reply.headers["x-key"] == key) == (kept, kept)
