"""One audit of a fleet as a task that any worker can do: plain data in, a row out. The run file is its memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blackbox_diff.config.model import AuditConfig, overlaid, parse_config, parse_endpoint
from blackbox_diff.errors import BlackboxDiffError
from blackbox_diff.fleet.compare import compare_runs
from blackbox_diff.fleet.costs import spent, totals, watch_record
from blackbox_diff.fleet.phrases import write_phrases
from blackbox_diff.fleet.rows import Judgement, Row
from blackbox_diff.report import wording
from blackbox_diff.report.write import write_reports
from blackbox_diff.run.commands import Company, go_on, start
from blackbox_diff.run.pipeline import FINISHED
from blackbox_diff.run.results import Results, read_run, summarise
from blackbox_diff.run.watch import watch_run
from blackbox_diff.runfile.files import FILE
from blackbox_diff.runfile.store import Store

THEMES, TOP = 3, 100


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs. config, also: an audit's configuration and further references, as plain data.

    max_cost: USD in all, the fleet's share; concurrency: calls in flight; control_from: a run of the same
    references whose control is this one's, too. Paths are absolute.
    """

    name: str
    run: str
    config: Mapping[str, Any]
    also: tuple[Mapping[str, Any], ...] = ()
    max_cost: float | None = None
    concurrency: int = 1
    control_from: str | None = None
    earlier: Row | None = None  # how an earlier fleet's audit of the same name stood, with absolute paths
    urls: Mapping[str, str] = field(default_factory=dict)  # where `local:` references are served, by label
    home: str | None = None  # the fleet's URL, where its runs are moved to; `control_from` is then an audit's name


async def audit_one(job: Job) -> Row:
    """Start or go on with the audit, and say how it stands. An expected failure is a row, never an exception."""
    run = Path(job.run)
    try:
        unchanged = await _unchanged(job, run)
        if unchanged is not None:
            return unchanged
        await _collect(job, run)
        error = None
    except BlackboxDiffError as failure:
        error = str(failure)
    return await asyncio.to_thread(row_of, job, error)


async def _unchanged(job: Job, run: Path) -> Row | None:
    """The earlier row where the target still answers as it did then; None where it has to be audited."""
    earlier = job.earlier
    if earlier is None or (run / FILE).is_file():
        return None
    config = parse_config(dict(job.config), job.name)
    budget = config.budget.model_copy(update={"max_cost": job.max_cost})
    target = config.target.model_dump(mode="json")
    found = await watch_run(Path(earlier.run), target, record=watch_record(run), budget=budget)
    if found.outcome != "same":
        return None
    asked = await asyncio.to_thread(totals, run)
    return earlier.model_copy(
        update={
            "status": "unchanged",
            "change": f"none: {found.sentence}",
            "changed": False,
            "calls": sum(each.calls for each in asked),
            "output_tokens": sum(each.output_tokens for each in asked),
            "cost_usd": await asyncio.to_thread(spent, watch_record(run)),
            "seconds": 0.0,
        }
    )


async def _collect(job: Job, run: Path) -> None:
    changes: dict[str, Any] = {"concurrency": job.concurrency}
    if job.max_cost is not None:
        watched = await asyncio.to_thread(spent, watch_record(run))
        changes["budget"] = {"max_cost": max(0.0, job.max_cost - (job.max_cost if watched is None else watched))}
    config = parse_config(overlaid(job.config, changes), job.name)
    company = Company(
        also=tuple(parse_endpoint(dict(each), job.name) for each in job.also),
        served=job.urls,
        control=Path(job.control_from) if job.control_from else None,
    )
    if not await asyncio.to_thread((run / FILE).is_file):
        await start(config, run, company=company)
    elif not is_done(run, config):
        await go_on(run, changes, company=company)


def is_done(run: Path, config: AuditConfig) -> bool:
    """Whether everything that `config` asks for is bought and scored."""
    with Store.open(run, read_only=True) as store:
        before = store.config
        return store.state.stopped_because == FINISHED and before.completions >= config.completions


def change_since(earlier: Row, run: Path) -> tuple[str, bool | None]:
    """What `compare` says of the earlier fleet's run and this one, and whether something changed."""
    try:
        found = compare_runs(Path(earlier.run), run)
    except BlackboxDiffError as error:
        return f"unknown: {error}", None
    return found.sentence, found.outcome == "changed"


def row_of(job: Job, error: str | None) -> Row:
    """How the audit stands, from its run file; writes its report beside it."""
    run = Path(job.run)
    target = job.config["target"]
    row = Row(name=job.name, target=target["model"], url=target["url"], run=job.run, status="failed", error=error)
    if not (run / FILE).is_file():
        return row
    try:
        with Store.open(run, read_only=True) as store:
            labels, summary = store.references(), summarise(store, str(run), 0)
            finished = store.state.stopped_because == FINISHED
        asked = totals(run)
        results = [read_run(run, reference=label) for label in labels]
        if results:
            write_reports(results[0], html=run / "report.html")
            write_phrases(results[0], job.name, run)
    except BlackboxDiffError as failure:
        return row.model_copy(update={"error": error or str(failure)})
    change, changed = change_since(job.earlier, run) if job.earlier and results else (None, None)
    return row.model_copy(
        update={
            "status": "failed" if error else "done" if finished else "stopped",
            "report": str(run / "report.html") if results else None,
            "judgements": [judgement(each) for each in results],
            "completions": summary.completions,
            "calls": sum(each.calls for each in asked),
            "output_tokens": sum(each.output_tokens for each in asked),
            "cost_usd": spent(watch_record(run), run),
            "change": change,
            "changed": changed,
            "seconds": summary.seconds,
            "stopped_because": summary.stopped_because,
        }
    )


def judgement(results: Results) -> Judgement:
    """What one reference says."""
    analysis = results.analysis
    return Judgement(
        reference=analysis.reference,
        outcome=analysis.verdict.outcome,
        headline=wording.headline(analysis),
        themes=[wording.entry_name(entry) for entry in wording.recurring(analysis)[0][:THEMES]],
        top=[row.id for row in analysis.ranking[:TOP]],
    )
