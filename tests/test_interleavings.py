"""Buyer, ledger and run file together: any order of sends, answers, failures, interruptions and power cuts.

The endpoint is a list of requests that wait for their fate; a power cut is a copy of the files as they are at
that moment, opened by a new buyer while the old one is thrown away.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blackbox_diff.buying.buyer import Bought, Buyer
from blackbox_diff.buying.failures import TransportFailure
from blackbox_diff.buying.http import Endpoint
from blackbox_diff.buying.ledger import Ledger, cap_pico
from blackbox_diff.buying.limits import Limiter
from blackbox_diff.buying.prices import Prices
from blackbox_diff.config.model import Budget, EndpointConfig
from blackbox_diff.errors import BudgetError, CircuitOpenError
from blackbox_diff.records import Call, Lost, RawReply
from blackbox_diff.runfile.store import Store

PRICES = Prices(0.2, 0.8)
MOST_OUT = 4
SAMPLES = 6
FATES = ("good", "good", "good", "429", "500", "400", "broken", "unsent", "lost", "not json")


def reply(status: int, body: object) -> RawReply:
    return RawReply(status, {}, json.dumps(body).encode(), 0.1)


def outcome(fate: str, output: int) -> RawReply | TransportFailure:
    usage = {"prompt_tokens": 1, "completion_tokens": output}
    if fate == "good":
        return reply(200, {"choices": [{"text": "x"}], "usage": usage})
    if fate in ("unsent", "lost"):
        return TransportFailure("unsent" if fate == "unsent" else "unknown", fate, fate)
    if fate == "not json":
        return RawReply(200, {}, b"{", 0.1)
    if fate == "broken":
        return reply(200, {})
    return reply(int(fate), {"error": {"message": fate}})


class Wire:
    """Stands where Endpoint does. `billed` is the endpoint's own book."""

    config = EndpointConfig(url="http://127.0.0.1:1/v1", model="m")

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[RawReply | TransportFailure]] = []
        self.billed = 0

    async def post(self, call: Call, held: AsyncExitStack | None = None) -> RawReply:
        future: asyncio.Future[RawReply | TransportFailure] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        found = await future
        if isinstance(found, TransportFailure):
            raise found
        return found

    def answer(self, place: int, fate: str, output: int) -> None:
        self.waiting = [future for future in self.waiting if not future.done()]
        if self.waiting:
            if fate in ("good", "500", "lost", "broken", "not json"):
                self.billed += output
            self.waiting.pop(place % len(self.waiting)).set_result(outcome(fate, output))


class Session:
    """One process's share of a run, from opening the run file to its end."""

    def __init__(self, run: Path, budget: Budget, wire: Wire) -> None:
        self.store = Store.open(run)
        self.wire = wire
        self.ledger = Ledger(budget, PRICES, self.store.spent("target"))
        limiter = Limiter(4, adaptive=False, sleep=self.no_sleep)
        self.buyer = Buyer(cast(Endpoint, wire), self.store, self.ledger, limiter, "target", sleep=self.no_sleep)
        self.tasks: dict[int, asyncio.Task[Bought | Lost]] = {}
        self.over = False  # a cap or the circuit breaker has ended it

    async def no_sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)

    def buy(self, number: int) -> None:
        if number not in self.tasks or self.tasks[number].done():
            call = Call("/completions", {"prompt": f"opening {number}", "max_tokens": MOST_OUT})
            self.tasks[number] = asyncio.create_task(self.buyer.buy(call, f"prose.raw.{number:05d}"))

    async def quiet(self) -> None:
        """Until every task waits for the wire, for room under a cap, or has ended."""
        for _ in range(4):
            await self.store._writing().write(lambda: [])
            for _ in range(6):
                await asyncio.sleep(0)
        for task in self.tasks.values():
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                assert isinstance(error, (BudgetError, CircuitOpenError)), error
                self.over = True

    def check(self, budget: Budget) -> None:
        ledger, disk = self.ledger, self.store.spent("target")
        calls = ledger.settled_calls + ledger.reserved_calls
        output = ledger.settled.output_tokens + ledger.reserved.output_tokens
        pico = (ledger.settled.pico or 0) + (ledger.reserved.pico or 0)
        assert (calls, output, pico) == (disk.calls, disk.output_tokens, disk.pico or 0)
        assert budget.max_calls is None or calls <= budget.max_calls
        assert budget.max_output_tokens is None or output <= budget.max_output_tokens
        assert budget.max_cost is None or pico <= cap_pico(budget.max_cost)
        assert output >= self.wire.billed, "the ledger knows of less than the endpoint billed"
        bought = Counter(call.sample_id for call in self.store.calls() if call.accepted)
        assert set(bought.values()) <= {1}, "a sample was bought twice"

    async def end(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        self.store.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("buy"), st.integers(0, SAMPLES - 1), st.just("")),
        st.tuples(st.just("buy"), st.integers(0, SAMPLES - 1), st.just("")),
        st.tuples(st.just("answer"), st.integers(0, 15), st.sampled_from(FATES)),
        st.tuples(st.just("answer"), st.integers(0, 15), st.sampled_from(FATES)),
        st.tuples(st.sampled_from(["power cut", "interrupt"]), st.integers(0, 1), st.just("")),
    ),
    max_size=24,
)
BUDGETS = st.builds(
    Budget,
    max_calls=st.none() | st.integers(1, 14),
    max_output_tokens=st.none() | st.integers(1, 50),
    max_cost=st.none() | st.integers(0, 60).map(lambda micro: micro * 1e-6),
)


async def interleave(budget: Budget, steps: list[tuple[str, int, str]], directory: Path) -> None:
    runs = (directory / str(number) for number in itertools.count())
    run = next(runs)
    Store.create(run, {"config": {}}).close()
    wire = Wire()
    session = Session(run, budget, wire)
    for kind, number, fate in steps:
        if kind == "buy":
            session.buy(number)
        elif kind == "answer":
            wire.answer(number, fate, number % (MOST_OUT + 1))
        else:
            wire.billed += MOST_OUT * sum(not future.done() for future in wire.waiting)  # for all we know
            if kind == "power cut":
                run = shutil.copytree(session.store.path, next(runs))
            await session.end()
            if number and budget.max_cost is not None:
                budget = budget.model_copy(update={"max_cost": 2 * budget.max_cost})
            session = Session(run, budget, wire)
        await session.quiet()
        session.check(budget)
    # From wherever it was left the run ends: every sample bought or given up, or a limit named.
    for turn in range(20 * SAMPLES):
        if session.over:
            break
        unbought = [number for number in range(SAMPLES) if number not in session.tasks]
        if not unbought and all(task.done() for task in session.tasks.values()):
            break
        for number in unbought:
            session.buy(number)
        wire.answer(turn, FATES[turn % len(FATES)], MOST_OUT)
        await session.quiet()
        session.check(budget)
    else:
        raise AssertionError("the run neither finished nor stopped")
    await session.end()


def trial(budget: Budget, steps: list[tuple[str, int, str]]) -> None:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        asyncio.run(interleave(budget, steps, Path(directory)))


COMMON = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@settings(COMMON, max_examples=60)
@given(BUDGETS, STEPS)
def test_no_interleaving_passes_a_cap_or_buys_twice(budget: Budget, steps: list[tuple[str, int, str]]) -> None:
    trial(budget, steps)


@pytest.mark.slow
@settings(COMMON, max_examples=10_000)
@given(BUDGETS, STEPS)
def test_ten_thousand_interleavings(budget: Budget, steps: list[tuple[str, int, str]]) -> None:
    trial(budget, steps)
