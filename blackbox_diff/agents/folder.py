"""The folder of an agent's runs: one process at a time, names that lead nowhere else, and what it all has cost.

NAME/run.sqlite               an audit, named by this module
asks/TARGET--REFERENCE-.../   what the agent asked, one run file per pair
probes/PURPOSE-LABEL-.../     what probes cost and found
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from blackbox_diff.agents.answers import RunLine
from blackbox_diff.agents.problems import ToolError
from blackbox_diff.config.model import EndpointConfig
from blackbox_diff.errors import ConfigError, RunFileError
from blackbox_diff.run.collect import TARGET
from blackbox_diff.runfile.files import FILE, locked
from blackbox_diff.runfile.rows import Spent
from blackbox_diff.runfile.store import Store

ASKS, PROBES = "asks", "probes"
MOST_LISTED = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


@contextmanager
def held(folder: Path) -> Iterator[Folder]:
    """The folder, made where it is missing, held until the block ends.

    Raises ConfigError where it can't be made or written, RunFileError where another process holds it: two would
    each spend the whole cap.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder))
        except OSError as error:
            raise ConfigError(
                f"{folder}: can't be used for runs: {error.strerror or error}: give another"
            ) from None
        yield Folder(folder)


class Folder:
    """Runs by name. No name leads out of the folder, nor into what the tools keep there for themselves."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    def run(self, name: str) -> Path:
        """Where the run of this name lies. Raises ToolError where there is none."""
        place = self.path / name
        safe = _NAME.fullmatch(name) is not None and name not in (ASKS, PROBES)
        if not safe or place.resolve().parent != self.path or not (place / FILE).is_file():
            raise ToolError(
                "no_such_run", "there is no run of that name", "take a name that `list_runs` or `start_audit` gave"
            )
        return place

    def unused(self, target: str) -> str:
        """A name for a new run of `target`."""
        stem, number = slug(target), 1
        while (self.path / f"{stem}-{number}").exists():
            number += 1
        return f"{stem}-{number}"

    def asks(self, target: EndpointConfig, reference: EndpointConfig) -> Path:
        """Where questions to a pair lie: another place where a label has come to mean another endpoint."""
        return self.path / ASKS / f"{slug(target.name)}--{slug(reference.name)}-{_digest(target, reference)}"

    def probe(self, purpose: str, endpoint: EndpointConfig) -> Path:
        return self.path / PROBES / f"{purpose}-{slug(endpoint.name)}-{_digest(endpoint)}"

    def spent(self) -> Iterator[Spent]:
        """What each run file below the folder has cost.

        Raises RunFileError for one that can't be read: a cap that forgets what was spent is none.
        """
        for file in sorted(self.path.rglob(FILE)):
            with Store.open(file.parent, read_only=True) as store:
                yield store.spent()

    def names(self) -> list[str]:
        """Names of the audits, the newest first."""
        files = [file for file in self.path.glob(f"*/{FILE}") if _NAME.fullmatch(file.parent.name)]
        return [file.parent.name for file in sorted(files, key=lambda file: (-file.stat().st_mtime, file))]

    def line(self, name: str, running: bool) -> RunLine:
        """How one run stands."""
        try:
            with Store.open(self.path / name, read_only=True) as store:
                config, state = store.config, store.state
                bought = sum(
                    number for (_, _, outcome, _), number in store.counts(TARGET).items() if outcome == "completed"
                )
                return RunLine(
                    run=name,
                    target=config.target.name,
                    reference="" if config.reference is None else config.reference.name,
                    state="running" if running else "stopped" if state.complete is None else "complete",
                    completions=bought,
                    asked_for=config.completions,
                    created=store.manifest.created,
                )
        except RunFileError:
            return RunLine(
                run=name, target="", reference="", state="unreadable", completions=0, asked_for=0, created=""
            )


def _digest(*endpoints: EndpointConfig) -> str:
    text = "\0".join(f"{each.url} {each.model} {each.dialect} {each.provider}" for each in endpoints)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def slug(label: str) -> str:
    """A label as a part of a path."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", label).strip("-")[:60] or "model"
