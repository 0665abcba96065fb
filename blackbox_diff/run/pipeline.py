"""The pipeline: the only module that knows all stages.

prefills -> plan -> buying -> run file -> wire -> scoring -> run file;  results reads it back and ranks
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count

from blackbox_diff.buying.ledger import Shared
from blackbox_diff.config.model import AuditConfig, EndpointConfig
from blackbox_diff.design.apart import FOLLOW_UP, VALIDATION
from blackbox_diff.errors import BlackboxDiffError, StoppedError
from blackbox_diff.prefills import draw
from blackbox_diff.prefills.plan import arm_samples, interleave, shares
from blackbox_diff.probing.drift import Watch
from blackbox_diff.probing.probe import shares_vocabulary
from blackbox_diff.records import Framing, Sample
from blackbox_diff.run import amplifying
from blackbox_diff.run.again import jobs
from blackbox_diff.run.collect import INTERRUPTED, TARGET, Collector, Job, Lane, Stop, plan_jobs
from blackbox_diff.run.controller import Controller
from blackbox_diff.run.lanes import Connections, framings_to_use, in_step, reach
from blackbox_diff.run.progress import Listener, Notice, Phase, Progress, unheard
from blackbox_diff.run.reread import reread_alternatives
from blackbox_diff.run.steps import Amplified, Batch, Buy, Drawn, Say, Think, Wait
from blackbox_diff.run.turns import Turns
from blackbox_diff.run.writing import needed, openings
from blackbox_diff.runfile import state as run_state
from blackbox_diff.runfile.store import Store

FINISHED = "all completions bought and scored"
PHASES: Mapping[str, Phase] = {FOLLOW_UP: "following up", VALIDATION: "validating"}
TICK = 0.5  # seconds between two times that the listener is told of progress


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a session ended. `error`: the cap or the failing endpoint that stopped it; the run can be resumed."""

    reason: str
    error: StoppedError | None = None

    @property
    def interrupted(self) -> bool:
        return self.reason == INTERRUPTED


@dataclass(slots=True)
class Session:
    """One sitting of a run: what every stage works with.

    references: what scores; the first is the run's own. buy: whether the target is called at all.
    served: where a `local:` reference is up already, by its label. shared: caps over other runs, too.
    """

    store: Store
    config: AuditConfig
    references: Sequence[EndpointConfig]
    buy: bool = True
    listener: Listener = unheard
    stop: Stop = field(default_factory=Stop)
    served: Mapping[str, str] = field(default_factory=dict)
    shared: Shared | None = None
    collector: Collector = field(init=False)
    phase: Phase = field(init=False, default="probing")
    planned: int = field(init=False)

    def __post_init__(self) -> None:
        self.planned = self.config.completions
        turns = Turns(_workers(self.config))
        self.collector = Collector(self.store, self.config.sampling(), Watch(self.store), self.stop, turns=turns)

    def say(self, line: str) -> None:
        self.listener(Notice(line))


async def collect(session: Session) -> Ended:
    """Connect, probe, buy and score until the plan is done or something stops it; the run says why it ended.

    A cancelled task leaves the run interrupted, and the cancellation goes on where `Stop` did not ask for it.
    """
    started = time.monotonic()
    store, stop = session.store, session.stop
    stop.task = asyncio.current_task()
    enough: str | None = None
    cancelled: asyncio.CancelledError | None = None
    try:
        enough = await _stages(session)
    except asyncio.CancelledError as error:
        if stop.reason != INTERRUPTED:
            cancelled = error
            stop.because(INTERRUPTED)
    finally:
        stop.task = None
    reason = stop.reason or enough or FINISHED
    if session.collector.failed and reason == FINISHED:
        reason = f"{FINISHED}, but for {session.collector.failed} that failed: `resume` tries them again"
    state = store.state
    if session.buy:
        whole = stop.reason is None and not session.collector.failed
        state = replace(state, complete=_asked(session.config) if whole else None)
    seconds = state.seconds + time.monotonic() - started
    store.set_state(replace(state, stopped_because=reason, seconds=seconds))
    if cancelled is not None:
        raise cancelled
    return Ended(reason, stop.error)


def complete(store: Store, config: AuditConfig, references: Sequence[EndpointConfig]) -> bool:
    """Whether all that `config` asks for is bought, scored by every reference and done with."""
    scored = store.references()
    return store.state.complete == _asked(config) and all(each.name in scored for each in references)


def _asked(config: AuditConfig) -> run_state.Asked:
    return run_state.Asked(
        config.completions, config.control, config.to_validate, config.to_follow, config.amplify
    )


def plan(config: AuditConfig, framings: Sequence[Framing], written: Collection[str] = ()) -> list[Sample]:
    """Every sample of the fixed design, arms in turn. written: the openings of the source `writer`."""
    arms = config.arms(tuple(framings))
    each = shares(config.completions, arms)
    drawn = partial(draw, written=written)
    return interleave([arm_samples(arm, each[arm], config.seed, drawn) for arm in arms])


async def _stages(session: Session) -> str | None:
    """Buy and score; returns why it ended before everything was bought, if it did so of itself.

    A wrong address fails before anything is bought, and references come first: a mistyped one must not cost a
    call to the target.
    """
    store, config, collector = session.store, session.config, session.collector
    await reread_alternatives(store)
    async with AsyncExitStack() as stack:
        connections = Connections(store, config, session.listener, stack, session.served, session.shared)
        for endpoint in (*(_to_ask(store, config) if session.buy else ()), *session.references):
            await reach(endpoint)
        session.listener(Progress(0, session.planned, 0, phase="probing"))
        lanes = [await connections.reference(reference) for reference in session.references]
        target = await connections.target(probing=session.buy)
        framings = framings_to_use(config, target.profile, lanes[0].profile if session.buy else None)
        lanes = [in_step(store, config, target, lane) for lane in lanes]
        watch = collector.watch
        if session.buy and store.outcomes(TARGET):
            await watch.ask(target)  # the endpoint may have changed since the run stopped
        enough = None
        async with _reported(session, target):
            session.stop.gently = True
            store.set_state(replace(store.state, stopped_because=None))
            if session.buy:
                session.phase = "sampling"
                enough = await _buy(session, connections, framings, target, lanes)
            else:
                session.phase = "scoring"
                bought = [sample for sample, _, _ in store.decided(TARGET)]
                session.planned = len(bought)
                await _work(session, _jobs(config, target, lanes, bought))
        for lane in (target, *lanes) if session.buy and collector.bought and session.stop.reason is None else ():
            await watch.ask(lane)
        watch.save()
        return enough


def _to_ask(store: Store, config: AuditConfig) -> Iterator[EndpointConfig]:
    """The target, and the writer as long as it has not written."""
    yield config.target
    if config.writes is not None and not store.state.written:
        yield config.writes


async def _buy(
    session: Session, connections: Connections, framings: Sequence[Framing], target: Lane, lanes: Sequence[Lane]
) -> str | None:
    """Buy and score what the controller asks for; returns why it ended before the cap, if it did.

    Raises what a collector raises.
    """
    config, store = session.config, session.store
    written = store.state.written
    if config.writes is not None and not written and needed(config, framings):
        writer = await connections.writer(config.writes, target)
        written = await openings(session.collector, config, framings, writer, session.listener)
        if session.stop.reason is not None:
            return None
    decides = Controller(store, config, lanes[0].label, plan(config, framings, written))
    steps = decides.steps()
    known = store.outcomes(TARGET)
    rounds = count(1)  # what is asked again is waited for, so it goes before them

    async def buy(batch: Batch) -> None:
        if isinstance(batch, Drawn):
            drawn = _jobs(config, target, lanes, batch.samples, batch.controls)
            await _work(session, drawn, rank=next(rounds))
            return
        if isinstance(batch, Amplified):
            session.phase = "amplifying"
            works = (partial(amplifying.write, session.collector, row, target, lanes[0]) for row in batch.rows)
            await session.collector.pool(works, workers=config.concurrency)
        else:
            session.phase = PHASES[batch.purpose]
            again = jobs(batch.samples, batch.purpose, target, lanes[0], scored=batch.scored, both=batch.both)
            await _work(session, again)
        session.phase = "sampling"

    begun: dict[Batch, asyncio.Task[None]] = {}
    answer: object = None
    try:
        async with asyncio.TaskGroup() as group:  # what was begun is finished, whatever was decided meanwhile
            while session.stop.reason is None:
                try:
                    step = steps.send(answer)
                except StopIteration:
                    break
                answer = None
                match step:
                    case Buy(batch):
                        begun[batch] = group.create_task(buy(batch))
                    case Wait(batch):
                        await begun[batch]
                    case Think(work):
                        answer = await asyncio.to_thread(work)
                    case Say(line) if len(store.outcomes(TARGET)) > len(known):  # not what was said before
                        session.say(line)
                    case _:
                        pass
    except ExceptionGroup as failures:
        expected = [error for error in failures.exceptions if isinstance(error, BlackboxDiffError)]
        if expected:
            raise expected[0] from None
        raise
    return decides.stopped if session.stop.reason is None else None


async def _work(session: Session, jobs: Iterable[Job], rank: int = 0) -> None:
    await session.collector.run(jobs, _workers(session.config), rank)


def _workers(config: AuditConfig) -> int:
    return 2 * config.concurrency  # one that scores is not buying


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


@asynccontextmanager
async def _reported(session: Session, target: Lane) -> AsyncIterator[None]:
    """Tell the listener where the run stands, now and then while the block runs, and once after it."""
    collector, ledger, limiter = session.collector, target.buyer.ledger, target.buyer.limiter

    def tell() -> None:
        session.listener(
            Progress(
                bought=collector.bought,
                planned=session.planned,
                scored=collector.scored,
                refused=collector.refused,
                failed=collector.failed,
                cost_usd=None if ledger.prices is None else (ledger.settled.pico or 0) / 1e12,
                max_cost_usd=ledger.budget.max_cost,
                output_tokens=ledger.settled.output_tokens,
                in_flight=limiter.in_flight,
                throttled=limiter.slowed(),
                top=collector.leaders.best,
                phase=session.phase,
                themes=collector.leaders.themes,
            )
        )

    async def tick() -> None:
        while True:
            tell()
            await asyncio.sleep(TICK)
            await collector.leaders.refresh()

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await collector.leaders.refresh()
        tell()
