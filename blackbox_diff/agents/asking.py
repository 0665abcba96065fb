"""An agent's own prefills to target and reference, to test a hypothesis; each completion is stored before its use.

Questions to one pair share a run file, and so the probe's findings; the run file is what the cap is counted from
after a restart.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

from blackbox_diff.agents import answers, arguments
from blackbox_diff.agents.problems import ToolError
from blackbox_diff.agents.untrusted import Part, clip
from blackbox_diff.analysis.alignment import align_many
from blackbox_diff.analysis.metrics import measure
from blackbox_diff.buying.ledger import Shared
from blackbox_diff.config.model import AuditConfig
from blackbox_diff.findings import Segment, Span
from blackbox_diff.prefills.plan import derive_seed
from blackbox_diff.probing.drift import Watch
from blackbox_diff.probing.probe import shares_vocabulary
from blackbox_diff.records import TURNS, Arm, Completion, Framing, ReferenceScore, Sample, Sampling
from blackbox_diff.run.collect import TARGET, Collector, Job, Lane, plan_jobs
from blackbox_diff.run.commands import manifest
from blackbox_diff.run.lanes import Connections, framings_to_use, in_step, reach
from blackbox_diff.run.progress import unheard
from blackbox_diff.runfile.files import FILE
from blackbox_diff.runfile.store import Store
from blackbox_diff.sanitize import cut, encoded

SOURCE = "ask"
TEXT_BYTES, SPAN_BYTES, SPANS = 1200, 160, 5
NOTABLE = 0.5  # nats of gap from which on a segment belongs to a span


class Heard(Part):
    """What became of a question: the framing used, the completions, and why it stopped short, if it did."""

    framing: Framing
    completions: list[answers.AskedCompletion]
    stopped_because: str | None


async def ask(
    asked: arguments.Ask, config: AuditConfig, path: Path, shared: Shared, served: Mapping[str, str]
) -> Heard:
    """Buy and score what `asked` wants; the run file of the pair lies at `path`.

    Raises ToolError for a framing that the target does not allow, and what connecting to an endpoint raises.
    """
    reference = config.reference
    assert reference is not None  # both labels were looked up
    known = (path / FILE).is_file()
    with Store.open(path) if known else Store.create(path, manifest(config)) as store:
        async with AsyncExitStack() as stack:
            connections = Connections(store, config, unheard, stack, served, shared)
            for endpoint in (config.target, reference):
                await reach(endpoint)
            lane = await connections.reference(reference)
            target = await connections.target(probing=True)
            framing = _framing(asked.framing, config, target, lane)
            lane = in_step(store, config, target, lane)
            samples = _samples(asked, framing)
            sampling = Sampling(asked.temperature, asked.max_tokens, config.top_logprobs)
            collector = Collector(store, sampling, Watch(store))
            await collector.run(_jobs(samples, target, lane), config.concurrency)
        sides = [(sample, origin) for sample in samples for origin in (TARGET, lane.label)]
        found = [line for sample, origin in sides for line in _lines(store, sample, origin, lane)]
        return Heard(framing=framing, completions=found, stopped_because=collector.stop.reason)


def _framing(wanted: Framing | None, config: AuditConfig, target: Lane, reference: Lane) -> Framing:
    if wanted in TURNS:
        return framings_to_use(config, target.profile, reference.profile)[0]
    allowed = target.profile.framings()
    if reference.profile.raw is None:
        allowed = tuple(each for each in allowed if each != "raw")
    if not allowed:
        raise ToolError("endpoint", "the two have no framing in common", "take another reference")
    if wanted is None:
        return allowed[0]
    if wanted not in allowed:
        raise ToolError("bad_argument", f"framing: '{wanted}' is not allowed here", f"take {' or '.join(allowed)}")
    return wanted


def _samples(asked: arguments.Ask, framing: Framing) -> list[Sample]:
    """A question has ids of its own, so that asking again draws again; they end in the prefill and the draw.

    Where the model writes the user's turn, nothing stands before it.
    """
    arm, question = Arm(SOURCE, framing), secrets.token_hex(6)
    ids = [
        (f"{SOURCE}-{question}.{framing}.{number:03d}{draw:02d}", prefill)
        for number, prefill in enumerate(asked.prefills or ("",), start=1)
        for draw in range(asked.samples)
    ]
    return [Sample(name, arm, prefill, derive_seed(name)) for name, prefill in ids]


def _jobs(samples: Sequence[Sample], target: Lane, reference: Lane) -> Iterator[Job]:
    ids = {(TARGET, reference.label): shares_vocabulary(target.profile, reference.profile)}
    for job in plan_jobs(target, [reference], samples, [], ids):
        yield job
        yield Job(reference, job.sample, (), frozenset())


def _lines(store: Store, sample: Sample, origin: str, reference: Lane) -> Iterator[answers.AskedCompletion]:
    """The completion of `sample` that `origin` wrote, if it was bought."""
    if store.sample(sample.id, origin) is None:
        return
    outcome = store.outcome(sample.id, origin)
    number = int(sample.id[-5:-2])
    side: Literal["target", "reference"] = "target" if origin == TARGET else "reference"
    if not isinstance(outcome, Completion):
        word = "failed" if outcome is None else outcome.reason
        yield answers.AskedCompletion(
            prefill_number=number, written_by=side, outcome=word, text=None, gap=None, tokens=0, spans=[]
        )
        return
    score = store.scores(sample.id, origin).get(reference.label)
    gap, spans = (None, []) if not isinstance(score, ReferenceScore) else gaps(outcome, score)
    yield answers.AskedCompletion(
        prefill_number=number,
        written_by=side,
        outcome="completed",
        text=clip(outcome.text, TEXT_BYTES),
        gap=gap,
        tokens=len(outcome.tokens),
        spans=spans,
    )


def gaps(completion: Completion, score: ReferenceScore) -> tuple[float | None, list[answers.GapSpan]]:
    """The mean gap, as analysis/metrics.py defines it, in nats per token, and where it comes from."""
    segments = align_many([completion.tokens], [score.tokens])
    found = measure(segments, [encoded(completion.text)]).of(0)["gap_nats_per_token"]
    return found, notable(completion.text, segments.of(0))


def notable(text: str, segments: Sequence[Segment]) -> list[answers.GapSpan]:
    """The stretches whose every segment the target finds likelier by NOTABLE nats, strongest first."""
    runs: list[tuple[Span, float]] = []
    for segment in segments:
        if segment.target is None or segment.reference is None or segment.target - segment.reference < NOTABLE:
            continue
        gap = segment.target - segment.reference
        if runs and runs[-1][0].end == segment.start:
            before, total = runs.pop()
            runs.append((Span(before.start, segment.end), total + gap))
        else:
            runs.append((Span(segment.start, segment.end), gap))
    best = sorted(runs, key=lambda run: -run[1])[:SPANS]
    return [answers.GapSpan(text=clip(cut(text, span)[1], SPAN_BYTES), gap_nats=gap) for span, gap in best]
