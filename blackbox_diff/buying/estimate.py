"""What an audit will cost, before anything is bought."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from blackbox_diff.buying import token_counts
from blackbox_diff.buying.ledger import Ledger
from blackbox_diff.buying.prices import PICO, Prices, prices_for, prices_of_writer
from blackbox_diff.config.model import AuditConfig, Budget, on_this_machine
from blackbox_diff.records import CHAT_SYSTEM, CHAT_USER, TURNS, Call, Json, Sample, tokens_for


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
class ReferenceEstimate:
    """What scoring and the reference's own completions are expected to take; usd is None where no price is known.

    Texts are as long as what the target writes, so only the caps bound this.
    """

    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    free: bool
    capped_at_usd: float | None

    def line(self) -> str:
        counts = f"{self.calls} calls, about {self.input_tokens} tokens in and {self.output_tokens} out"
        price = "free, on this machine" if self.free else f"{_usd(self.usd)} USD"
        cap = "" if self.capped_at_usd is None or self.free else f", capped at {self.capped_at_usd:g} USD"
        return f"reference {self.model}: {counts}, {price}{cap}"


@dataclass(frozen=True, slots=True)
class WriterEstimate:
    """What a writer of openings takes at most; it counts under the target's cap. usd is None without a price."""

    model: str
    calls: int
    input_tokens_worst: int
    output_tokens_worst: int
    usd_worst: float | None

    def line(self) -> str:
        counts = f"at most {self.input_tokens_worst} tokens in and {self.output_tokens_worst} out"
        return f"writer {self.model}: {self.calls} calls, {counts}, {_usd(self.usd_worst)} USD, under the same cap"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an audit's purchases will cost. Retries come on top; the caps hold for them too."""

    arms: tuple[ArmEstimate, ...]
    counted_by: str
    capped_at_usd: float | None
    prices: Prices | None = None
    notes: tuple[str, ...] = ()
    reference: ReferenceEstimate | None = None
    writer: WriterEstimate | None = None

    def as_dict(self) -> dict[str, Json]:
        total = self.total
        return {**asdict(self), "total": asdict(total), "arms": {arm.arm: asdict(arm) for arm in self.arms}}

    @property
    def total(self) -> ArmEstimate:
        return _total(self.arms)

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
        if self.reference is not None:
            notes.append(self.reference.line())
            if self.reference.usd is None and not self.reference.free:
                notes.append(
                    "no price of the reference is known: give --reference-price-in and --reference-price-out"
                )
        if self.writer is not None:
            notes.append(self.writer.line())
            if self.writer.usd_worst is None:
                notes.append("no price of the writer is known: give --writer-price-in and --writer-price-out")
        if self.total.usd is None:
            notes.append("no price is known: give --price-in and --price-out in USD per million tokens")
        return [*table, *notes, *self.notes]


def estimate(
    samples: Iterable[Sample], config: AuditConfig, steps: Iterable[Sample] = (), questions: Sequence[Call] = ()
) -> Estimate:
    """Calls, tokens and USD of buying `samples` from the target; spends nothing.

    steps: samples of a single token, which both sides are asked for. questions: to the writer.
    """
    prices = prices_for(config.target, config.budget)
    ledger = Ledger(Budget(), prices, None, config.target.model)
    texts = _by_arm(samples, ledger, lambda sample: tokens_for(sample.asked, config.max_tokens))
    single = _by_arm(steps, ledger, lambda _: 1)
    found = Estimate((*texts, *single), ledger.counting.words, config.budget.max_cost, prices)
    reference = _of_reference(_total(texts), _total(single), config)
    return replace(found, reference=reference, writer=_of_writer(questions, config))


def _by_arm(samples: Iterable[Sample], ledger: Ledger, limit: Callable[[Sample], int]) -> list[ArmEstimate]:
    """The arms of samples that may have so many tokens."""
    prices = ledger.prices
    by_arm: dict[str, list[Call]] = {}
    for sample in samples:
        by_arm.setdefault(sample.arm.name, []).append(_typical(sample, limit(sample)))
    arms = []
    for name, calls in by_arm.items():
        worst = [ledger.worst(call) for call in calls]
        most = sum(cost.input_tokens for cost in worst)
        fixed = sum(token_counts.input_tokens(call, lambda text: 0) for call in calls)
        # Of what a template may add, about a third is what common templates do add.
        text = most - fixed if ledger.counting.exact else math.ceil((most - fixed) / token_counts.BYTES_PER_TOKEN)
        expected = min(most, text + math.ceil(fixed / 3))
        output = sum(cost.output_tokens for cost in worst)
        arms.append(
            ArmEstimate(
                name, len(calls), expected, most, output,
                None if prices is None else prices.pico(expected, output) / PICO,
                None if prices is None else prices.pico(most, output) / PICO,
            )
        )  # fmt: skip
    return arms


def _of_reference(bought: ArmEstimate, steps: ArmEstimate, config: AuditConfig) -> ReferenceEstimate | None:
    """A score for each completion of the target's, and for each of its own, which it writes first; the steps."""
    reference = config.reference
    if reference is None or not bought.calls:
        return None
    caps = reference.budget()
    prices = prices_for(reference, caps, "reference-")
    own = bought.calls if config.control is None else min(config.control, bought.calls)
    prompt, written = bought.input_tokens / bought.calls, bought.output_tokens_worst / bought.calls
    scores = bought.calls + own
    tokens_in = math.ceil(scores * (prompt + written) + own * prompt) + steps.input_tokens
    tokens_out = scores + math.ceil(own * written) + steps.calls
    return ReferenceEstimate(
        model=reference.name,
        calls=scores + own + steps.calls,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        usd=None if prices is None else prices.pico(tokens_in, tokens_out) / PICO,
        free=prices is None and on_this_machine(reference.url),
        capped_at_usd=caps.max_cost,
    )


def _total(arms: Sequence[ArmEstimate]) -> ArmEstimate:
    costs = [(arm.usd, arm.usd_worst) for arm in arms]
    known = all(usd is not None for usd, _ in costs)
    return ArmEstimate(
        "total",
        sum(arm.calls for arm in arms),
        sum(arm.input_tokens for arm in arms),
        sum(arm.input_tokens_worst for arm in arms),
        sum(arm.output_tokens_worst for arm in arms),
        sum(usd or 0 for usd, _ in costs) if known else None,
        sum(worst or 0 for _, worst in costs) if known else None,
    )


def _of_writer(questions: Sequence[Call], config: AuditConfig) -> WriterEstimate | None:
    if config.writer is None or not questions:
        return None
    prices = prices_of_writer(config.writer, config.budget)
    ledger = Ledger(None, prices, None, config.writer.model)
    worst = [ledger.worst(call) for call in questions]
    return WriterEstimate(
        model=config.writer.name,
        calls=len(worst),
        input_tokens_worst=sum(cost.input_tokens for cost in worst),
        output_tokens_worst=sum(cost.output_tokens for cost in worst),
        usd_worst=None if prices is None else sum(cost.pico or 0 for cost in worst) / PICO,
    )


def _typical(sample: Sample, max_tokens: int) -> Call:
    """A request of the size that the sample's framing needs, in whichever dialect."""
    if sample.asked in TURNS:  # the opening in ChatML stands for whichever the target's template has
        opening = f"<|im_start|>system\n{CHAT_SYSTEM}<|im_end|>\n<|im_start|>user\n"
        return Call("/completions", {"prompt": opening, "max_tokens": max_tokens})
    if sample.asked == "raw":
        return Call("/completions", {"prompt": sample.prefill, "max_tokens": max_tokens})
    texts = (CHAT_SYSTEM, CHAT_USER, sample.prefill)
    return Call("/chat/completions", {"messages": [{"content": text} for text in texts], "max_tokens": max_tokens})


def _usd(value: float | None) -> str:
    return "?" if value is None else f"{value:.4f}"
