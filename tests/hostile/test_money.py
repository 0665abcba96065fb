"""Usage that lies: the ledger books no less than what came, and no number breaks it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blackbox_diff.buying.buyer import Bought, settlement
from blackbox_diff.buying.ledger import Cost, Ledger, cap_pico
from blackbox_diff.buying.prices import Prices
from blackbox_diff.buying.retry import decide
from blackbox_diff.config.model import Budget, parse_budget
from blackbox_diff.errors import BudgetError, ConfigError
from blackbox_diff.records import Call, RawReply, Refusal
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire import DIALECTS, usage
from blackbox_diff.wire.counts import delivered
from tests.fault_server import serving
from tests.hostile.scripted import Scripted, good, plainly, purchases
from tests.replies import PROFILE, chat, entry, legacy, raw

PRICES = Prices(1.0, 2.0)
ASKED = 16
CALL = Call("/completions", {"prompt": "The quick", "max_tokens": ASKED})


def reply(tokens: int, told: Any, kind: str = "plain") -> RawReply:
    """`tokens` delivered with the usage `told`: plainly, or in a way that says nothing came."""
    body = {**legacy(" a" * tokens, [" a"] * tokens, [-1.0] * tokens), "usage": told}
    choice = body["choices"][0]
    if kind == "broken":
        choice["finish_reason"] = "error"
    elif kind == "beside an error":
        body["error"] = {"code": 429, "message": "slow down"}
    elif kind == "streamed":
        parts = [{"choices": [{**legacy(" a", [" a"], [-1.0])["choices"][0], "index": n}]} for n in range(tokens)]
        events = [*parts, {"choices": [], "usage": told, "error": None}]
        return raw("".join(f"data: {json.dumps(event)}\n\n" for event in events).encode() + b"data: [DONE]\n\n")
    return raw(body, {"busy": 429, "failed": 500, "rejected": 400}.get(kind, 200))


KINDS = ("plain", "broken", "beside an error", "streamed", "busy", "failed", "rejected")


def settled(tokens: int, told: Any, budget: Budget | None = None) -> tuple[Cost, str | None]:
    ledger = Ledger(budget, PRICES)
    found = reply(tokens, told)
    return settlement(CALL, found, decide(found, 1), ledger.worst(CALL), ledger)


@pytest.mark.parametrize(
    ("told", "booked"),
    [
        ({"prompt_tokens": 2, "completion_tokens": 0}, 16),
        ({"prompt_tokens": 2, "completion_tokens": 3}, 16),
        ({"prompt_tokens": 2, "completion_tokens": 0, "total_tokens": 18}, 16),
        ({"prompt_tokens": 2, "completion_tokens": 16, "total_tokens": 32}, 30),
        ({"prompt_tokens": 2, "completion_tokens": 16}, 16),
        ({"prompt_tokens": 2, "total_tokens": 18}, 16),
        ({"completion_tokens": -1}, 16),
        ({"completion_tokens": 2**40 - 1}, 16),
        ({"completion_tokens": 1e300}, 16),
        ({"completion_tokens": "16"}, 16),
        (None, 16),
    ],
)
def test_a_reply_is_booked_at_no_less_than_it_shows(told: Any, booked: int) -> None:
    cost, flag = settled(16, told)
    assert cost.output_tokens == booked
    understates = isinstance(told, dict) and told.get("completion_tokens") in (0, 3)
    assert flag == ("usage_understates" if understates else "output_over_reservation" if booked > ASKED else None)


def test_input_of_no_tokens_counts_as_reserved() -> None:
    assert (
        settled(16, {"prompt_tokens": 0, "completion_tokens": 16})[0].input_tokens
        == Ledger().worst(CALL).input_tokens
    )


@pytest.mark.parametrize("cost", [999_999, 1e308, -1, "1", True, None])
def test_a_cost_that_cannot_be_leaves_the_tokens_at_the_price(cost: Any) -> None:
    told = {"prompt_tokens": 2, "completion_tokens": 16, "cost": cost}
    assert settled(16, told)[0].pico == PRICES.pico(2, 16)


def test_more_than_was_asked_for_is_booked_refused_and_the_last_that_is_bought() -> None:
    ledger = Ledger(Budget(max_cost=1.0), PRICES)
    found = reply(3_000, {"prompt_tokens": 2, "completion_tokens": 16})
    worst = ledger.worst(CALL)
    ledger.try_reserve(worst)
    cost, flag = settlement(CALL, found, decide(found, 1), worst, ledger)
    ledger.settle(worst, cost, flag)
    assert (cost.output_tokens, flag) == (3_000, "output_over_reservation")
    with pytest.raises(BudgetError):
        ledger.try_reserve(worst)


def test_what_is_delivered_is_counted_in_every_shape() -> None:
    two = [entry("a"), entry("b")]
    assert delivered(raw(chat("ab", two)), CALL) == 2
    assert delivered(raw({"choices": [{"text": "x" * 1000}]}), CALL) == 8
    assert delivered(raw({"choices": [{"text": "ab", "token_ids": [1, 2]}] * 3}), CALL) == 6
    assert delivered(raw({"generated_text": "ab", "details": {"tokens": [{}, {}]}}), CALL) == 2
    assert delivered(raw({"text": "ab", "meta_info": {"output_token_logprobs": [[], []]}}), CALL) == 2
    assert delivered(raw(b"<html>"), CALL) == 0
    echo = Call("/completions", {"prompt": "ab", "echo": True, "max_tokens": 1})
    assert delivered(raw(legacy("abc", ["a", "b", "c"], [None, -1, -1], usage={"prompt_tokens": 2})), echo) == 1
    words = [f"{k:08d}" for k in range(64)]
    scored = legacy("".join(words), words, [None, *[-1.0] * 63], usage={"prompt_tokens": 63})
    assert delivered(raw(scored), echo) == 1  # a long text that was given is no output, either


NUMBERS = st.one_of(
    st.integers(-5, 40), st.sampled_from([2**31, 2**40 - 1, 2**53, 2**70, -(2**70)]), st.none(), st.booleans(),
    st.floats(allow_nan=True, allow_infinity=True), st.text(max_size=3),
)  # fmt: skip
FIELDS = ("prompt_tokens", "completion_tokens", "total_tokens", "cost", "reasoning_tokens")
USAGES = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(FIELDS, NUMBERS),
    ),
)


@settings(max_examples=200, derandomize=True, database=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), USAGES, st.sampled_from(KINDS)), max_size=25),
    st.integers(1, 4),
    st.integers(0, 400).map(lambda micro: micro * 1e-6),
)
def test_no_reply_lets_delivered_tokens_pass_the_cap_by_more_than_what_was_in_flight(
    replies: list[tuple[int, Any, str]], at_once: int, cap: float
) -> None:
    ledger = Ledger(Budget(max_cost=cap), PRICES)
    flying: list[tuple[Cost, int, Any, str]] = []
    paid = in_flight_then = 0
    over = False
    waiting = iter(replies)
    more: tuple[int, Any, str] | None = next(waiting, None)
    while more is not None or flying:
        sent = False
        if more is not None and len(flying) < at_once:
            worst = ledger.worst(CALL)
            try:
                sent = ledger.try_reserve(worst)
            except BudgetError:
                more = None
            if sent and more is not None:
                assert not over, "bought beyond the cap"
                flying.append((worst, *more))
                more = next(waiting, None)
        if not sent and flying:
            worst, tokens, told, kind = flying.pop(0)
            found = reply(tokens, told, kind)
            cost, flag = settlement(CALL, found, decide(found, 1), worst, ledger)
            ledger.settle(worst, cost, flag)
            at_price = PRICES.pico(0, tokens)
            over = over or (ledger.settled.pico or 0) > cap_pico(cap)
            if over:
                in_flight_then += at_price
            else:
                paid += at_price
            assert paid <= cap_pico(cap)
            assert paid + in_flight_then <= (ledger.settled.pico or 0)
        elif not sent and not flying:
            break


async def test_numbers_without_bounds_break_no_later_command(tmp_path: Path) -> None:
    def answer(number: int, request: dict[str, Any]) -> bytes:
        huge = {"prompt_tokens": 2**40 - 1, "completion_tokens": 2**40 - 1, "cost": 999_999}
        return plainly({**good(number, request), "usage": huge})

    server = Scripted(answer)
    with serving(server):
        with Store.create(tmp_path, {"config": {}}) as store:
            outcomes = await purchases(server, store, 3, budget=Budget(max_cost=1.0))
        with Store.open(tmp_path) as store:
            again = await purchases(server, store, 3, budget=Budget(max_cost=1.0))
            spent = store.spent("target")
    assert [type(outcome) for outcome in outcomes + again] == [Bought] * 6
    assert server.requests == 3, "a paid reply was lost"
    assert (spent.output_tokens, spent.overbilled, spent.excess_input) == (12, 0, 0)


def test_a_ledger_beyond_what_sqlite_can_add_up_is_summed_exactly(tmp_path: Path) -> None:
    Store.create(tmp_path, {"config": {}}).close()
    rows = sqlite3.connect(tmp_path / "run.sqlite")
    each = 2**62 + 12_345
    for number in range(5):
        rows.execute(
            """INSERT INTO calls (id, role, sample_id, attempt, state, reserved_input, reserved_output, pico,
               input, output, digest, path, body, sent_at)
               VALUES (?, 'target', 's', 1, 'settled', 1, 1, ?, 1, 1, 'd', '/', '{}', 0)""",
            (number + 1, each),
        )
    rows.commit()
    rows.close()
    with Store.open(tmp_path, read_only=True) as store:
        assert store.spent("target").pico == 5 * each


@pytest.mark.parametrize("option", ["max_cost", "price_in", "price_out"])
def test_our_own_numbers_are_bounded_too(option: str) -> None:
    with pytest.raises(ConfigError, match="must be at most"):
        parse_budget({option: 1e300}, "options")


def test_replies_of_many_more_tokens_than_asked_for_are_refused() -> None:
    tokens = [" a"] * 300
    found = DIALECTS["generic"].read_sample(
        raw(legacy(" a" * 300, tokens, [-1.0] * 300)), call=CALL, profile=PROFILE, prefill="", framing="raw"
    )
    assert isinstance(found, Refusal)
    assert found.reason == "too_long"


def test_usage_that_cannot_be_is_none() -> None:
    found = usage(
        raw({"usage": {"prompt_tokens": 2**24, "completion_tokens": -1, "total_tokens": 2.5, "cost": 1e4}})
    )
    assert (found.input_tokens, found.output_tokens, found.total_tokens, found.cost_usd) == (
        None,
        None,
        None,
        None,
    )
