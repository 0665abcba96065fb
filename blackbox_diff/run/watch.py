"""Ask a run's target a few of the run's own questions again: is this still the model that was audited?

The run is only read. The calls go through a buyer of their own, with a record that lasts as long as they do.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blackbox_diff.buying.buyer import Buyer
from blackbox_diff.buying.http import Endpoint
from blackbox_diff.buying.ledger import Ledger
from blackbox_diff.buying.limits import Limiter
from blackbox_diff.buying.prices import prices_for
from blackbox_diff.config.model import Budget, EndpointConfig, overlaid, parse_endpoint
from blackbox_diff.errors import RunFileError
from blackbox_diff.probing.comparisons import alternatives
from blackbox_diff.probing.sameness import Draws, Listed, Sameness, compare_draws
from blackbox_diff.records import Call, Completion, Json, Lost, RawReply
from blackbox_diff.run.collect import TARGET
from blackbox_diff.runfile.encoding import StoredCall
from blackbox_diff.runfile.files import FILE
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire.asked import LIMITS, SEEDS
from blackbox_diff.wire.replies import entries_of

PROMPTS = 20
MOST_CALLS = 50
UNCAPPED = Budget()
CONCURRENCY = 4


async def watch_run(
    run: Path,
    changes: Mapping[str, Any],
    *,
    prompts: int = PROMPTS,
    seed: int = 0,
    record: Path | None = None,
    budget: Budget = UNCAPPED,
) -> Sameness:
    """Two one-token calls for each of `prompts` completions of `run`, compared with what the run stored.

    changes: fields of the target's endpoint that differ today, such as its URL. The model may be named anew,
    but is then asked for by that name. record: a directory in which the calls are kept; what one there has spent
    counts against `budget`, too. Raises RunFileError for a run without a stored reply, and what buying
    raises.
    """
    with Store.open(run, read_only=True) as store:
        config = store.config
        calls = [call for call in _stored(store) if listed(call.reply)]
    if not calls:
        raise RunFileError(f"{run}: no stored reply lists alternatives, so there is nothing to compare with")
    endpoint = parse_endpoint(overlaid(config.target.model_dump(mode="json"), changes), "options", "target")
    chosen = random.Random(seed).sample(calls, min(prompts, len(calls), MOST_CALLS // 2))
    with tempfile.TemporaryDirectory() as scratch:
        kept = record or Path(scratch) / "watch"
        with Store.open(kept) if (kept / FILE).is_file() else Store.create(kept, {}) as store:
            return compare_draws(await _draw(endpoint, chosen, store, budget))


def listed(reply: RawReply | None) -> Listed:
    """The alternatives at the first position that a reply lists; empty where there are none."""
    return {} if reply is None else alternatives(entries_of(reply))


def _stored(store: Store) -> list[StoredCall]:
    """The call behind each completion of the target."""
    numbers = [number for _, outcome, number in store.decided(TARGET) if isinstance(outcome, Completion)]
    calls = [store.call(number) for number in numbers if number is not None]
    return [call for call in calls if call is not None]


async def _draw(endpoint: EndpointConfig, calls: list[StoredCall], record: Store, budget: Budget) -> list[Draws]:
    before = record.spent(TARGET)
    budget = budget.model_copy(update={"max_calls": before.calls + MOST_CALLS})
    async with Endpoint(endpoint) as connection:
        ledger = Ledger(budget, prices_for(endpoint, budget), before, endpoint.model)
        buyer = Buyer(connection, record, ledger, Limiter(CONCURRENCY), TARGET)

        async def ask(stored: StoredCall, turn: int) -> Listed:
            bought = await buyer.buy(one_token(stored.call, endpoint.model), f"{stored.sample_id}.{turn}", 1)
            return {} if isinstance(bought, Lost) else listed(bought.reply)

        answers = await asyncio.gather(*(ask(call, turn) for call in calls for turn in (0, 1)))
    return [
        Draws(listed(call.reply), answers[2 * place], answers[2 * place + 1]) for place, call in enumerate(calls)
    ]


def one_token(call: Call, model: str) -> Call:
    """The same question with one token of answer and no seed, asked of `model`."""
    body = _one_token(call.body)
    for name in ("parameters", "sampling_params"):  # text-generation-inference and SGLang nest their settings
        if isinstance(nested := body.get(name), dict):
            body[name] = _one_token(nested)
    if "model" in body:
        body["model"] = model
    return Call(call.path, body, call.url)


def _one_token(settings: Mapping[str, Json]) -> dict[str, Json]:
    return {name: 1 if name in LIMITS else value for name, value in settings.items() if name not in SEEDS}
