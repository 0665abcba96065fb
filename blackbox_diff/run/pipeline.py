"""The pipeline: the only module that knows all stages.

prefills -> plan -> client -> store -> wire -> reference -> store;  results reads it back and ranks
"""

from __future__ import annotations

import asyncio
import datetime
import importlib.metadata
import platform
import signal
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from blackbox_diff.buying.buyer import Buyer
from blackbox_diff.buying.estimate import Estimate, estimate
from blackbox_diff.buying.http import Endpoint
from blackbox_diff.buying.ledger import Ledger
from blackbox_diff.buying.limits import Limiter
from blackbox_diff.buying.prices import prices_for
from blackbox_diff.config.model import AuditConfig, Budget, EndpointConfig, parse_config, parse_endpoint
from blackbox_diff.config.resume import changed
from blackbox_diff.design import validation
from blackbox_diff.errors import ConfigError, NotAuditableError, UsageError
from blackbox_diff.prefills import draw
from blackbox_diff.prefills.plan import arm_samples, interleave, shares
from blackbox_diff.probing import cache
from blackbox_diff.probing.drift import Watch
from blackbox_diff.probing.probe import probe, shares_vocabulary
from blackbox_diff.records import EndpointProfile, Framing, Sample
from blackbox_diff.report.progress import LiveView, live_view
from blackbox_diff.run.collect import TARGET, Collector, Job, Lane, plan_jobs
from blackbox_diff.run.local import serve
from blackbox_diff.run.progress import Progress
from blackbox_diff.run.rounds import Rounds, adaptive_notes, explore, validation_jobs
from blackbox_diff.runfile.files import discard
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire import dialect

INTERRUPTED = "interrupted"
FINISHED = "all completions bought and scored"
EXIT_INTERRUPTED = 130
LOCAL = "local:"
LOCAL_SECONDS = 600.0  # a model on this machine may be slow, and asking again would make it slower
TICK = 0.5  # seconds between updates of the progress view


def start(config: AuditConfig, run: Path) -> int:
    """A new run in directory `run`; returns an exit code. Raises RunFileError when `run` exists.

    A run that failed before it called anything is removed again.
    """
    if config.reference is None:
        raise ConfigError("no reference: give --reference-url and --reference-model, or --reference local:SPEC")
    plan(config, config.framing or ("raw", "chat"))  # a corpus that can't be read fails before any call
    for endpoint in (config.target, config.reference):  # what is wrong by itself fails before any call
        if endpoint.dialect != "auto":
            dialect(endpoint.dialect)
        endpoint.key()
    priced = _priced(config)
    existed, empty = run.exists(), False
    try:
        with Store.create(run, manifest(priced)) as store:
            try:
                return asyncio.run(_collect(store, priced, [config.reference]))
            except UsageError:
                empty = not store.spent().output_tokens
                raise
    finally:
        if empty:  # a mistyped URL or name: the same command, corrected, must not meet a run of that name
            discard(run, directory=not existed)


def go_on(run: Path, changes: dict[str, Any]) -> int:
    """Resume `run`, with `changes` (a configuration's tables) where they may differ; returns an exit code."""
    with Store.open(run) as store:
        config = changed(read_config(store, run), changes)
        store.set_state("config", config.model_dump(mode="json"))
        references = [config.reference] if config.reference else []
        extra = [parse_endpoint(entry, str(run)) for entry in store.state("references", [])]
        return asyncio.run(_collect(store, config, [*references, *extra]))


def add_reference(run: Path, endpoint: EndpointConfig) -> int:
    """Score what `run` has bought under one more reference; the target is not called."""
    with Store.open(run) as store:
        if endpoint.name in store.references():
            raise ConfigError(
                f"--reference-label: {run} has a reference '{endpoint.name}' already: give another label"
            )
        config = read_config(store, run)
        others = [
            entry for entry in store.state("references", []) if (entry["label"] or entry["model"]) != endpoint.name
        ]
        store.set_state("references", [*others, endpoint.model_dump(mode="json")])
        return asyncio.run(_collect(store, config, [endpoint], buy=False))


def probe_endpoint(endpoint: EndpointConfig, purpose: Literal["target", "reference"]) -> EndpointProfile:
    """What `endpoint` can do, asked afresh and kept for audits.

    Raises EndpointUsageError for a bad URL, model or key.
    """

    async def ask() -> EndpointProfile:
        async with Endpoint(endpoint) as connection:
            return await probe(connection, endpoint, purpose=purpose)

    profile = asyncio.run(ask())
    cache.keep(endpoint, profile)
    return profile


def estimate_audit(config: AuditConfig) -> Estimate:
    """Calls, tokens and USD per arm; spends nothing, so unprobed framings are taken as allowed."""
    framings = config.framing or ("raw", "chat")
    found = estimate([*plan(config, framings), *validation.typical(config.to_validate, framings)], config)
    return replace(found, notes=adaptive_notes(found)) if config.adaptive else found


def read_config(store: Store, run: Path) -> AuditConfig:
    """The run's configuration, with what resuming has changed."""
    data: dict[str, Any] = store.state("config") or store.manifest["config"]
    return parse_config(data, str(run))


def _priced(config: AuditConfig) -> AuditConfig:
    """`config` with the prices it is run at: the run's ledger must not move with the price table."""
    found = prices_for(config.target, config.budget)
    if found is None:
        return config
    budget = config.budget.model_copy(update={"price_in": found.input, "price_out": found.output})
    return config.model_copy(update={"budget": budget})


def plan(config: AuditConfig, framings: Sequence[Framing]) -> list[Sample]:
    """Every sample of the fixed design, arms in turn."""
    arms = config.arms(tuple(framings))
    each = shares(config.completions, arms)
    return interleave([arm_samples(arm, each[arm], config.seed, draw) for arm in arms])


def manifest(config: AuditConfig) -> dict[str, Any]:
    """What was asked for, by which versions, when."""
    packages = ("blackbox-diff", "httpx2", "pydantic", "numpy", "tiktoken")
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "config": config.model_dump(mode="json"),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "python": platform.python_version(),
    }


async def _collect(
    store: Store, config: AuditConfig, references: Sequence[EndpointConfig], *, buy: bool = True
) -> int:
    """Connect, probe, buy and score until the plan is done or something stops it; returns an exit code."""
    started = time.monotonic()
    collector = Collector(store, config.sampling(), Watch(store))
    enough: str | None = None
    try:
        with _interruptible(collector) as interrupt:
            enough = await _pipeline(store, config, references, collector, interrupt, buy=buy)
    except asyncio.CancelledError:
        if collector.stop.reason != INTERRUPTED:
            raise
    reason = collector.stop.reason or enough or FINISHED
    if collector.failed and reason == FINISHED:
        reason = f"{FINISHED}, but for {collector.failed} that failed: `resume` tries them again"
    store.set_state("stopped_because", reason)
    store.set_state("seconds", (store.state("seconds") or 0.0) + time.monotonic() - started)
    if reason == INTERRUPTED:
        return EXIT_INTERRUPTED
    return collector.stop.error.exit_code if collector.stop.error else 0


async def _pipeline(
    store: Store,
    config: AuditConfig,
    references: Sequence[EndpointConfig],
    collector: Collector,
    interrupt: _interruptible,
    *,
    buy: bool,
) -> str | None:
    """Buy and score; returns why it ended before everything was bought, if it did so of itself."""
    async with AsyncExitStack() as stack:
        target = await _target_lane(stack, store, config, probing=buy)
        lanes = [await _reference_lane(stack, store, config, reference) for reference in references]
        framings = _framings(config, target.profile, lanes[0].profile if buy else None)
        watch = collector.watch
        if buy and store.outcomes(TARGET):
            await watch.ask(target)  # the endpoint may have changed since the run stopped
        enough = None
        with live_view() as view:
            async with _watched(view, collector, target, config.completions):
                interrupt.gently = True
                if buy:
                    enough = await _buy(store, config, framings, target, lanes, collector, view)
                else:
                    bought = [sample for sample, _, _ in store.decided(TARGET)]
                    await _work(collector, config, _jobs(config, target, lanes, bought))
        for lane in (target, *lanes) if buy and collector.bought and collector.stop.reason is None else ():
            await watch.ask(lane)
        watch.save()
        return enough


async def _buy(
    store: Store, config: AuditConfig, framings: Sequence[Framing], target: Lane, lanes: Sequence[Lane],
    collector: Collector, view: LiveView,
) -> str | None:  # fmt: skip
    """Buy and score what the design asks for, then validate; returns why it ended before the cap, if it did."""
    enough = None
    if config.adaptive:
        rounds = Rounds.of(store, config, lanes[0].label, config.arms(tuple(framings)))

        async def work(samples: Sequence[Sample], controls: Sequence[Sample]) -> None:
            await _work(collector, config, _jobs(config, target, lanes, samples, controls))

        enough = await explore(rounds, collector, work, view.say)
    else:
        await _work(collector, config, _jobs(config, target, lanes, plan(config, framings)))
    if config.to_validate and collector.stop.reason is None:
        await _work(collector, config, validation_jobs(store, config, target, lanes[0]))
    return enough


async def _work(collector: Collector, config: AuditConfig, jobs: Iterable[Job]) -> None:
    await collector.run(jobs, workers=2 * config.concurrency)


def _jobs(
    config: AuditConfig,
    target: Lane,
    lanes: Sequence[Lane],
    samples: Sequence[Sample],
    controls: Sequence[Sample] | None = None,
) -> Iterator[Job]:
    """`samples` from the target, and `controls` (by default as many as the configuration says) from the lanes."""
    if controls is None:
        controls = samples[: len(samples) if config.control is None else config.control]
    shared = {(TARGET, lane.label): shares_vocabulary(target.profile, lane.profile) for lane in lanes}
    return plan_jobs(target, lanes, samples, controls, shared)


def _framings(
    config: AuditConfig, profile: EndpointProfile, reference: EndpointProfile | None
) -> tuple[Framing, ...]:
    """The framings to use. Raises ConfigError for one that the target does not allow.

    Raw completions are of no use beside a reference that can only score chats: the template would be the gap.
    """
    allowed = profile.framings()
    if reference is not None and reference.raw is None:
        allowed = tuple(framing for framing in allowed if framing != "raw")
        if not allowed:
            raise NotAuditableError(
                f"{reference.base_url}: {reference.model} scores chats only, and {profile.model} can't be asked "
                "in a chat: bring a reference with raw completions"
            )
    missing = [framing for framing in config.framing if framing not in (*allowed, "user")]
    if missing:
        raise ConfigError(
            f"--framing: {profile.model} does not allow {missing[0]}; it allows {', '.join(allowed)}"
        )
    return config.framing or allowed


async def _target_lane(stack: AsyncExitStack, store: Store, config: AuditConfig, *, probing: bool) -> Lane:
    endpoint = await stack.enter_async_context(Endpoint(config.target))
    ledger = Ledger(
        config.budget, prices_for(config.target, config.budget), store.spent(TARGET), config.target.model
    )
    buyer = Buyer(endpoint, store, ledger, Limiter(config.concurrency), TARGET)
    profile = await cache.profile_of(store, buyer, config.target, TARGET, "target", fresh=config.fresh_probe)
    if probing and not profile.auditable:
        raise NotAuditableError(f"{config.target.url}: {profile.model} {profile.verdict}")
    return Lane(TARGET, profile, dialect(profile.dialect), buyer)


async def _reference_lane(
    stack: AsyncExitStack, store: Store, config: AuditConfig, reference: EndpointConfig
) -> Lane:
    label = reference.name
    if reference.url.startswith(LOCAL):
        spec = reference.url.removeprefix(LOCAL)
        url = await asyncio.to_thread(stack.enter_context, serve(["--model", f"{reference.model}={spec}"]))
        reference = reference.model_copy(update={"url": url, "timeout_seconds": LOCAL_SECONDS})
    endpoint = await stack.enter_async_context(Endpoint(reference))
    buyer = Buyer(endpoint, store, Ledger(Budget()), Limiter(config.concurrency), f"reference:{label}")
    profile = await cache.profile_of(store, buyer, reference, label, "reference", fresh=config.fresh_probe)
    if not profile.can_score:
        raise NotAuditableError(f"{reference.url}: {profile.model} {profile.verdict}")
    return Lane(label, profile, dialect(profile.dialect), buyer)


@asynccontextmanager
async def _watched(view: LiveView, collector: Collector, target: Lane, planned: int) -> AsyncIterator[None]:
    """Show progress on stderr while the block runs."""

    def show() -> None:
        ledger, limiter = target.buyer.ledger, target.buyer.limiter
        slowed = f"{int(limiter.limit)} of {limiter.most} calls in flight allowed" if limiter.rate else ""
        view.update(
            Progress(
                bought=collector.bought,
                planned=planned,
                scored=collector.scored,
                refused=collector.refused,
                failed=collector.failed,
                cost_usd=None if ledger.prices is None else (ledger.settled.pico or 0) / 1e12,
                max_cost_usd=ledger.budget.max_cost,
                output_tokens=ledger.settled.output_tokens,
                in_flight=limiter.in_flight,
                throttled=slowed,
                top=tuple(collector.leaders),
            )
        )

    async def tick() -> None:
        while True:
            show()
            await asyncio.sleep(TICK)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        show()


class _interruptible:  # noqa: N801 - reads as the context manager that it is
    """First SIGINT or SIGTERM: buy nothing more, finish what is paid for. The second: stop at once.

    gently: whether there is a collector at work that can finish; before that, the first stops at once.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.gently = False
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.current_task()

    def __enter__(self) -> _interruptible:
        for number in self.SIGNALS:
            self.loop.add_signal_handler(number, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self.SIGNALS:
            self.loop.remove_signal_handler(number)

    def _interrupt(self) -> None:
        again = self.collector.stop.reason == INTERRUPTED
        self.collector.stop.because(INTERRUPTED)
        if (again or not self.gently) and self.task is not None:
            self.task.cancel()
