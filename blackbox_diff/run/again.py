"""What is asked again, apart from the ranking: the jobs that buy it, and what a run file holds of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from blackbox_diff.analysis.listed_words import masses
from blackbox_diff.analysis.promoted import promoted_words
from blackbox_diff.analysis.rank import rank
from blackbox_diff.analysis.themes import find_themes
from blackbox_diff.config.model import AuditConfig
from blackbox_diff.design import follow_ups
from blackbox_diff.design.apart import FOLLOW_UP, VALIDATION, apart
from blackbox_diff.findings import Promoted, Ranked, Theme
from blackbox_diff.prefills import draw
from blackbox_diff.prefills.plan import arm_samples, shares
from blackbox_diff.records import Arm, Completion, Sample
from blackbox_diff.run.collect import TARGET, Job, Lane
from blackbox_diff.runfile.store import Store


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is to follow: words, themes, and the rows that they stand in, the strongest first."""

    promoted: tuple[Promoted, ...]
    themes: tuple[Theme, ...]
    ranking: tuple[Ranked, ...]

    @property
    def says_something(self) -> bool:
        return bool(self.themes) or any(not each.style for each in self.promoted)

    def leads(self) -> tuple[follow_ups.Lead, ...]:
        return follow_ups.leads(self.promoted, self.themes, self.ranking)


NOTHING = Evidence((), (), ())


def jobs(
    samples: Sequence[Sample], purpose: str, target: Lane, reference: Lane, *, scored: bool, both: bool = True
) -> Iterator[Job]:
    """Samples from target and (with `both`) reference in turn. scored: the reference scores the target's."""
    ours, theirs = (replace(lane, label=apart(purpose, lane.label)) for lane in (target, reference))
    for sample in samples:
        yield Job(ours, sample, (reference,) if scored else (), frozenset())
        if both:
            yield Job(theirs, sample, (), frozenset())


def texts(store: Store, origin: str) -> dict[str, str]:
    """Sample's id -> what was written, of one origin."""
    rows = store.decided(origin)
    return {sample.id: outcome.text for sample, outcome, _ in rows if isinstance(outcome, Completion)}


def brought_back(
    store: Store, reference: str, asked: Collection[str], control: Sequence[str], seed: int
) -> Callable[[], Evidence]:
    """What recurs in the target's follow-ups with these ids and is rare in the reference's, and in its control.

    Read at once, and worked out where the answer is called, perhaps on another thread.
    """
    ours = apart(FOLLOW_UP, TARGET)
    rows = [row for row in store.scored(ours) if row.sample.id in asked and reference in row.scores]
    theirs = [text for name, text in texts(store, apart(FOLLOW_UP, reference)).items() if name in asked]
    listed = [each for each in store.listed(ours, reference) if each.sample.id in asked]

    def work() -> Evidence:
        ranking = rank(rows, reference, "score")
        themes = find_themes(ranking, theirs, others=[control] if control else [], seed=seed)
        return Evidence(promoted_words(masses(listed), [*theirs, *control]), themes, ranking)

    return work


def unused(
    store: Store, config: AuditConfig, arms: Collection[Arm], used: Collection[str], number: int
) -> Iterator[Sample]:
    """Validating samples of prefills that the run has not used, in equal shares of its arms."""
    drawn = partial(draw, or_all=True, written=store.state.written)
    for arm, share in shares(number, sorted(arms, key=lambda arm: arm.name)).items():
        pool = arm_samples(arm, config.completions + share, config.seed, drawn)
        for each in [each for each in pool if each.group not in used][-share:] if share else []:
            yield replace(each, id=f"{VALIDATION}-{each.id}", arm=Arm(VALIDATION, arm.framing))
