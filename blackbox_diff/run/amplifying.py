"""Amplified sampling at work: rows bought a token a call on both sides, and read again from the run file.

Each step of a row is a sample of one token, under an origin of its own: its reply is stored and settled before its
list is read, and nothing else is kept. What a row says follows from its steps' replies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

from blackbox_diff.analysis.rank import rank
from blackbox_diff.analysis.themes import find_themes
from blackbox_diff.analysis.verdict import split
from blackbox_diff.design import amplify
from blackbox_diff.design.apart import AMPLIFIED, apart
from blackbox_diff.findings import Amplified, AmplifiedText, Question
from blackbox_diff.records import Sample
from blackbox_diff.run.again import NOTHING, Evidence
from blackbox_diff.run.collect import TARGET, Collector, Lane, completed_as
from blackbox_diff.runfile.store import Store

SHOWN = 5  # texts
REFERENCE = "reference"


def why_not(store: Store, reference: str, rows: Sequence[Sample]) -> str | None:
    """Why rows can't be written, as one line; None where they can."""
    if not rows:
        return "only prefills can be continued: add the framing raw or chat"
    for side, label in (("target", TARGET), ("reference", reference)):
        profile = store.state.profiles[label]
        if profile.max_top_logprobs < 2:
            return f"the {side} lists no alternatives to draw from"
        if any(completed_as(profile, row) not in amplify.CONTINUED for row in rows):
            return f"the {side} continues no prefill"
    return None


async def write(collector: Collector, row: Sample, target: Lane, reference: Lane) -> None:
    """Buy a row's steps, as far as they are not bought, until it is written or the collector stops.

    Raises what buying raises.
    """
    store, sides = collector.store, [_apart(lane) for lane in (target, reference)]

    async def bought(side: Lane, asked: Sample) -> None:
        if store.outcome(asked.id, side.label) is None:
            await collector.complete(side, asked, step=True)

    steps = amplify.writing(row)
    asked = next(steps)
    while collector.stop.reason is None:
        ends = await asyncio.gather(*(bought(side, asked) for side in sides), return_exceptions=True)
        failed = next((end for end in ends if end is not None), None)
        if failed is not None:
            raise failed  # once the other side is done with what is paid for
        try:
            asked = steps.send(_lists(store, reference.label, asked))
        except StopIteration:
            return


def _apart(lane: Lane) -> Lane:
    return replace(lane, label=apart(AMPLIFIED, lane.label))


def _lists(store: Store, reference: str, asked: Sample) -> amplify.Answer:
    target, other = (store.alternatives(asked.id, apart(AMPLIFIED, side)) for side in (TARGET, reference))
    return amplify.choices(target), amplify.choices(other)


def read(store: Store, reference: str, rows: Sequence[Sample]) -> list[amplify.Written]:
    """The rows that are all there, as their stored steps lead to them."""
    origins = [apart(AMPLIFIED, side) for side in (TARGET, reference)]

    def answers(asked: Sample) -> amplify.Answer | None:
        there = all(store.sample(asked.id, origin) == asked for origin in origins)
        return _lists(store, reference, asked) if there else None

    return [found for row in rows if (found := amplify.written(row, answers)) is not None]


def astray(store: Store, reference: str, rows: Sequence[Sample]) -> Iterator[str]:
    """One line for each stored step that the replies before it do not lead to."""
    known, ids = set[Sample](), {row.id for row in rows}

    def answers(asked: Sample) -> amplify.Answer:
        known.add(asked)
        return _lists(store, reference, asked)

    for row in rows:
        amplify.written(row, answers)
    for origin in (apart(AMPLIFIED, side) for side in (TARGET, reference)):
        for sample, _, _ in store.decided(origin):
            if sample not in known and sample.id.rpartition(".")[0] in ids:
                yield f"completion {sample.id} of {origin}: the replies before it lead to other tokens"


def hints(found: Sequence[amplify.Written], control: Sequence[str], seed: int) -> Evidence:
    """What recurs in amplified texts and is rare in the control."""
    ranking = rank([each.scored(REFERENCE) for each in found if each.drawn], REFERENCE, "score")
    return Evidence((), find_themes(ranking, control, seed=seed), ranking)


def told(store: Store, reference: str, asked: Sequence[Question], control: Sequence[str]) -> Amplified | None:
    """What a run's amplified texts are for a report; None where there are none."""
    if not asked:
        return None
    rows = [row for question in asked for row in question.samples]
    found = read(store, reference, rows)
    if rows and not found:
        return None
    evidence = hints(found, control, store.config.seed) if found else NOTHING
    clean = [row for row in evidence.ranking if "degenerate" not in row.flags]
    return Amplified(
        rows=len(found),
        tokens=sum(len(each.drawn) for each in found),
        ended=sum(each.ended for each in found),
        lost=sum(each.lost for each in found),
        junk=sum(each.junk for each in found),
        themes=split(evidence.themes)[0],
        texts=tuple(AmplifiedText(row.id, row.prefill, row.completion) for row in clean[:SHOWN]),
        skipped="".join(question.why for question in asked),
    )
