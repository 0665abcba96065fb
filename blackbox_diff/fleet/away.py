"""A fleet in an object store or on a server: its directory is a URL that fsspec has a driver for.

    URL/index.html, fleet.json, fleet.parquet
    URL/runs/NAME/claim.json                                     what the audit has cost, or may cost while at work
    URL/runs/NAME/run.sqlite, report.html, phrases.parquet

A run is a database and needs a disk: a worker fetches it, works on its copy, and moves it back when the audit is
finished or stopped. Each file is uploaded beside its place and then moved there. The copy is removed once all of
it is there, so what was bought is never in neither place.

A worker claims an audit before it spends: from then on the audit counts with all that it may cost, until its run
is back. A worker that dies leaves its copy on its disk. One that has the claim's own copy goes on with it; one on
another machine starts from what the store has, and what the lost copy may have spent stays spent. So the cap holds
in any case.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from blackbox_diff.errors import BlackboxDiffError, ConfigError, RunFileError, StorageError
from blackbox_diff.fleet.costs import RUNS, spent
from blackbox_diff.fleet.index import DATA, read_index, write_index
from blackbox_diff.fleet.job import Job, audit_one
from blackbox_diff.fleet.phrases import PHRASES
from blackbox_diff.fleet.plan import Planned
from blackbox_diff.fleet.purse import LEAST_SHARE
from blackbox_diff.fleet.rows import Family, Index, Row, Status
from blackbox_diff.fleet.themes import families
from blackbox_diff.runfile.files import FILE, WAL, in_use
from blackbox_diff.runfile.store import Store

CLAIM, REPORT = "claim.json", "report.html"
HINT = "pip install 'blackbox-diff[fsspec]'"
TURN = threading.RLock()  # audits of one process share a driver's instance, and not every driver bears two at once


class Claim(BaseModel):
    """What an audit costs, USD: `at_most` while a worker has it, then `spent`; None where no price is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    spent: float | None
    at_most: float | None = None
    at_work: bool = False

    @property
    def committed(self) -> float | None:
        return self.at_most if self.at_work else self.spent


@dataclass(frozen=True, slots=True)
class Taken:
    """An audit in a worker's hands. lost: USD that a copy which is not here may have spent."""

    run: Path
    claim: Claim
    lost: float
    control: Path | None

    @property
    def max_cost(self) -> float | None:
        """What the copy that is here may cost in all."""
        return None if self.claim.at_most is None else max(0.0, self.claim.at_most - self.lost)


class Away:
    """A fleet's place behind a URL. out: where its files are on this machine while they are worked on.

    Raises ConfigError for a URL that no driver takes, and StorageError where the store can't be read or written.
    """

    def __init__(self, url: str) -> None:
        self.home: str | None = url.rstrip("/")
        if urlsplit(url).password or urlsplit(url).username:
            raise ConfigError("--out: the URL holds a user or a password: give them as its driver's variables")
        try:
            import fsspec
        except ImportError:
            raise ConfigError(f"--out: {url}: fsspec is not installed: {HINT}") from None
        try:
            self._files, self._root = fsspec.core.url_to_fs(url.rstrip("/"))
        except (ValueError, ImportError) as error:
            raise ConfigError(f"--out: {url}: {str(error).splitlines()[0]}") from None
        cache = os.environ.get("BLACKBOX_DIFF_CACHE") or Path.home() / ".cache" / "blackbox-diff"
        self.out = Path(cache) / "fleets" / sha256(url.rstrip("/").encode()).hexdigest()[:16]

    # What the driver asks

    def committed(self, name: str) -> float | None:
        """USD that an audit counts with; None where that is not known."""
        claim = self._claim(name)
        return 0.0 if claim is None else claim.committed

    def begun(self, name: str) -> bool:
        return self._claim(name) is not None

    def is_done(self, one: Planned, row: Row) -> bool:
        return row.completions >= one.config.completions

    def control_of(self, row: Row) -> str:
        return row.name

    def before(self) -> list[Row]:
        """The rows of the last sitting."""
        return read_index(self.out).rows if self._fetch(DATA, self.out / DATA) else []

    def publish(self, index: Index) -> None:
        for file in write_index(index, self.out):
            self._put(file, file.name)

    def themes(self, rows: Sequence[Row]) -> list[Family]:
        with self._turn():
            names = [f"{self._root}/{RUNS}/{row.name}/{PHRASES}" for row in rows if row.judgements]
            there = [name for name in names if self._files.exists(name)]
        return families(there, self._files) if len(there) > 1 else []

    # What a worker does

    def take(self, job: Job) -> Taken:
        """Claim an audit and lay its run where it can be worked on."""
        run = self.out / RUNS / job.name
        if in_use(run):
            raise RunFileError(f"{run}: in use by another process of this machine: wait for it or end it")
        before, here = self._claim(job.name), _read(run / CLAIM)
        lost = 0.0
        claim = Claim(id=uuid.uuid4().hex, spent=None, at_most=job.max_cost, at_work=True)
        if before is not None and here is not None and before.id == here.id:
            claim = claim.model_copy(
                update={"id": before.id}
            )  # the copy that was left here, with all it has spent
        else:
            if run.exists():
                run.rename(run.with_name(f"{run.name}.left-{uuid.uuid4().hex[:8]}"))
            run.mkdir(parents=True)
            self._fetch(f"{RUNS}/{job.name}/{FILE}", run / FILE)
            if before is not None and before.committed is not None:
                lost = max(0.0, before.committed - (spent(run) or 0.0))
            (run / CLAIM).write_text(claim.model_dump_json(), encoding="utf-8")
        self._write(job.name, claim)
        control = None
        if job.control_from is not None:
            fetched = Path(tempfile.mkdtemp(prefix="control-", dir=self.out))
            control = fetched if self._fetch(f"{RUNS}/{job.control_from}/{FILE}", fetched / FILE) else None
        return Taken(run, claim, lost, control)

    def give_back(self, job: Job, taken: Taken, row: Row) -> Row:
        """Move the run to the store. Where that fails the row says so, and the copy stays where it is."""
        place = f"{RUNS}/{job.name}"
        if taken.control is not None:
            shutil.rmtree(taken.control, ignore_errors=True)
        try:
            cost = spent(taken.run)
            if (taken.run / FILE).is_file() and (taken.run / WAL).is_file():
                Store.open(taken.run).close()  # brings what a killed worker left beside the file into it
            now = self._claim(job.name)
            if now is None or now.id != taken.claim.id:
                raise StorageError("another worker has taken the audit over")
            for name in (PHRASES, REPORT, FILE):
                if (taken.run / name).is_file():
                    self._put(taken.run / name, f"{place}/{name}")
            cost = None if cost is None else cost + taken.lost
            self._write(job.name, Claim(id=taken.claim.id, spent=cost))
            shutil.rmtree(taken.run)
        except (BlackboxDiffError, OSError) as error:
            said = (
                f"{self.home}/{place} is not written ({error}): the run lies in {taken.run} on "
                f"{socket.gethostname()}, and a fleet that goes on there moves it"
            )
            return row.model_copy(update={"status": "failed", "run": place, "report": None, "error": said})
        report = f"{place}/{REPORT}" if row.report else None
        return row.model_copy(update={"run": place, "report": report, "cost_usd": cost})

    # The store

    def _claim(self, name: str) -> Claim | None:
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / CLAIM
            return _read(file) if self._fetch(f"{RUNS}/{name}/{CLAIM}", file) else None

    def _write(self, name: str, claim: Claim) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / CLAIM
            file.write_text(claim.model_dump_json(), encoding="utf-8")
            self._put(file, f"{RUNS}/{name}/{CLAIM}")

    def _put(self, file: Path, name: str) -> None:
        target = f"{self._root}/{name}"
        part = f"{target}.part-{uuid.uuid4().hex[:8]}"
        with self._turn():
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(file), part)
            self._files.mv(part, target)

    def _fetch(self, name: str, file: Path) -> bool:
        """Bring a file here, whole or not at all; False where the store has none."""
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f"{file.name}.part")
        with self._turn():
            try:
                self._files.get_file(f"{self._root}/{name}", str(part))
            except FileNotFoundError:
                part.unlink(missing_ok=True)
                return False
        part.replace(file)
        return True

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """The store's turn: one operation at a time in this process, and its error as ours."""
        try:
            with TURN:
                yield
        except Exception as error:  # each driver has errors of its own
            text = str(error).splitlines()
            raise StorageError(
                f"{self.home}: {type(error).__name__}: {text[0] if text else 'no answer'}"
            ) from None


def _read(file: Path) -> Claim | None:
    try:
        return Claim.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise StorageError(
            f"{file.name} is not a claim: the fleet's directory was written by something else"
        ) from None


def nothing_of(job: Job, status: Status, error: str) -> Row:
    """The row of an audit that has no run here."""
    target: Any = job.config["target"]
    return Row(
        name=job.name,
        target=target["model"],
        url=target["url"],
        run=f"{RUNS}/{job.name}",
        status=status,
        error=error,
    )


async def audit_away(job: Job) -> Row:
    """`audit_one` on a copy of a run that lies behind the URL `job.home`."""
    place = Away(str(job.home))
    try:
        taken = await asyncio.to_thread(place.take, job)
    except BlackboxDiffError as error:
        return nothing_of(job, "failed", str(error))
    if taken.max_cost is not None and taken.max_cost < LEAST_SHARE and not (taken.run / FILE).is_file():
        left = nothing_of(job, "not bought", "the fleet's cap left nothing for this audit")
        return await asyncio.to_thread(place.give_back, job, taken, left)
    here = replace(
        job,
        home=None,
        run=str(taken.run),
        max_cost=taken.max_cost,
        control_from=None if taken.control is None else str(taken.control),
    )
    return await asyncio.to_thread(place.give_back, job, taken, await audit_one(here))
