"""What is asked again, apart from the ranking: the jobs that buy it, and what a run file holds of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from blackbox_diff.analysis.analyse import analyse
from blackbox_diff.analysis.listed_words import masses
from blackbox_diff.analysis.promoted import promoted_words
from blackbox_diff.analysis.rank import rank
from blackbox_diff.analysis.themes import find_themes
from blackbox_diff.config.model import AuditConfig
from blackbox_diff.design import follow_ups
from blackbox_diff.design.apart import FOLLOW_UP, apart
from blackbox_diff.findings import Promoted, Question, Ranked, Theme
from blackbox_diff.records import Completion, Listed, ScoredCompletion
from blackbox_diff.run.collect import TARGET, Job, Lane
from blackbox_diff.runfile.store import Store

WAVES = 2  # the second follows what the first brought back


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is to follow: words, themes, and the rows that they stand in, the strongest first."""

    promoted: tuple[Promoted, ...]
    themes: tuple[Theme, ...]
    ranking: tuple[Ranked, ...]

    def leads(self) -> tuple[follow_ups.Lead, ...]:
        return follow_ups.leads(self.promoted, self.themes, self.ranking)


def jobs(
    asked: Sequence[Question], purpose: str, target: Lane, reference: Lane, scorers: tuple[Lane, ...]
) -> list[Job]:
    """Every question's samples from target and reference in turn; `scorers` score what the target writes."""
    ours, theirs = (replace(lane, label=apart(purpose, lane.label)) for lane in (target, reference))
    return [
        job
        for question in asked
        for sample in question.samples
        for job in (Job(ours, sample, scorers, frozenset()), Job(theirs, sample, (), frozenset()))
    ]


def texts(store: Store, origin: str) -> dict[str, str]:
    """Sample's id -> what was written, of one origin."""
    rows = store.decided(origin)
    return {sample.id: outcome.text for sample, outcome, _ in rows if isinstance(outcome, Completion)}


def evidence(store: Store, config: AuditConfig, reference: str) -> Callable[[], Evidence]:
    """What the ranked completions show: read at once, worked out where it is called, perhaps on a thread."""
    rows, control = list(store.scored(TARGET)), list(store.scored(reference))
    listed = list(store.listed(TARGET, reference))

    def work() -> Evidence:
        found = analyse(rows, control, reference, seed=config.seed, listed=listed)
        return Evidence(found.promoted, (*found.themes, *found.signals), found.ranking)

    return work


def returned(store: Store, config: AuditConfig, reference: str) -> Callable[[], Evidence]:
    """What the follow-ups brought back, of the target's and not of the reference's, read like `evidence`."""
    asked = {sample.id for question in store.state.follow_ups for sample in question.samples}
    ours = apart(FOLLOW_UP, TARGET)
    rows = [row for row in store.scored(ours) if row.sample.id in asked]
    theirs = [text for name, text in texts(store, apart(FOLLOW_UP, reference)).items() if name in asked]
    listed = [each for each in store.listed(ours, reference) if each.sample.id in asked]
    control = list(texts(store, reference).values())
    return lambda: brought_back(rows, theirs, control, listed, reference, seed=config.seed)


def brought_back(
    rows: Sequence[ScoredCompletion],
    theirs: Sequence[str],
    control: Sequence[str],
    listed: Sequence[Listed],
    reference: str,
    *,
    seed: int,
) -> Evidence:
    """What recurs in the target's answers `rows`, beside the reference's to the same prefills and its control."""
    ranking = rank([row for row in rows if reference in row.scores], reference, "score")
    themes = find_themes(ranking, theirs, others=[control] if control else [], seed=seed)
    return Evidence(promoted_words(masses(listed), [*theirs, *control]), themes, ranking)
