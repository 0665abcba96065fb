"""`explain` over a run: the chat endpoint that reads it, within its own cap."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from blackbox_diff.buying.failures import TransportFailure
from blackbox_diff.buying.http import Endpoint
from blackbox_diff.buying.ledger import Ledger
from blackbox_diff.buying.prices import prices_for
from blackbox_diff.config.model import Budget, EndpointConfig
from blackbox_diff.errors import EndpointUsageError
from blackbox_diff.explain.reader import Explanation, Message, explain
from blackbox_diff.records import Call
from blackbox_diff.run.lanes import reach
from blackbox_diff.run.results import read_run
from blackbox_diff.wire import error_of, usage
from blackbox_diff.wire.body import first_choice, mapping, message_text
from blackbox_diff.wire.counts import delivered
from blackbox_diff.wire.reply_json import value_of

MAX_ANSWER = 1500  # tokens


def explain_run(
    run: Path,
    reader: EndpointConfig,
    seeds: int,
    budget: Budget,
    *,
    backgrounds: Sequence[Path] = (),
    on_reading: Callable[[int, int], None] = lambda seed, seeds: None,
) -> Explanation:
    """What `reader` says of the run's conclusion; `on_reading(seed, seeds)` is called before each reading.

    Raises BudgetError before a call that could pass the cap, EndpointUsageError where the reader fails.
    """
    analysis = read_run(run, backgrounds=backgrounds).analysis

    async def read() -> Explanation:
        ledger = Ledger(budget, prices_for(reader, budget), None, reader.model)
        await reach(reader)
        async with Endpoint(reader) as endpoint:

            async def ask(messages: list[Message], seed: int) -> str:
                return await _ask(endpoint, ledger, reader, messages, seed)

            return await explain(ask, analysis, seeds=seeds, on_reading=on_reading)

    return asyncio.run(read())


async def _ask(
    endpoint: Endpoint, ledger: Ledger, reader: EndpointConfig, messages: list[Message], seed: int
) -> str:
    call = Call(
        "/chat/completions",
        {"model": reader.model, "messages": messages, "max_tokens": MAX_ANSWER, "temperature": 1.0, "seed": seed},
    )
    worst = ledger.worst(call, MAX_ANSWER)
    await ledger.reserve(worst)
    try:
        reply = await endpoint.post(call)
    except TransportFailure as failure:
        if failure.kind == "unsent":
            ledger.release(worst)
        else:
            ledger.settle(worst, worst)
        raise EndpointUsageError(str(failure)) from None
    except BaseException:
        ledger.settle(worst, worst)  # it may have been answered and billed
        raise
    ledger.settle(worst, *ledger.actual(usage(reply), worst, delivered(reply, call)))
    error = error_of(reply)
    if error is not None:
        raise EndpointUsageError(f"{reader.url}: {reader.model}: {error.message}")
    # An answer without text counts as unreadable, which `explain` reports.
    return message_text(mapping(first_choice(value_of(reply)).get("message"))) or ""
