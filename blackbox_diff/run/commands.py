"""What can be done with a run: start one, go on with one, add a reference; and what needs no run: probe, estimate.

Everything here is async where it calls an endpoint, takes values, and answers with values or raises.
"""

from __future__ import annotations

import asyncio
import datetime
import importlib.metadata
import platform
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from blackbox_diff.buying.buyer import Buyer
from blackbox_diff.buying.estimate import Estimate, estimate
from blackbox_diff.buying.http import Endpoint
from blackbox_diff.buying.ledger import Ledger, Shared
from blackbox_diff.buying.limits import Limiter
from blackbox_diff.buying.prices import prices_for, prices_of_writer
from blackbox_diff.config.model import AuditConfig, EndpointConfig
from blackbox_diff.config.resume import changed
from blackbox_diff.design import amplify
from blackbox_diff.design.apart import FOLLOW_UP, VALIDATION, typical
from blackbox_diff.errors import ConfigError, NotAuditableError, UsageError
from blackbox_diff.prefills.written import STAND_IN
from blackbox_diff.probing import cache
from blackbox_diff.probing.probe import probe
from blackbox_diff.probing.turn import ask_turn
from blackbox_diff.records import EndpointProfile
from blackbox_diff.run.collect import TARGET, Stop
from blackbox_diff.run.controls import copy_controls
from blackbox_diff.run.lanes import REFERENCE, reach
from blackbox_diff.run.pipeline import FINISHED, Ended, Session, collect, complete, plan
from blackbox_diff.run.progress import Listener, Notice, unheard
from blackbox_diff.run.writing import calls
from blackbox_diff.runfile.files import FILE, discard
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire import dialect


@dataclass(frozen=True, slots=True)
class Company:
    """What an audit shares with others that stand beside it, as in a fleet.

    also: further references that score what is bought. served: where a `local:` reference is up already, by its
    label. control: a run of the same references and seed whose control is this one's, too.
    shared: caps over all of them; such a run is kept also where it was refused, because its probe's cost counts.
    """

    also: tuple[EndpointConfig, ...] = ()
    served: Mapping[str, str] = field(default_factory=dict)
    control: Path | None = None
    shared: Shared | None = None


ALONE = Company()


async def start(
    config: AuditConfig,
    run: Path,
    *,
    listener: Listener = unheard,
    stop: Stop | None = None,
    company: Company = ALONE,
) -> Ended:
    """A new run in directory `run`. Raises RunFileError when `run` holds one.

    A run that was refused before it bought a completion is removed again: the same command, corrected, must not
    meet a run of that name.
    """
    if config.reference is None:
        raise ConfigError("no reference: give --reference-url and --reference-model, or --reference local:SPEC")
    plan(
        config, config.framing or ("raw", "chat"), (STAND_IN,)
    )  # a corpus that can't be read fails before any call
    ends = (config.target, config.reference, *([config.writes] if config.writes else ()))
    for endpoint in ends:  # what is wrong by itself fails before any call
        if endpoint.dialect != "auto":
            dialect(endpoint.dialect)
        endpoint.key()
    priced = _priced(config)
    existed, empty = await asyncio.to_thread(run.exists), False
    try:
        with Store.create(run, manifest(priced)) as store:
            if company.also:
                store.set_state(replace(store.state, references=company.also))
            if company.control is not None:
                await copy_controls(company.control, store)
            session = Session(
                store, priced, [config.reference, *company.also],
                listener=listener, stop=stop or Stop(), served=company.served, shared=company.shared,
            )  # fmt: skip
            try:
                return await collect(session)
            except (UsageError, NotAuditableError) as error:
                empty = not store.outcomes(TARGET) and company.shared is None
                if not empty:
                    store.set_state(replace(store.state, stopped_because=str(error)))
                raise
    finally:
        if empty:
            discard(run, directory=not existed)


async def go_on(
    run: Path,
    changes: Mapping[str, Any],
    *,
    listener: Listener = unheard,
    stop: Stop | None = None,
    company: Company = ALONE,
) -> Ended:
    """Resume `run`, with `changes` (a configuration's tables) where they may differ.

    A run that is complete is left as it is, and no endpoint is called.
    """
    with Store.open(run) as store:
        config = changed(store.config, dict(changes))
        state = store.state
        references = [*([config.reference] if config.reference else []), *state.references]
        _priced(config)  # a cap that can't be held is refused first
        if complete(store, config, references):
            listener(Notice(f"{run}: complete, nothing to do"))
            return Ended(state.stopped_because or FINISHED)
        for endpoint in (config.target, *references):
            endpoint.key()  # before anything is stored: what was given as a variable's name may be the key itself
        store.set_state(replace(state, config=config))
        session = Session(
            store, config, references,
            listener=listener, stop=stop or Stop(), served=company.served, shared=company.shared,
        )  # fmt: skip
        return await collect(session)


async def add_reference(
    run: Path, endpoint: EndpointConfig, *, listener: Listener = unheard, stop: Stop | None = None
) -> Ended:
    """Score what `run` has bought under one more reference; the target is not called."""
    with Store.open(run) as store:
        if endpoint.name in store.references():
            raise ConfigError(
                f"--reference-label: {run} has a reference '{endpoint.name}' already: give another label"
            )
        endpoint.key()  # as above
        config, state = store.config, store.state
        others = tuple(each for each in state.references if each.name != endpoint.name)
        store.set_state(replace(state, references=(*others, endpoint)))
        session = Session(store, config, [endpoint], buy=False, listener=listener, stop=stop or Stop())
        return await collect(session)


async def probe_endpoint(
    endpoint: EndpointConfig, purpose: Literal["target", "reference"], *, turn: bool = False
) -> EndpointProfile:
    """What `endpoint` can do, asked afresh and kept for audits.

    turn: ask whether the user's turn can be left to the model, too.
    Raises EndpointUsageError for a bad URL, model or key.
    """
    async with Endpoint(endpoint) as connection:
        profile = await probe(connection, endpoint, purpose=purpose)
        profile = await ask_turn(connection, profile) if turn else profile
    cache.keep(endpoint, profile)
    return profile


async def probe_into(
    run: Path,
    endpoint: EndpointConfig,
    purpose: cache.Purpose,
    shared: Shared | None = None,
    served: Mapping[str, str] | None = None,
) -> EndpointProfile:
    """Like probe_endpoint, with its calls in the run file `run`: asked once there, and counted in `shared`."""
    known = await asyncio.to_thread((run / FILE).is_file)
    with Store.open(run) if known else Store.create(run, {}) as store:
        async with AsyncExitStack() as stack:
            await reach(endpoint)
            url = (served or {}).get(endpoint.name, endpoint.url)
            there = endpoint.model_copy(update={"url": url})
            connection = await stack.enter_async_context(Endpoint(there))
            caps, side = endpoint.budget(), "" if purpose == "target" else REFERENCE
            ledger = Ledger(caps, prices_for(endpoint, caps, side), store.spent(), endpoint.model, side, shared)
            role = TARGET if purpose == "target" else f"{REFERENCE[:-1]}:{endpoint.name}"
            buyer = Buyer(connection, store, ledger, Limiter(4), role)
            return await cache.profile_of(store, buyer, there, purpose, purpose, fresh=True, say=lambda _: None)


def estimate_audit(config: AuditConfig) -> Estimate:
    """Calls, tokens and USD per arm; spends nothing, so unprobed framings are taken as allowed."""
    framings = config.framing or ("raw", "chat")
    again = ((FOLLOW_UP, config.to_follow), (VALIDATION, config.to_validate))
    apart = [sample for purpose, number in again for sample in typical(purpose, number, framings)]
    planned = plan(config, framings, (STAND_IN,))
    steps = amplify.typical(amplify.rows(planned, config.amplify))
    found = estimate([*planned, *apart], config, steps, calls(config, framings))
    return replace(found, notes=_adaptive_notes(found)) if config.adaptive else found


def manifest(config: AuditConfig) -> dict[str, Any]:
    """What was asked for, by which versions, when."""
    packages = ("blackbox-diff", "openai", "httpx2", "pydantic", "numpy", "tiktoken")
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "config": config.model_dump(mode="json"),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "python": platform.python_version(),
    }


def _priced(config: AuditConfig) -> AuditConfig:
    """`config` with the prices it is run at: the run's ledger must not move with the price table.

    Raises ConfigError for a cap that can't be held, since a price is not known.
    """
    found = prices_for(config.target, config.budget)
    if config.writes is not None:
        prices_of_writer(config.writes, config.budget)
    if found is None:
        return config
    budget = config.budget.model_copy(update={"price_in": found.input, "price_out": found.output})
    return config.model_copy(update={"budget": budget})


def _adaptive_notes(found: Estimate) -> tuple[str, ...]:
    """What an estimate leaves open for an adaptive run."""
    return (
        f"adaptive: {found.total.calls} calls are the most; a run asks again and validates as soon as it",
        "has a lead, and stops once what it found is validated and nothing else shows",
    )
