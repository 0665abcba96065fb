"""What a run that is still going on shows so far, for whoever watches it: the best completions and what recurs."""

from __future__ import annotations

import asyncio
from collections import deque

from blackbox_diff import sanitize
from blackbox_diff.analysis.rank import rank
from blackbox_diff.analysis.themes import find_themes
from blackbox_diff.analysis.verdict import split
from blackbox_diff.records import ScoredCompletion
from blackbox_diff.run.progress import Emerging, Leader

SHOWN = 3
EXCERPT = 80  # characters
FIRST_LOOK = 40  # completions before anything is said to recur
GROWTH = 1.3  # how many times more there must be for another look
MOST = 1500  # latest completions that a look reads: a long run must not fill the memory


class Leaders:
    """The best completions so far and what recurs in them, in batches: to look at each would delay the buying."""

    def __init__(self) -> None:
        self.best: tuple[Leader, ...] = ()
        self.themes: tuple[Emerging, ...] = ()
        self._rows: list[ScoredCompletion] = []
        self._recent: deque[ScoredCompletion] = deque(maxlen=MOST)
        self._control: deque[str] = deque(maxlen=MOST)
        self._taken = 0
        self._themes_at = FIRST_LOOK

    def add(self, row: ScoredCompletion) -> None:
        """Take in a completion of the target; `refresh` ranks it. Its first score is the one that counts."""
        self._rows.append(row)
        self._recent.append(row)
        self._taken += 1

    def hear(self, text: str) -> None:
        """Take in a completion that the reference wrote itself."""
        self._control.append(text)

    async def refresh(self) -> None:
        """Rank what has come since the last time, on another thread; look for what recurs once there is more."""
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
        if self._taken >= self._themes_at and self._control:
            self._themes_at = int(self._taken * GROWTH) + 1
            self.themes = await asyncio.to_thread(_recurring, list(self._recent), label, list(self._control))


def _recurring(rows: list[ScoredCompletion], label: str, control: list[str]) -> tuple[Emerging, ...]:
    found = find_themes(rank([row for row in rows if label in row.scores], label, "score"), control)
    strong, _ = split(found)  # what is no stronger than a harmless finetune's habits is not shown as content
    return tuple(Emerging(theme.phrase, theme.count, theme.background) for theme in strong[:SHOWN])
