"""What a fleet's audit has cost its target's owner, read from its files: the run, and the watch before it.

The run lies in FLEET/runs/NAME, the record of its watch in FLEET/watched/NAME.
"""

from __future__ import annotations

from pathlib import Path

from blackbox_diff.errors import BlackboxDiffError
from blackbox_diff.run.collect import TARGET
from blackbox_diff.runfile.files import FILE, in_use
from blackbox_diff.runfile.rows import Spent
from blackbox_diff.runfile.store import Store

RUNS, WATCHED = "runs", "watched"


def watch_record(run: Path) -> Path:
    """Where the calls are kept that asked whether the model is still the one of an earlier fleet."""
    return run.parent.parent / WATCHED / run.name


def totals(run: Path) -> list[Spent]:
    """What the target was asked, in the run and in the watch before it; raises what reading a run raises."""
    return [_total(path) for path in (watch_record(run), run)]


def spent(*paths: Path) -> float | None:
    """USD spent on the target in these run files; None where that is not known, 0 where there are none."""
    try:
        costs = [each.usd if each.calls else 0.0 for each in map(_total, paths)]
    except BlackboxDiffError:
        return None
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def committed(run: Path) -> float | None:
    """What an audit's target has cost; where another process still works on the run, all that its cap allows.

    A worker may outlive its driver. What it goes on spending must not be given away a second time.
    """
    watching, running = spent(watch_record(run)), spent(run)
    if watching is None or running is None:
        return None
    if not in_use(run):
        return watching + running
    try:
        with Store.open(run, read_only=True) as store:
            cap = store.config.budget.max_cost
    except BlackboxDiffError:
        return None
    return None if cap is None else watching + max(running, cap)


def _total(path: Path) -> Spent:
    if not (path / FILE).is_file():
        return Spent()
    with Store.open(path, read_only=True) as store:
        return store.spent(TARGET)
