"""One set of caps over the ledgers of many runs in one process: what an agent may spend, whatever it starts.

Invariant, under any interleaving: settled + reserved of all ledgers <= each cap. A call is reserved in its own
ledger and then here, before it is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from blackbox_diff.buying.ledger import NOTHING, Cost, cap_pico
from blackbox_diff.buying.prices import PICO
from blackbox_diff.config.model import Budget
from blackbox_diff.errors import BudgetError
from blackbox_diff.runfile.rows import Spent


@dataclass(frozen=True, slots=True)
class Left:
    """What the caps leave, calls in flight taken at their reservation; None where there is no cap of that kind."""

    usd: float | None
    calls: int | None
    output_tokens: int | None


class SharedLedger:
    """The caps, and what is settled and reserved against them. For one event loop; no method blocks it."""

    def __init__(self, caps: Budget, spent: Iterable[Spent] = ()) -> None:
        """spent: what runs on disk have cost; a call without a price counts nothing in USD."""
        self.caps = caps
        self.calls = 0
        self.settled = self.reserved = NOTHING
        self._in_flight = 0
        self._overbilled = False
        self._changed = asyncio.Event()
        for each in spent:
            self.calls += each.calls
            self.settled = _sum(self.settled, Cost(each.input_tokens, each.output_tokens, each.pico))
            self._overbilled |= each.overbilled > 0

    async def reserve(self, cost: Cost) -> None:
        """Reserve `cost`, waiting for calls in flight where their settlement may make room for it.

        Raises BudgetError when the caps can't take it.
        """
        while True:
            reason = self._refusal(cost, 0, NOTHING)
            if reason is not None:
                raise BudgetError(reason)
            if self._refusal(cost, self._in_flight, self.reserved) is None:
                break
            self._changed.clear()
            await self._changed.wait()
        self._in_flight += 1
        self.reserved = _sum(self.reserved, cost)

    def settle(self, reserved: Cost, actual: Cost, flag: str | None = None) -> None:
        """Turn a reservation into what the call cost."""
        self.release(reserved)
        self.calls += 1
        self.settled = _sum(self.settled, actual)
        self._overbilled |= flag in ("output_over_reservation", "cost_over_reservation")

    def release(self, reserved: Cost) -> None:
        """Give back the reservation of a call that never reached the endpoint."""
        self._in_flight -= 1
        self.reserved = _sum(self.reserved, reserved, -1)
        self._changed.set()

    @property
    def spent_usd(self) -> float:
        return (self.settled.pico or 0) / PICO

    @property
    def left(self) -> Left:
        caps, pico = self.caps, (self.settled.pico or 0) + (self.reserved.pico or 0)
        tokens = self.settled.output_tokens + self.reserved.output_tokens
        return Left(
            None if caps.max_cost is None else max(0, cap_pico(caps.max_cost) - pico) / PICO,
            None if caps.max_calls is None else max(0, caps.max_calls - self.calls - self._in_flight),
            None if caps.max_output_tokens is None else max(0, caps.max_output_tokens - tokens),
        )

    def _refusal(self, cost: Cost, calls: int, reserved: Cost) -> str | None:
        """Why `cost` can't be added to what is settled and to `reserved`; None where it fits."""
        caps = self.caps
        pico = (self.settled.pico or 0) + (reserved.pico or 0) + (cost.pico or 0)
        output = self.settled.output_tokens + reserved.output_tokens + cost.output_tokens
        if self._overbilled:
            return (
                "an endpoint billed more than was asked for, so the cap over all runs can't be promised any more"
            )
        if caps.max_calls is not None and self.calls + calls + 1 > caps.max_calls:
            return f"the cap of {caps.max_calls} calls over all runs is reached"
        if caps.max_output_tokens is not None and output > caps.max_output_tokens:
            return f"the next call could pass the cap of {caps.max_output_tokens} output tokens over all runs"
        if caps.max_cost is not None and pico > cap_pico(caps.max_cost):
            left = max(0.0, caps.max_cost - self.spent_usd)
            return (
                f"the cap of ${caps.max_cost:,.2f} over all runs has ${left:,.4f} left, "
                "and the next call could pass it"
            )
        return None


def _sum(a: Cost, b: Cost, sign: int = 1) -> Cost:
    return Cost(
        a.input_tokens + sign * b.input_tokens,
        a.output_tokens + sign * b.output_tokens,
        (a.pico or 0) + sign * (b.pico or 0),
    )
