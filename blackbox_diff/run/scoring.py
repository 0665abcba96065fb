"""A completion's per-token logprobs under a reference, through whatever that endpoint can score with."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from blackbox_diff.records import (
    Call,
    Completion,
    EndpointProfile,
    Framing,
    Lost,
    RawReply,
    ReferenceScore,
    Refusal,
    Sample,
)
from blackbox_diff.wire.dialects.base import Dialect, ScoreItem
from blackbox_diff.wire.refusals import refuse

# What goes wrong with ids and not with text: then the text is scored instead, in one more call.
ONLY_WITH_IDS = ("too_many_ids", "error_reply", "echo_misaligned")


class Bought(Protocol):
    """A stored reply."""

    @property
    def call_id(self) -> int: ...
    @property
    def reply(self) -> RawReply: ...


class Buyer(Protocol):
    """What client.Buyer offers to scoring."""

    async def buy(self, call: Call, sample_id: str, max_tokens: int | None = None) -> Bought | Lost: ...


def item(
    prefill: str, framing: Framing, completion: Completion, *, share_ids: bool, alternatives: int = 0
) -> ScoreItem:
    """What to score of a completion: its text, and its ids where they mean the same to the reference.

    Ids are left out where they do not spell exactly the prompt and the text: a special token was drawn
    with it, or the server's list had entries for several tokens.
    """
    whole = all(side.kind != "special" for side in completion.side) and completion.decode != "placed"
    if share_ids and whole and completion.ids and completion.prompt_ids:
        return ScoreItem(prefill, framing, completion.text, completion.prompt_ids, completion.ids, alternatives)
    return ScoreItem(prefill, framing, completion.text, alternatives=alternatives)


def before(sample: Sample, framing: Framing, profile: EndpointProfile) -> str:
    """What stands before the text when it is scored as text: the prefill, or the opening of the user's turn."""
    opening = profile.opening(framing)
    return opening if isinstance(opening, str) else sample.prefill


async def score(
    buyer: Buyer, dialect: Dialect, profile: EndpointProfile, item: ScoreItem, sample_id: str
) -> tuple[ReferenceScore | Refusal | Lost, int | None]:
    """The score of `item` and the id of the call it was read from.

    One call, or two where ids do not work. Raises what `buyer.buy` raises.
    """
    as_ids = isinstance(profile.opening(item.framing), tuple)  # then no text says what stands before
    if not profile.can_score or (as_ids and item.ids is None):
        return refuse("not_scorable"), None
    found, call_id = await _attempt(buyer, dialect, profile, item, sample_id)
    if item.ids is not None and not as_ids and isinstance(found, Refusal) and found.reason in ONLY_WITH_IDS:
        return await _attempt(buyer, dialect, profile, replace(item, ids=None, prompt_ids=None), sample_id)
    return found, call_id


async def _attempt(
    buyer: Buyer, dialect: Dialect, profile: EndpointProfile, item: ScoreItem, sample_id: str
) -> tuple[ReferenceScore | Refusal | Lost, int | None]:
    call = dialect.score(profile, item)
    bought = await buyer.buy(call, sample_id, 1)
    if isinstance(bought, Lost):
        return bought, None
    return dialect.read_score(bought.reply, call=call, profile=profile, item=item), bought.call_id
