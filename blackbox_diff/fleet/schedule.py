"""The driver: which audit runs next, with how much money, and when the index is written.

The driver alone holds the purse. It hands each audit its share when the audit starts and takes back what is left
when the audit ends, so no cap needs a lock that workers could overbook. Of audits with the same control one goes
first, and the others borrow its control.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blackbox_diff.errors import BlackboxDiffError
from blackbox_diff.fleet.costs import RUNS
from blackbox_diff.fleet.engines import Engine
from blackbox_diff.fleet.index import read_index
from blackbox_diff.fleet.job import Job, row_of
from blackbox_diff.fleet.place import Place
from blackbox_diff.fleet.plan import FleetPlan, Planned
from blackbox_diff.fleet.purse import LEAST_SHARE, Purse
from blackbox_diff.fleet.rows import ENDED, Index, Row
from blackbox_diff.run.lanes import LOCAL
from blackbox_diff.run.local import serve

Told = Callable[[Index], None]


@dataclass(slots=True)
class Driver:
    """One sitting of a fleet.

    before: rows of the last sitting in `out`; earlier: those of an earlier fleet, paths absolute; both by name.
    ready: audits that may start, in order; behind: audits that wait for another's control, by control key.
    """

    plan: FleetPlan
    place: Place
    engine: Engine
    told: Told
    purse: Purse
    urls: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, Row] = field(default_factory=dict)
    earlier: Mapping[str, Row] = field(default_factory=dict)
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
            rows=[relative(row, self.place.out) for row in rows],
        )

    def _line_up(self) -> None:
        """Finished audits are rows at once; of the rest, one of each control goes first."""
        leaders: set[str] = set()
        for one in self.plan.audits:
            self.purse.settle(one.name, self.place.committed(one.name), one.config.budget.max_cost)
            row = self.before.get(one.name)
            if row is not None and self._stands(one, row):
                self.rows[one.name] = row
        for one in self.plan.audits:
            if one.name in self.rows:
                continue
            key = one.control_key
            if self._donor(one) is not None:
                self.ready.append(one)
            elif key in leaders:
                self.behind.setdefault(key, []).append(one)
            else:
                leaders.add(key)
                self.ready.append(one)

    def _stands(self, one: Planned, row: Row) -> bool:
        """Whether nothing is left to do for an audit that the last sitting finished."""
        if row.status == "unchanged":
            return True
        labels = {each.reference for each in row.judgements}
        wanted = {reference.name for reference in one.references}
        return row.status == "done" and labels >= wanted and self.place.is_done(one, row)

    def _begin(self, one: Planned, running: dict[asyncio.Task[Row], Planned]) -> None:
        waiting = 1 + len(self.ready) + sum(map(len, self.behind.values()))
        before = self.purse.spent.get(one.name, 0.0)
        share = self.purse.take(one.name, waiting, one.config.budget.max_cost)
        job = self._job(one, share)
        if share is not None and share - before < LEAST_SHARE and not self.place.begun(one.name):
            self.purse.settle(one.name, before)
            row = Row(
                name=one.name, target=one.config.target.model, url=one.config.target.url, run=job.run,
                status="not bought", error="the fleet's cap left nothing for this audit",
            )  # fmt: skip
            self._record(one, row)
            return
        running[asyncio.create_task(self.engine.run(job))] = one

    def _end(self, one: Planned, task: asyncio.Task[Row]) -> None:
        try:
            row = task.result()
        except Exception as error:  # a worker that died for good, or a fault of ours: the others go on
            row = row_of(self._job(one, None), f"{type(error).__name__}: {error}".splitlines()[0])
        self.purse.settle(one.name, self.place.committed(one.name))
        self._record(one, row)

    def _record(self, one: Planned, row: Row) -> None:
        self.rows[one.name] = row
        waiting = self.behind.pop(one.control_key, [])
        if waiting and self._donor(waiting[0]) is None:  # no control to borrow: the next one buys it
            self.behind[one.control_key] = waiting[1:]
            waiting = waiting[:1]
        self.ready.extend(waiting)
        self.told(self.index())

    def _donor(self, one: Planned) -> str | None:
        """A run of this fleet or of the earlier one whose control is this audit's, too."""
        return next(
            (
                self.place.control_of(self.rows[other.name])
                for other in self.plan.audits
                if other.name in self.rows and other.control_key == one.control_key and other.name != one.name
                and self.rows[other.name].judgements
            ),
            None,
        )  # fmt: skip

    def _job(self, one: Planned, share: float | None) -> Job:
        return Job(
            name=one.name,
            run=str(self._run(one)),
            config=one.config.model_dump(mode="json"),
            also=tuple(reference.model_dump(mode="json") for reference in one.also),
            max_cost=share,
            concurrency=self.plan.concurrency(one),
            control_from=self._donor(one),
            earlier=self.earlier.get(one.name),
            urls=self.urls,
            home=self.place.home,
        )

    def _run(self, one: Planned) -> Path:
        return self.place.out / RUNS / one.name


async def run_fleet(
    plan: FleetPlan, place: Place, engine: Engine, told: Told, *, since: Path | None = None
) -> Index:
    """Run what of the fleet is not done yet; `told` gets the index after each audit.

    place: reached by every worker, by one path or its URL. `local:` references are served once, for all.
    since: the directory of an earlier fleet, whose models are asked first whether they changed. Raises InputError
    where there is none.
    """
    before = {row.name: row for row in place.before()}
    earlier = {} if since is None else standing(since)
    local = local_references(plan.audits)
    async with contextlib.AsyncExitStack() as stack:
        urls = {}
        if local:
            arguments = [part for name, spec in local.values() for part in ("--model", f"{name}={spec}")]
            url = await asyncio.to_thread(stack.enter_context, serve(arguments))
            urls = dict.fromkeys(local, url)
        await stack.enter_async_context(engine)
        driver = Driver(plan, place, engine, told, Purse(plan.settings.max_cost), urls, before, earlier)
        index = await driver.run()
    return index.model_copy(update={"families": await asyncio.to_thread(place.themes, index.rows)})


def local_references(audits: Iterable[Planned]) -> dict[str, tuple[str, str]]:
    """Label -> (model name, SPEC) of the references that the bundled server serves."""
    return {
        reference.name: (reference.model, reference.url.removeprefix(LOCAL))
        for one in audits
        for reference in one.references
        if reference.url.startswith(LOCAL)
    }


def standing(since: Path) -> dict[str, Row]:
    """The audits that an earlier fleet brought to an end, by name, with absolute paths."""
    since = since.absolute()
    return {
        row.name: row.model_copy(
            update={
                "run": os.path.normpath(since / row.run),
                "report": row.report and os.path.normpath(since / row.report),
            }
        )
        for row in read_index(since).rows
        if row.status in ENDED
    }


def relative(row: Row, out: Path) -> Row:
    """The row with its paths relative to the fleet's directory, which can then be moved."""
    paths = {
        name: Path(os.path.relpath(out / value, out)).as_posix()
        for name in ("run", "report")
        if (value := getattr(row, name)) is not None
    }
    return row.model_copy(update=paths)
