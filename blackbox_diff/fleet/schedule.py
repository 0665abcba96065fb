"""The driver: which audit runs next, with how much money, and when the index is written.

The driver alone holds the purse. It hands each audit its share when the audit starts and takes back what is left
when the audit ends, so no cap needs a lock that workers could overbook. Of audits with the same control one goes
first, and the others borrow its control.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blackbox_diff.errors import BlackboxDiffError
from blackbox_diff.fleet.engines import Engine
from blackbox_diff.fleet.job import Job, row_of
from blackbox_diff.fleet.plan import FleetPlan, Planned
from blackbox_diff.fleet.purse import Purse
from blackbox_diff.fleet.rows import Index, Row
from blackbox_diff.run.collect import TARGET
from blackbox_diff.run.lanes import LOCAL
from blackbox_diff.run.local import serve
from blackbox_diff.runfile.files import FILE
from blackbox_diff.runfile.store import Store

RUNS = "runs"
LEAST_SHARE = 1e-6  # USD: less buys nothing
Told = Callable[[Index], None]


@dataclass(slots=True)
class Driver:
    """One sitting of a fleet.

    ready: audits that may start, in order; behind: audits that wait for another's control, by control key.
    """

    plan: FleetPlan
    out: Path
    engine: Engine
    told: Told
    purse: Purse
    urls: Mapping[str, str] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    ready: list[Planned] = field(default_factory=list)
    behind: dict[str, list[Planned]] = field(default_factory=dict)

    async def run(self) -> Index:
        """All audits to their end, at most `parallel` at once; one that fails fails its row only."""
        self._line_up()
        running: dict[asyncio.Task[Row], Planned] = {}
        try:
            while self.ready or running:
                while self.ready and len(running) < self.plan.settings.parallel:
                    self._begin(self.ready.pop(0), running)
                if not running:
                    break
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self._end(running.pop(task), task)
        finally:
            for task in running:
                task.cancel()
            for task in running:
                with contextlib.suppress(asyncio.CancelledError, BlackboxDiffError):
                    await task
        return self.index()

    def index(self) -> Index:
        """Where the fleet stands; audits in the order of the plan."""
        rows = [self.rows[one.name] for one in self.plan.audits if one.name in self.rows]
        costs = [row.cost_usd for row in rows if row.cost_usd is not None]
        return Index(
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            max_cost_usd=self.plan.settings.max_cost,
            spent_usd=sum(costs) if costs else None,
            rows=[relative(row, self.out) for row in rows],
        )

    def _line_up(self) -> None:
        """Finished audits are rows at once; of the rest, one of each control goes first."""
        leaders: set[str] = set()
        for one in self.plan.audits:
            self.purse.spent[one.name] = spent(self._run(one)) or 0.0
            key = one.control_key
            if key in leaders:
                self.behind.setdefault(key, []).append(one)
            else:
                leaders.add(key)
                self.ready.append(one)

    def _begin(self, one: Planned, running: dict[asyncio.Task[Row], Planned]) -> None:
        waiting = 1 + len(self.ready) + sum(map(len, self.behind.values()))
        before = self.purse.spent.get(one.name, 0.0)
        share = self.purse.take(one.name, waiting, one.config.budget.max_cost)
        job = self._job(one, share)
        if share is not None and share - before < LEAST_SHARE and not (self._run(one) / FILE).is_file():
            self.purse.settle(one.name, before)
            row = Row(
                name=one.name, target=one.config.target.model, url=one.config.target.url, run=job.run,
                status="not bought", error="the fleet's cap left nothing for this audit",
            )  # fmt: skip
            self._take(one, row)
            return
        running[asyncio.create_task(self.engine.run(job))] = one

    def _end(self, one: Planned, task: asyncio.Task[Row]) -> None:
        try:
            row = task.result()
        except Exception as error:  # a worker that died for good, or a fault of ours: the others go on
            row = row_of(self._job(one, None), f"{type(error).__name__}: {error}".splitlines()[0])
        self.purse.settle(one.name, spent(self._run(one)))
        self._take(one, row)

    def _take(self, one: Planned, row: Row) -> None:
        self.rows[one.name] = row
        self.ready.extend(self.behind.pop(one.control_key, []))
        self.told(self.index())

    def _job(self, one: Planned, share: float | None) -> Job:
        donor = next(
            (
                str(self._run(other))
                for other in self.plan.audits
                if other.control_key == one.control_key and other.name != one.name
                and other.name in self.rows and self.rows[other.name].judgements
            ),
            None,
        )  # fmt: skip
        return Job(
            name=one.name,
            run=str(self._run(one)),
            config=one.config.model_dump(mode="json"),
            also=tuple(reference.model_dump(mode="json") for reference in one.also),
            max_cost=share,
            concurrency=self.plan.concurrency(one),
            control_from=donor,
            urls=self.urls,
        )

    def _run(self, one: Planned) -> Path:
        return self.out / RUNS / one.name


async def run_fleet(plan: FleetPlan, out: Path, engine: Engine, told: Told) -> Index:
    """Run what of the fleet is not done yet; `told` gets the index after each audit.

    out: absolute, and reached under the same path by every worker. `local:` references are served once, for all.
    """
    local = local_references(plan.audits)
    async with contextlib.AsyncExitStack() as stack:
        urls = {}
        if local:
            arguments = [part for name, spec in local.values() for part in ("--model", f"{name}={spec}")]
            url = await asyncio.to_thread(stack.enter_context, serve(arguments))
            urls = dict.fromkeys(local, url)
        await stack.enter_async_context(engine)
        driver = Driver(plan, out, engine, told, Purse(plan.settings.max_cost), urls)
        return await driver.run()


def local_references(audits: Iterable[Planned]) -> dict[str, tuple[str, str]]:
    """Label -> (model name, SPEC) of the references that the bundled server serves."""
    return {
        reference.name: (reference.model, reference.url.removeprefix(LOCAL))
        for one in audits
        for reference in one.references
        if reference.url.startswith(LOCAL)
    }


def spent(run: Path) -> float | None:
    """USD that a run's target has cost so far; None where no price is known, 0 where there is no run."""
    if not (run / FILE).is_file():
        return 0.0
    try:
        with Store.open(run, read_only=True) as store:
            return store.spent(TARGET).usd
    except BlackboxDiffError:
        return None


def relative(row: Row, out: Path) -> Row:
    """The row with its paths below the fleet's directory, so that the directory can be moved."""
    paths = {
        name: Path(value).relative_to(out).as_posix()
        for name in ("run", "report")
        if (value := getattr(row, name)) is not None and Path(value).is_relative_to(out)
    }
    return row.model_copy(update=paths)
