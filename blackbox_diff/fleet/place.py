"""Where a fleet's files are: a directory that driver and workers reach under one path, or a URL (away.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from blackbox_diff.errors import BlackboxDiffError, ConfigError
from blackbox_diff.fleet import costs, themes
from blackbox_diff.fleet.index import is_fleet, read_index, write_index
from blackbox_diff.fleet.job import is_done
from blackbox_diff.fleet.plan import Planned
from blackbox_diff.fleet.rows import Family, Index, Row
from blackbox_diff.runfile.files import FILE


class Place(Protocol):
    """What the driver asks of a fleet's files. out: their directory on this machine; home: their URL, if any."""

    out: Path
    home: str | None

    def committed(self, name: str) -> float | None: ...
    def begun(self, name: str) -> bool: ...
    def is_done(self, one: Planned, row: Row) -> bool: ...
    def control_of(self, row: Row) -> str: ...
    def before(self) -> list[Row]: ...
    def publish(self, index: Index) -> None: ...
    def themes(self, rows: Sequence[Row]) -> list[Family]: ...


class OnDisk:
    """A directory."""

    home: str | None = None

    def __init__(self, out: Path) -> None:
        self.out = out.absolute()
        if self.out.is_file():
            raise ConfigError(f"--out: {out} is a file: give a directory")

    def committed(self, name: str) -> float | None:
        return costs.committed(self._run(name))

    def begun(self, name: str) -> bool:
        return (self._run(name) / FILE).is_file()

    def is_done(self, one: Planned, row: Row) -> bool:
        try:
            return is_done(self._run(one.name), one.config)
        except BlackboxDiffError:
            return False

    def control_of(self, row: Row) -> str:
        return str(self.out / row.run)

    def before(self) -> list[Row]:
        return read_index(self.out).rows if is_fleet(self.out) else []

    def publish(self, index: Index) -> None:
        write_index(index, self.out)

    def themes(self, rows: Sequence[Row]) -> list[Family]:
        return themes.themes_of(self.out, rows)

    def _run(self, name: str) -> Path:
        return self.out / costs.RUNS / name


def place_of(out: str) -> Place:
    """The place that --out names. Raises ConfigError for a URL that no driver takes."""
    if "://" not in out:
        return OnDisk(Path(out))
    from blackbox_diff.fleet.away import Away

    return Away(out)
