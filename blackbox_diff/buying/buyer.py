"""A buyer puts every call to an endpoint through the ledger; a reply is on disk before anybody reads it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from blackbox_diff.buying import retry
from blackbox_diff.buying.breaker import Breaker
from blackbox_diff.buying.failures import TransportFailure
from blackbox_diff.buying.http import Endpoint
from blackbox_diff.buying.ledger import Cost, Ledger
from blackbox_diff.buying.limits import Limiter
from blackbox_diff.buying.retry import Decision
from blackbox_diff.records import Call, Lost, RawReply
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire import usage
from blackbox_diff.wire.counts import delivered

PROBING = ""  # the sample id of calls that are for no sample
PROBE_ATTEMPTS = 3  # at a question that the server answers with an error of its own


@dataclass(frozen=True, slots=True)
class Bought:
    """A stored reply, not yet read."""

    call_id: int
    reply: RawReply


@dataclass(frozen=True, slots=True)
class _Attempt:
    number: int
    call_id: int
    outcome: RawReply | TransportFailure
    decision: Decision


class Buyer:
    """Buys replies from one endpoint for one role ("target", or "reference:LABEL").

    Every attempt: reserve in the ledger and on disk, send, then store reply and settlement in one
    transaction. References go the same way with a ledger without caps, so that `verify` can re-read
    them too. Buying the same request for the same sample again returns the stored reply.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        store: Store,
        ledger: Ledger,
        limiter: Limiter,
        role: str,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.endpoint = endpoint
        self.store = store
        self.ledger = ledger
        self.limiter = limiter
        self.role = role
        self.breaker = Breaker(20 + limiter.most)
        self._sleep = sleep

    async def buy(self, call: Call, sample_id: str, max_tokens: int | None = None) -> Bought | Lost:
        """A usable reply for a sample, bought at most once; Lost where every attempt failed.

        Raises BudgetError before a call that could pass a cap, CircuitOpenError when going on is
        pointless, StorageError when a reply can't be stored.
        """
        stored = self.store.bought(self.role, sample_id, call.digest())
        if stored is not None:
            return Bought(*stored)
        last = await self._until_decided(call, sample_id, max_tokens)
        if last.decision.action == "accept":
            assert isinstance(last.outcome, RawReply)
            return Bought(last.call_id, last.outcome)
        if last.decision.action == "stop":
            self.breaker.check(self.endpoint.config.url)
        return Lost(last.decision.reason, last.decision.detail)

    async def post(self, call: Call) -> RawReply:
        """For probing: through the ledger, and any HTTP status is an answer.

        Retried like any call, but for an error of the server's own, which may be its no to what it can't do.
        """
        last = await self._until_decided(call, PROBING, None, probing=True)
        if isinstance(last.outcome, TransportFailure):
            raise last.outcome
        return last.outcome

    async def get(self, path: str) -> RawReply:
        """A GET: free, and not in the ledger."""
        return await self.endpoint.get(path)

    async def _until_decided(
        self, call: Call, sample_id: str, max_tokens: int | None, *, probing: bool = False
    ) -> _Attempt:
        worst = self.ledger.worst(call, max_tokens)

        async def attempt(number: int) -> _Attempt:
            return await self._attempt(call, sample_id, number, worst, probing)

        def decision(made: _Attempt) -> Decision:
            refuses = isinstance(made.outcome, RawReply) and not made.decision.throttled
            if probing and refuses and made.decision.action == "retry" and made.number >= PROBE_ATTEMPTS:
                return replace(made.decision, action="give up")
            return made.decision

        return await retry.repeat(attempt, decision, sleep=self._sleep)

    async def _attempt(self, call: Call, sample_id: str, number: int, worst: Cost, probing: bool) -> _Attempt:
        async with self.limiter.slot(), AsyncExitStack() as held:
            if not probing:
                self.breaker.check(self.endpoint.config.url)
            await self.ledger.reserve(worst)
            call_id: int | None = None
            settled = False
            try:
                call_id = await self.store.reserve_call(self.role, sample_id, number, call, worst.columns())
                outcome = await self._send(call, held)
                decision = retry.decide(outcome, number)
                cost, flag = settlement(call, outcome, decision, worst, self.ledger)
                settled = True
                if decision.fate == "unsent":
                    self.ledger.release(worst)
                else:
                    self.ledger.settle(worst, cost, flag)
                await self._store(call_id, outcome, decision, cost, flag)
            finally:
                if not settled:
                    self._abandon(call_id, worst)
            if not probing:
                self.breaker.observe(decision)
            self.limiter.observe(decision, outcome.headers if isinstance(outcome, RawReply) else {})
            return _Attempt(number, call_id, outcome, decision)

    async def _send(self, call: Call, held: AsyncExitStack) -> RawReply | TransportFailure:
        try:
            return await self.endpoint.post(call, held)
        except TransportFailure as failure:
            return failure

    async def _store(
        self,
        call_id: int,
        outcome: RawReply | TransportFailure,
        decision: Decision,
        cost: Cost,
        flag: str | None,
    ) -> None:
        if isinstance(outcome, TransportFailure):
            state = "released" if decision.fate == "unsent" else "unknown"
            await self.store.lose_call(call_id, state, decision.reason)
            return
        accepted = decision.action == "accept"
        await self.store.settle_call(
            call_id,
            outcome,
            cost.columns(),
            state="unknown" if decision.fate == "unknown" else "settled",
            accepted=accepted,
            flag=flag,
            error=None if accepted else decision.reason,
        )

    def _abandon(self, call_id: int | None, worst: Cost) -> None:
        """Close a call whose task was cancelled: it may have been sent, so it counts in full."""
        self.ledger.settle(worst, worst)
        if call_id is not None:
            self.store.lose_call_later(call_id, "unknown", "interrupted")


class Recall:
    """A buyer's answers for a probe, those first that were paid for before an earlier one was cut off.

    A probe asks the same questions each time, some of them twice: the n-th time that a question is asked
    gets the n-th stored answer to it.
    """

    def __init__(self, buyer: Buyer) -> None:
        self._buyer = buyer
        self._asked: Counter[str] = Counter()

    async def post(self, call: Call) -> RawReply:
        digest = call.digest()
        place = self._asked[digest]
        self._asked[digest] += 1
        stored = self._buyer.store.bought(self._buyer.role, PROBING, digest, place)
        return stored[1] if stored is not None else await self._buyer.post(call)

    async def get(self, path: str) -> RawReply:
        return await self._buyer.get(path)


def settlement(
    call: Call, outcome: RawReply | TransportFailure, decision: Decision, worst: Cost, ledger: Ledger
) -> tuple[Cost, str | None]:
    """What an attempt cost, and a flag where it can't be taken as it is.

    Its usage if it was billed; nothing if it was turned away; else its reservation. Whatever its status, no reply
    costs less than it says and shows: a generation that broke off was written all the same. A reply that was cut
    off because it is too long shows nothing, and was longer than what was reserved.
    """
    if not isinstance(outcome, RawReply):
        flag = "output_over_reservation" if outcome.reason == "reply_too_long" else None
        return (_nothing(worst) if decision.fate == "unsent" else worst), flag
    told, shown = usage(outcome), delivered(outcome, call)
    if decision.fate == "unknown":
        return ledger.actual(told, worst, max(shown, worst.output_tokens))
    if decision.fate == "billed" or shown or told.output_tokens or told.cost_usd:
        return ledger.actual(told, worst, shown)
    return _nothing(worst), None


def _nothing(worst: Cost) -> Cost:
    return Cost(0, 0, None if worst.pico is None else 0)
