"""The source `writer`: a chat model is asked for openings, once in a run, before the target is asked for anything.

Its answers are stored as every reply is, and what was made of them is the run's from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from blackbox_diff.buying.buyer import Buyer
from blackbox_diff.config.model import AuditConfig, EndpointConfig
from blackbox_diff.errors import BudgetError, CircuitOpenError, EndpointUsageError, InputError
from blackbox_diff.prefills.plan import derive_seed, shares
from blackbox_diff.prefills.written import PER_QUESTION, Written, questions, read, too_few
from blackbox_diff.records import WRITER, Call, Framing, Json, Lost, RawReply
from blackbox_diff.run.collect import Collector, Stop
from blackbox_diff.run.progress import Listener, Notice
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire.body import first_choice, mapping, message_text
from blackbox_diff.wire.reply_json import value_of

MAX_ANSWER = 1000  # tokens
WORKERS = 8
NEW_LIMIT = "max_completion_tokens"  # what some hosts call it, and their rejections of `max_tokens` name
OPTIONAL = ("seed", "temperature")  # fields that some hosts reject


def needed(config: AuditConfig, framings: Sequence[Framing]) -> int:
    """How many openings an arm of the writer's needs."""
    given = shares(config.completions, config.arms(tuple(framings)))
    return max((number for arm, number in given.items() if arm.source == WRITER), default=0)


def calls(config: AuditConfig, framings: Sequence[Framing]) -> list[Call]:
    """The questions to the writer; none where no source is its."""
    writer = config.writes
    if writer is None:
        return []
    asked = questions(needed(config, framings), config.seed)
    return [
        Call(
            "/chat/completions",
            {
                "model": writer.model,
                "messages": messages,
                "max_tokens": MAX_ANSWER,
                "temperature": 1.0,
                "seed": derive_seed(config.seed, WRITER, number),
            },
        )
        for number, messages in enumerate(asked)
    ]


def made_of(answers: Iterable[RawReply]) -> Written:
    """The openings in replies to the questions, in their order."""
    return read(message_text(mapping(first_choice(value_of(reply)).get("message"))) or "" for reply in answers)


def replies(store: Store) -> list[RawReply]:
    """The writer's usable replies, in the order of the questions."""
    answered = [call for call in store.calls(WRITER) if call.accepted and call.reply is not None]
    return [call.reply for call in sorted(answered, key=lambda call: call.sample_id) if call.reply is not None]


@dataclass(slots=True)
class _Asking:
    """The questions at work. changes: fields as this host wants them; None leaves one out."""

    buyer: Buyer
    changes: dict[str, Json] = field(default_factory=dict)
    lost: str = ""

    async def ask(self, number: int, call: Call) -> None:
        body = {name: value for name, value in {**call.body, **self.changes}.items() if value is not None}
        bought = await self.buyer.buy(replace(call, body=body), f"{WRITER}.{number:03d}", MAX_ANSWER)
        if isinstance(bought, Lost):
            if self._give_in(body, bought.detail):
                await self.ask(number, call)
            else:
                self.lost = bought.detail

    def _give_in(self, body: Mapping[str, Json], why: str) -> bool:
        """Ask otherwise from now on, where the rejection names a field that can be spared or renamed."""
        if "max_tokens" in body and NEW_LIMIT in why:
            self.changes |= {"max_tokens": None, NEW_LIMIT: MAX_ANSWER}
            return True
        spared = next((name for name in OPTIONAL if name in body and name in why), None)
        if spared is not None:
            self.changes[spared] = None
        return spared is not None


async def openings(
    collector: Collector, config: AuditConfig, framings: Sequence[Framing], buyer: Buyer, tell: Listener
) -> tuple[str, ...]:
    """What the writer writes, stored before it is used; none where the collector stopped in between.

    Raises EndpointUsageError where its first answer is an error, InputError where too little of all can be used,
    and what a collector raises.
    """
    store, stop = collector.store, collector.stop
    writer, asked = buyer.endpoint.config, list(enumerate(calls(config, framings)))
    asking = _Asking(buyer)
    await _first(asking, stop, *asked[0], writer)
    await collector.pool((partial(asking.ask, *each) for each in asked[1:]), WORKERS)
    if stop.reason is not None:
        return ()
    found, number = made_of(replies(store)), len(asked) * PER_QUESTION
    told = f"{writer.model} wrote {len(found.openings)} openings of {number} asked for" + "".join(
        f", {count} left out ({why})" for why, count in found.left_out.items()
    )
    if too_few(found.openings, needed(config, framings)):
        if asking.lost:
            why = f"{writer.url}: {told}; questions without an answer: {asking.lost}"
            stop.because(why, CircuitOpenError(why))
            return ()
        raise InputError(f"source 'writer': {told}: give another writer, fewer completions or another source")
    store.set_state(replace(store.state, written=found.openings))
    tell(Notice(told))
    return found.openings


async def _first(asking: _Asking, stop: Stop, number: int, call: Call, writer: EndpointConfig) -> None:
    """The first question alone: what is wrong with all of them shows, and is said, before the others are sent."""
    try:
        await asking.ask(number, call)
    except BudgetError as error:
        stop.because(str(error), error)
    except CircuitOpenError as error:
        raise EndpointUsageError(f"source 'writer': {error}") from None
    if asking.lost:
        raise EndpointUsageError(f"source 'writer': {writer.url}: {writer.model}: {asking.lost}")
