"""The adaptive design at work: buy a round, look, say what is believed, stop or plan the next.

Nothing that decides is kept: a run that is resumed goes through its rounds again, finds what it has bought,
and comes to the same plan, because a round follows from the seed and the replies before it. The log in the
run file is for readers, and for `verify`, which derives it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import get_args

from blackbox_diff.analysis.analyse import analyse
from blackbox_diff.analysis.rank import rank
from blackbox_diff.buying.estimate import Estimate
from blackbox_diff.config.model import AuditConfig
from blackbox_diff.design import allocation, mass, stopping, validation
from blackbox_diff.design.apart import VALIDATION, apart
from blackbox_diff.findings import Analysis, Ranked, Round
from blackbox_diff.prefills import draw
from blackbox_diff.prefills.plan import arm_samples, shares
from blackbox_diff.records import Arm, Completion, Framing, ReferenceScore, Refusal, Sample, ScoredCompletion
from blackbox_diff.run.again import jobs
from blackbox_diff.run.collect import TARGET, Collector, Job, Lane
from blackbox_diff.runfile.store import Store

Work = Callable[[Sequence[Sample], Sequence[Sample]], Awaitable[None]]
"""Buys and scores the first samples from the target; the reference completes the second ones itself."""


@dataclass(slots=True)
class Rounds:
    """The rounds of one run so far, as they follow from its replies.

    arms: what is sampled; pools: all samples of each, in order.
    """

    store: Store
    config: AuditConfig
    reference: str
    arms: tuple[Arm, ...]
    pools: dict[str, list[Sample]]
    given: list[dict[str, int]] = field(default_factory=list)
    looks: list[stopping.Look] = field(default_factory=list)
    records: dict[str, allocation.ArmRecord] = field(default_factory=dict)
    target: list[ScoredCompletion] = field(default_factory=list)
    control: list[ScoredCompletion] = field(default_factory=list)
    lost: dict[str, list[int]] = field(default_factory=dict)  # refused, failed
    bought: int = 0

    @classmethod
    def of(cls, store: Store, config: AuditConfig, reference: str, arms: tuple[Arm, ...]) -> Rounds:
        """Before the first round. Raises InputError for a source that can't be read."""
        arms = tuple(sorted(arms, key=lambda arm: arm.name))  # so that no order decides anything
        most = partial(draw, or_all=True)
        pools = {arm.name: arm_samples(arm, config.completions, config.seed, most) for arm in arms}
        records = {name: allocation.ArmRecord(0, (), capacity=len(pool)) for name, pool in pools.items()}
        lost = {name: [0, 0] for name in pools}
        return cls(store, config, reference, arms, pools, records=records, lost=lost)

    @property
    def cap(self) -> int:
        return min(self.config.completions, sum(map(len, self.pools.values())))

    def plan(self) -> tuple[list[Sample], list[Sample]]:
        """The next round: its samples, and those that the reference completes too; empty at the cap."""
        given = allocation.next_round(self.records, self.cap)
        waiting = {name: iter(pool[self.records[name].tried :]) for name, pool in self.pools.items()}
        samples = [next(waiting[name]) for name in allocation.order(given, list(self.pools))]
        self.given.append(given)
        controls = self.config.control
        return samples, samples if controls is None else samples[: max(0, controls - self.bought)]

    def read(self, samples: Sequence[Sample], controls: Sequence[Sample]) -> None:
        """Take in what became of a round."""
        for sample in samples:
            outcome = self.store.outcome(sample.id, TARGET)
            if isinstance(outcome, Completion):
                self.target += self._scored(sample, outcome, TARGET)
            else:
                self.lost[sample.arm.name][0 if isinstance(outcome, Refusal) else 1] += 1
        for sample in controls:
            outcome = self.store.outcome(sample.id, self.reference)
            if isinstance(outcome, Completion):
                self.control += self._scored(sample, outcome, self.reference)
        self.bought += len(samples)

    def _scored(self, sample: Sample, completion: Completion, origin: str) -> Iterator[ScoredCompletion]:
        score = self.store.scores(sample.id, origin).get(self.reference)
        if isinstance(score, ReferenceScore):
            yield ScoredCompletion(sample, completion, {self.reference: score})

    def analysis(self) -> Analysis:
        """What the rounds so far say. Reads nothing, so it may run on another thread."""
        lost = {name: (each[0], each[1], 0) for name, each in self.lost.items()}
        return analyse(self.target, self.control, self.reference, seed=self.config.seed, arms=lost)

    def look(self, analysis: Analysis) -> str | None:
        """Take a look into account; returns why to stop, or None to go on."""
        self.looks.append(stopping.look(analysis, self.bought))
        self.records = arm_records(self.records, self.given[-1], analysis.ranking, self.control, self.reference)
        return stopping.stop_reason(self.looks, self.cap)

    def lines(self, reason: str | None) -> tuple[str, str]:
        """What is believed after the last look, and why it goes on or stops."""
        last = self.looks[-1]
        each = ", ".join(f"{name} {record.tried}" for name, record in self.records.items())
        p = "" if last.p_value is None else f", p {last.p_value:.3f}"
        themes = "; ".join(f"“{theme.phrase}”" for theme in last.themes) or "none"
        belief = f"round {len(self.looks)}: {last.bought} bought ({each}): {last.outcome}{p}; themes: {themes}"
        if reason is not None:
            return belief, f"  stops: {reason}"
        if last.bought >= self.cap:
            return belief, "  stops: every completion that was asked for is bought"
        why = stopping.why_go_on(self.looks, self.cap)
        to_come = allocation.next_round(self.records, self.cap)
        plan = ", ".join(f"{name} {number}" for name, number in to_come.items())
        return belief, f"  goes on: {why}; next {plan}"

    def log(self) -> tuple[Round, ...]:
        """The rounds as the run file keeps them."""
        return tuple(
            Round(given, one.bought, one.outcome, one.p_value, tuple(theme.phrase for theme in one.themes))
            for given, one in zip(self.given, self.looks, strict=False)
        )


def replay(store: Store, config: AuditConfig, log: Sequence[Round]) -> tuple[Round, ...]:
    """The log of an adaptive run, derived again from what its rounds bought."""
    arms = tuple(arm for arm in config.arms(get_args(Framing)) if arm.name in log[0].given)
    rounds = Rounds.of(store, config, store.references()[0], arms)
    for _ in log:
        samples, controls = rounds.plan()
        rounds.read(samples, controls)
        rounds.look(rounds.analysis())
    return rounds.log()


def arm_records(
    before: Mapping[str, allocation.ArmRecord],
    given: Mapping[str, int],
    ranking: Sequence[Ranked],
    control: Sequence[ScoredCompletion],
    reference: str,
) -> dict[str, allocation.ArmRecord]:
    """What each arm has given after a round that bought `given`."""
    scores: dict[str, list[float]] = {name: [] for name in before}
    for row in ranking:
        value = row.metrics["score"]
        if value is not None and "degenerate" not in row.flags:
            scores[f"{row.source}/{row.framing}"].append(value)
    null: dict[str, list[float]] = {name: [] for name in before}
    for row in rank(control, reference, "score", with_segments=0):
        value = row.metrics["score"]
        if value is not None:
            null[f"{row.source}/{row.framing}"].append(value)
    return {
        name: replace(
            record, tried=record.tried + given[name], scores=tuple(scores[name]), control=tuple(null[name])
        )
        for name, record in before.items()
    }


def adaptive_notes(found: Estimate) -> tuple[str, ...]:
    """What an estimate of equal shares leaves open for an adaptive run."""
    calls = found.total.calls
    tokens = max(arm.input_tokens_worst / arm.calls for arm in found.arms) * calls
    costs = [arm.usd_worst / arm.calls for arm in found.arms if arm.usd_worst is not None]
    usd = f" and {max(costs) * calls:.4f} USD" if costs else ""
    return (
        "adaptive: the table has equal shares; a run stops sooner where the answer is stable, and its shares",
        f"follow the replies: all of it in the dearest arm would be {tokens:.0f} input tokens{usd} at most",
    )


async def explore(rounds: Rounds, collector: Collector, work: Work, say: Callable[[str], None]) -> str | None:
    """Buy round after round; returns why it is enough, or None at the cap and where the collector stopped."""
    while True:
        samples, controls = rounds.plan()
        if not samples:
            return None
        known = rounds.store.outcomes(TARGET)
        await work(samples, controls)
        if collector.stop.reason is not None:
            return None
        rounds.read(samples, controls)
        reason = rounds.look(await asyncio.to_thread(rounds.analysis))
        rounds.store.set_state(replace(rounds.store.state, rounds=rounds.log()))
        if reason is not None or not known.issuperset(sample.id for sample in samples):
            for line in rounds.lines(reason):
                say(line)
        if reason is not None:
            return reason


def validation_jobs(store: Store, config: AuditConfig, target: Lane, reference: Lane) -> list[Job]:
    """What the strongest themes are validated on, from both sides; the questions are kept in the run file."""
    rows, control = list(store.scored(TARGET)), list(store.scored(reference.label))
    listed = store.listed(TARGET, reference.label)
    analysis = analyse(rows, control, reference.label, seed=config.seed, listed=listed)
    asked = validation.questions(
        (*analysis.themes, *analysis.signals), analysis.ranking, config.to_validate, config.seed
    )
    words = tuple(each.word for each in analysis.promoted if not each.style)[: mass.WORDS]
    store.set_state(replace(store.state, validation=asked, promoted=words))
    # The reference lists its own alternatives on what the target writes: that is where masses are compared.
    scorers = (reference,) if words else ()
    if words and not asked:  # no wording to count on the reference's side
        ours = replace(target, label=apart(VALIDATION, target.label))
        return [Job(ours, sample, scorers, frozenset()) for sample in _fresh(config, rows)]
    return jobs(asked, VALIDATION, target, reference, scorers)


def _fresh(config: AuditConfig, rows: Sequence[ScoredCompletion]) -> list[Sample]:
    """Prefills that the run has not used, in equal shares of its arms."""
    used = {row.sample.group for row in rows}
    arms = sorted({row.sample.arm for row in rows}, key=lambda arm: arm.name)
    found = []
    for arm, number in shares(config.to_validate, arms).items():
        pool = arm_samples(arm, config.completions + number, config.seed, partial(draw, or_all=True))
        unused = [each for each in pool if each.group not in used][-number:] if number else []
        found += [replace(each, id=f"{VALIDATION}-{each.id}", arm=Arm(VALIDATION, arm.framing)) for each in unused]
    return found
