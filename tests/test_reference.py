"""Scoring through a buyer: which ids are shared, and what happens when they do not work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from blackbox_diff.buying import prices
from blackbox_diff.records import (
    Call,
    Completion,
    EndpointProfile,
    Lost,
    RawReply,
    ReferenceScore,
    Refusal,
    SideToken,
    Tokens,
)
from blackbox_diff.run import scoring
from blackbox_diff.wire import DIALECTS, ScoreItem
from tests.replies import legacy, raw

PROFILE = EndpointProfile(
    base_url="http://s/v1",
    model="m",
    dialect="vllm",
    scoring="echo",
    can_score=True,
    id_prompts=True,
    max_top_logprobs=5,
)
WRITTEN = Completion(" day", Tokens.of([4], [-1.0]), ids=(3,), prompt_ids=(1, 2), decode="strings")
GOOD = legacy("A wet day.", ["A", " wet", " day", "."], [None, -4.0, -1.0, -2.0])


@dataclass
class Bought:
    call_id: int
    reply: RawReply


@dataclass
class Shop:
    """A buyer that hands out prepared replies and keeps the requests."""

    replies: list[Any]
    calls: list[Call] = field(default_factory=list)

    async def buy(self, call: Call, sample_id: str, max_tokens: int | None = None) -> Bought | Lost:
        self.calls.append(call)
        given = self.replies[len(self.calls) - 1]
        return given if isinstance(given, Lost) else Bought(len(self.calls), raw(given))


async def score(shop: Shop, item: ScoreItem, profile: EndpointProfile = PROFILE) -> tuple[Any, int | None]:
    return await scoring.score(shop, DIALECTS["vllm"], profile, item, "prose.raw.00001")


def item(completion: Completion = WRITTEN, *, share_ids: bool = True) -> ScoreItem:
    return scoring.item("A wet", "raw", completion, share_ids=share_ids)


async def test_shared_ids_are_sent_and_scored() -> None:
    shop = Shop([GOOD])
    found, call_id = await score(shop, item())
    assert isinstance(found, ReferenceScore)
    assert (found.context, call_id) == ("ids", 1)
    assert shop.calls[0].body["prompt"] == [1, 2, 3]


async def test_without_a_shared_vocabulary_the_text_is_sent() -> None:
    shop = Shop([GOOD])
    found, _ = await score(shop, item(share_ids=False))
    assert shop.calls[0].body["prompt"] == "A wet day"
    assert isinstance(found, ReferenceScore)
    assert found.context == "raw"


async def test_ids_that_do_not_work_fall_back_to_the_text() -> None:
    shop = Shop([legacy("x", ["x"], [-1.0]), GOOD])
    found, call_id = await score(shop, item())
    assert isinstance(found, ReferenceScore)
    assert (found.context, call_id, len(shop.calls)) == ("raw", 2, 2)


async def test_a_refused_text_is_not_tried_again() -> None:
    shop = Shop([legacy(" and", [" and"], [-1.0])])
    found, call_id = await score(shop, item(share_ids=False))
    assert isinstance(found, Refusal)
    assert (found.reason, call_id) == ("echo_ignored", 1)


async def test_a_lost_call_stays_lost() -> None:
    found, call_id = await score(Shop([Lost("timeout", "no reply")]), item())
    assert (found, call_id) == (Lost("timeout", "no reply"), None)


async def test_an_endpoint_that_cannot_score_is_not_asked() -> None:
    shop = Shop([])
    found, _ = await score(shop, item(), PROFILE.model_copy(update={"can_score": False}))
    assert found.reason == "not_scorable"
    assert shop.calls == []


@pytest.mark.parametrize(
    "completion",
    [
        Completion(" day", Tokens.of([4], [-1.0])),
        Completion(" day", Tokens.of([4], [-1.0]), ids=(3,)),
        Completion(" day", Tokens.of([4], [-1.0]), (3,), (1,), (SideToken("<|x|>", -1.0, "special"),)),
        Completion(" day", Tokens.of([4], [-1.0]), (3,), (1,), decode="placed"),
    ],
)
def test_ids_that_do_not_spell_prompt_and_text_are_left_out(completion: Completion) -> None:
    assert item(completion).ids is None


def test_an_end_token_does_not_keep_ids_from_being_shared() -> None:
    ended = Completion(" day", Tokens.of([4], [-1.0]), (3,), (1,), (SideToken("</s>", -1.0, "end"),))
    assert item(ended).ids == (3,)


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("ft:gpt-4.1-2025-04-14:acme::abc", 3.0),
        ("ft:gpt-4.1-mini-2025-04-14:acme::abc", 0.8),
        ("ft:gpt-4o-mini-2024-07-18:acme:x:1", 0.3),
        ("ft:gpt-3.5-turbo-0125:acme::1", 3.0),
        ("ft:davinci-002:acme::1", 12.0),
    ],
)
def test_finetunes_have_their_price(model: str, price: float) -> None:
    found = prices.lookup(model, "https://api.openai.com/v1")
    assert found is not None
    assert found.input == price


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("ft:gpt-4.1:acme::1", "http://127.0.0.1:8000/v1"),
        ("ft:gpt-4.1:acme::1", "https://api.openai.com.example.org/v1"),
        ("ft:gpt-9:acme::1", "https://api.openai.com/v1"),
        ("ft:gpt-4.1-huge:acme::1", "https://api.openai.com/v1"),
    ],
)
def test_what_is_not_in_the_table_has_no_price(model: str, url: str) -> None:
    assert prices.lookup(model, url) is None
