"""Buying and scoring: a pool of workers, each of which takes one completion from prefill to score.

A worker that scores is not buying, so sampling and scoring overlap, and a slow reference slows the
buying down instead of piling completions up in memory.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from blackbox_diff.buying.buyer import Bought, Buyer
from blackbox_diff.errors import BlackboxDiffError, BudgetError, CircuitOpenError
from blackbox_diff.prefills.plan import derive_seed
from blackbox_diff.probing.drift import EVERY, Watch
from blackbox_diff.records import (
    TURNS,
    Completion,
    EndpointProfile,
    Framing,
    Lost,
    ReferenceScore,
    Refusal,
    Sample,
    Sampling,
    ScoredCompletion,
    tokens_for,
)
from blackbox_diff.run import scoring
from blackbox_diff.run.leaders import Leaders
from blackbox_diff.run.turns import Turns
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire import Dialect

TARGET = "target"


def framing_for(profile: EndpointProfile, sample: Sample) -> Framing:
    """The framing an endpoint is asked in: a reference without a chat template continues plain text."""
    allowed, wanted = profile.framings(), sample.asked
    if wanted in TURNS:
        return wanted
    return wanted if wanted in allowed or not allowed else allowed[0]


def completed_as(profile: EndpointProfile, sample: Sample) -> Framing:
    """The framing in which an endpoint completes a sample: the user's turn, if that was asked for and it chats."""
    return sample.asked if sample.asked == "user" and profile.chat else framing_for(profile, sample)


@dataclass(frozen=True, slots=True)
class Lane:
    """One endpoint in use. `label` is "target", or the reference's name: the origin of its completions."""

    label: str
    profile: EndpointProfile
    dialect: Dialect
    buyer: Buyer


@dataclass(frozen=True, slots=True)
class Job:
    """One completion to take to its scores: bought from `lane`, scored by each of `scorers`."""

    lane: Lane
    sample: Sample
    scorers: tuple[Lane, ...]
    share_ids: frozenset[str]  # labels of the scorers that read the lane's token ids


INTERRUPTED = "interrupted"


@dataclass(slots=True)
class Stop:
    """Why no further completion is bought; the first reason given is the one that counts.

    task: what a hasty stop cancels. gently: whether a collector is at work that can finish what is paid for.
    """

    reason: str | None = None
    error: BudgetError | CircuitOpenError | None = None
    task: asyncio.Task[object] | None = None
    gently: bool = False

    def because(self, reason: str, error: BudgetError | CircuitOpenError | None = None) -> None:
        if self.reason is None:
            self.reason, self.error = reason, error

    def interrupt(self) -> None:
        """A caller wants to stop: buy nothing more and finish what is paid for; the second time, stop at once.

        Before anything can be finished the first time stops at once, too.
        """
        again = self.reason == INTERRUPTED
        self.because(INTERRUPTED)
        if (again or not self.gently) and self.task is not None:
            self.task.cancel()


@dataclass(slots=True)
class Collector:
    """Takes jobs to their outcome; every job ends as scored, refused, failed, or never bought."""

    store: Store
    sampling: Sampling
    watch: Watch
    stop: Stop = field(default_factory=Stop)
    bought: int = 0  # target samples that are decided; the next three are shares of them
    refused: int = 0
    failed: int = 0
    scored: int = 0
    leaders: Leaders = field(default_factory=Leaders)
    turns: Turns = field(default_factory=partial(Turns, sys.maxsize))  # of batches that are at work at once

    async def run(self, jobs: Iterable[Job], workers: int, rank: int = 0) -> None:
        """Work through `jobs`, as `pool` does."""
        await self.pool((partial(self._take, job) for job in jobs), workers, rank)

    async def pool(self, works: Iterable[Callable[[], Awaitable[None]]], workers: int, rank: int = 0) -> None:
        """Work through `works`; returns early, with the calls in flight finished, once `stop` has a reason.

        rank: of several pools the lowest goes first, where `turns` leaves no room for all.
        Raises StorageError at once: what can't be stored must not be bought.
        """
        queue = iter(works)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._work(queue, rank))
        except ExceptionGroup as failures:
            expected = [error for error in failures.exceptions if isinstance(error, BlackboxDiffError)]
            if expected:
                raise expected[0] from None  # many workers, one full disk
            raise

    async def _work(self, queue: Iterator[Callable[[], Awaitable[None]]], rank: int) -> None:
        for work in queue:
            async with self.turns.turn(rank):
                if self.stop.reason is not None:
                    return
                try:
                    await work()
                except (BudgetError, CircuitOpenError) as error:
                    self.stop.because(str(error), error)
                    return

    async def _take(self, job: Job) -> None:
        origin = job.lane.label
        # A sample that failed in an earlier session is open again.
        outcome: Completion | Refusal | Lost | None = self.store.outcome(job.sample.id, origin)
        if outcome is None:
            outcome = await self.complete(job.lane, job.sample)
        if origin == TARGET:
            self.bought += 1
            self.refused += isinstance(outcome, Refusal)
            self.failed += isinstance(outcome, Lost)
            if self.bought % EVERY == 0:
                await self.watch.ask(job.lane)
        if not isinstance(outcome, Completion):
            return
        for scorer in job.scorers:
            if not self.store.has_score(job.sample.id, origin, scorer.label):
                await self._score(job, outcome, scorer)
        self.scored += origin == TARGET

    async def complete(self, lane: Lane, sample: Sample, *, step: bool = False) -> Completion | Refusal | Lost:
        """Buy and store what `lane` writes. step: a single token, for what is listed beside it."""
        framing = completed_as(lane.profile, sample)
        limit = 1 if step else tokens_for(framing, self.sampling.max_tokens)
        sampling = replace(self.sampling, max_tokens=limit)
        # A draw of its own: the base audited against itself must not meet its own completions again.
        own = sample.seed if lane.label == TARGET else derive_seed(sample.seed, lane.label)
        seed = own if lane.profile.seed else None
        call = lane.dialect.sample(lane.profile, sample.prefill, framing, sampling, seed)
        outcome: Completion | Refusal | Lost
        call_id: int | None
        match await lane.buyer.buy(call, sample.id, sampling.max_tokens):
            case Bought(call_id, reply):
                read = lane.dialect.read_step if step else lane.dialect.read_sample
                outcome = read(reply, call=call, profile=lane.profile, prefill=sample.prefill, framing=framing)
                del reply  # megabytes, where somebody wants it so
            case Lost() as outcome:
                call_id = None
        self.watch.check(outcome, lane.profile)
        await self.store.put_completion(sample, lane.label, outcome, call_id)
        return outcome

    async def _score(self, job: Job, completion: Completion, scorer: Lane) -> None:
        sample, origin = job.sample, job.lane.label
        shared = scorer.label in job.share_ids
        framing = framing_for(scorer.profile, sample)
        item = scoring.item(
            scoring.before(sample, framing, scorer.profile),
            framing,
            completion,
            share_ids=shared,
            alternatives=self.sampling.top_logprobs,
        )
        score, call_id = await scoring.score(scorer.buyer, scorer.dialect, scorer.profile, item, sample.id)
        self.watch.check(score, scorer.profile)
        await self.store.put_score(sample.id, origin, scorer.label, score, call_id)
        if origin == scorer.label:
            self.leaders.hear(completion.text)
        if origin == TARGET and isinstance(score, ReferenceScore):
            bare = replace(completion, alternatives=None), replace(score, alternatives=None)
            self.leaders.add(ScoredCompletion(sample, bare[0], {scorer.label: bare[1]}))


def plan_jobs(
    target: Lane,
    references: Sequence[Lane],
    samples: Sequence[Sample],
    controls: Sequence[Sample],
    share_ids: Mapping[tuple[str, str], bool],
) -> Iterator[Job]:
    """Target and control jobs in turn, so that the control grows with the run."""
    scorers = tuple(references)
    shared = frozenset(lane.label for lane in references if share_ids.get((TARGET, lane.label)))
    remaining = iter(controls)
    for sample in samples:
        yield Job(target, sample, scorers, shared)
        control = next(remaining, None)
        if control is not None:
            for lane in references:
                yield Job(lane, control, (lane,), frozenset([lane.label] if lane.profile.token_ids else []))
