"""The best completions of a run that is still going on, for whoever watches it."""

from __future__ import annotations

import asyncio

from blackbox_diff import sanitize
from blackbox_diff.analysis.rank import rank
from blackbox_diff.records import ScoredCompletion
from blackbox_diff.run.progress import Leader

SHOWN = 3
EXCERPT = 80  # characters


class Leaders:
    """The best completions so far, ranked in batches: to rank each as it comes would hold up the buying."""

    def __init__(self) -> None:
        self.best: tuple[Leader, ...] = ()
        self._rows: list[ScoredCompletion] = []

    def add(self, row: ScoredCompletion) -> None:
        """Take in a completion; `refresh` ranks it. Its first score is the one that counts."""
        self._rows.append(row)

    async def refresh(self) -> None:
        """Rank what has come since the last time, on another thread."""
        rows, label = list(self._rows), next((label for row in self._rows for label in row.scores), None)
        if label is None:
            return
        ranked = (await asyncio.to_thread(rank, rows, label, "score", with_segments=0))[:SHOWN]
        kept = {row.id for row in ranked}
        fresh = self._rows[len(rows) :]
        self._rows = [row for row in rows if row.sample.id in kept] + fresh
        self.best = tuple(
            Leader(row.value, "".join(sanitize.excerpt(row.completion, row.peak, EXCERPT))) for row in ranked
        )
