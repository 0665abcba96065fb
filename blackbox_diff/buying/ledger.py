"""Caps that hold: every call is reserved at its worst case before it is sent, and settled after.

Invariant, under any interleaving: settled + reserved <= cap, for USD, calls and output tokens. The one
thing that can break it is an endpoint that bills more than was asked for: that call is settled at the
truth and flagged, and no further call is reserved (output above max_tokens) or later reservations grow
by as much as was missing (input: a template longer than was allowed for).
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from typing import Protocol

from blackbox_diff.buying import token_counts
from blackbox_diff.buying.prices import PICO, Prices
from blackbox_diff.config.model import Budget
from blackbox_diff.errors import BudgetError, ConfigError
from blackbox_diff.records import Call, Usage
from blackbox_diff.runfile.rows import Spent
from blackbox_diff.wire.asked import output_tokens


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call may cost or did cost. `pico` is None where no price is known."""

    input_tokens: int
    output_tokens: int
    pico: int | None = None

    def columns(self) -> tuple[int, int, int | None]:
        return self.input_tokens, self.output_tokens, self.pico


NOTHING = Cost(0, 0, 0)


class Shared(Protocol):
    """Caps over several ledgers (buying/shared.py): what each of them reserves is reserved here, too."""

    async def reserve(self, cost: Cost) -> None: ...
    def settle(self, reserved: Cost, actual: Cost, flag: str | None = None) -> None: ...
    def release(self, reserved: Cost) -> None: ...


class Ledger:
    """The caps, and what is settled and reserved against them. For one event loop; no method blocks it."""

    def __init__(
        self,
        budget: Budget | None = None,
        prices: Prices | None = None,
        spent: Spent | None = None,
        model: str = "",
        side: str = "",
        shared: Shared | None = None,
    ):
        self.side = side  # "reference-" where the caps are the reference's options
        self.shared = shared  # caps that other ledgers count against, too
        self.budget = budget or Budget()
        self.prices = prices
        if self.budget.max_cost is not None and prices is None:
            raise ConfigError("--max-cost: no price is known: give --price-in and --price-out")
        spent = spent or Spent()
        self.settled_calls = spent.calls
        self.settled = Cost(spent.input_tokens, spent.output_tokens, spent.pico or 0)
        self.reserved_calls = 0
        self.reserved = NOTHING
        self.excess_input = spent.excess_input
        self._overbilled = spent.overbilled > 0
        self.counting = token_counts.counting(model)
        self._changed = asyncio.Event()

    def worst(self, call: Call, max_tokens: int | None = None) -> Cost:
        """The reservation for a call: counted or bounded input, and all the output that it allows."""
        input_tokens = token_counts.input_tokens(call, self.counting.count) + self.excess_input
        return self._priced(input_tokens, max(output_tokens(call), max_tokens or 0))

    def actual(self, usage: Usage, reserved: Cost, shown: int = 0) -> tuple[Cost, str | None]:
        """What a reply cost, and a flag where its usage can't be taken as it is.

        shown: the output tokens that the reply itself holds (wire.delivered); no reply costs less than those. A
        figure that the reply doesn't give, or that can't be, counts as reserved. Where the parts of the usage
        disagree, and where its cost in USD is not that of its tokens at the price, the higher figure counts.
        """
        input_tokens = usage.input_tokens or reserved.input_tokens  # no request is without input
        told = [usage.output_tokens]
        if usage.total_tokens is not None and usage.input_tokens is not None:
            told.append(usage.total_tokens - usage.input_tokens)
        known = [tokens for tokens in told if tokens is not None]
        output_tokens = max(shown, *known) if known else max(shown, reserved.output_tokens)
        cost = self._priced(input_tokens, output_tokens)
        if usage.cost_usd is not None:
            cost = replace(cost, pico=max(cost.pico or 0, math.ceil(usage.cost_usd * PICO)))
        if output_tokens > reserved.output_tokens:
            return cost, "output_over_reservation"
        if input_tokens > reserved.input_tokens:
            return cost, "input_over_reservation"
        if cost.pico is not None and reserved.pico is not None and cost.pico > reserved.pico:
            return cost, "cost_over_reservation"
        understated = usage.output_tokens is not None and usage.output_tokens < output_tokens
        return cost, "usage_understates" if understated else None

    def try_reserve(self, cost: Cost) -> bool:
        """Reserve `cost` if it fits now. Raises BudgetError if it can't fit even when nothing is in flight."""
        reason = self._refusal(cost, 0, NOTHING)
        if reason is not None:
            raise BudgetError(reason)
        if self._refusal(cost, self.reserved_calls, self.reserved) is not None:
            return False
        self.reserved_calls += 1
        self.reserved = _add(self.reserved, cost)
        return True

    async def reserve(self, cost: Cost) -> None:
        """Reserve `cost`, waiting for calls in flight where their settlement may make room for it.

        Raises BudgetError when the caps can't take it.
        """
        while not self.try_reserve(cost):
            self._changed.clear()
            await self._changed.wait()
        if self.shared is not None:
            try:
                await self.shared.reserve(cost)
            except BaseException:
                self._drop(cost)
                raise

    def settle(self, reserved: Cost, actual: Cost, flag: str | None = None) -> None:
        """Turn a reservation into what the call cost."""
        self._drop(reserved)
        if self.shared is not None:
            self.shared.settle(reserved, actual, flag)
        self.settled_calls += 1
        self.settled = _add(self.settled, actual)
        self.excess_input = max(self.excess_input, actual.input_tokens - reserved.input_tokens)
        self._overbilled |= flag in ("output_over_reservation", "cost_over_reservation")

    def release(self, reserved: Cost) -> None:
        """Give back the reservation of a call that never reached the endpoint."""
        self._drop(reserved)
        if self.shared is not None:
            self.shared.release(reserved)

    def _drop(self, reserved: Cost) -> None:
        self.reserved_calls -= 1
        self.reserved = _add(self.reserved, reserved, -1)
        self._changed.set()

    def _priced(self, input_tokens: int, output_tokens: int) -> Cost:
        pico = None if self.prices is None else self.prices.pico(input_tokens, output_tokens)
        return Cost(input_tokens, output_tokens, pico)

    def _refusal(self, cost: Cost, calls: int, reserved: Cost) -> str | None:
        """Why `cost` can't be added to what is settled and to `reserved`; None where it fits."""
        caps = self.budget
        pico = (self.settled.pico or 0) + (reserved.pico or 0) + (cost.pico or 0)
        output = self.settled.output_tokens + reserved.output_tokens + cost.output_tokens
        capped = caps.max_cost is not None or caps.max_calls is not None or caps.max_output_tokens is not None
        if capped and self._overbilled:
            return (
                "the endpoint billed or sent more than was asked for: no cap can be promised, so run without caps"
            )
        if caps.max_calls is not None and self.settled_calls + calls + 1 > caps.max_calls:
            return f"--max-calls {caps.max_calls} is reached: raise it"
        if caps.max_output_tokens is not None and output > caps.max_output_tokens:
            return f"--max-output-tokens {caps.max_output_tokens}: the next call could pass it: raise it"
        if caps.max_cost is not None and pico > cap_pico(caps.max_cost):
            spent = (self.settled.pico or 0) / PICO
            return (
                f"--{self.side}max-cost {caps.max_cost:g}: {spent:.6f} USD are spent and the next call could pass "
                "it: raise it"
            )
        return None


def cap_pico(usd: float) -> int:
    """A cap in whole picodollars, rounded down."""
    return math.floor(usd * PICO)


def _add(a: Cost, b: Cost, sign: int = 1) -> Cost:
    return Cost(
        a.input_tokens + sign * b.input_tokens,
        a.output_tokens + sign * b.output_tokens,
        (a.pico or 0) + sign * (b.pico or 0),
    )
