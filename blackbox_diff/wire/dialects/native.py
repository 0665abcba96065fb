"""Servers with a route of their own: a prompt and parameters in, a text and its tokens as records out.

Such a dialect builds its requests and says, in `told`, what a reply holds; reading that to a completion or a score
is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from blackbox_diff.records import (
    Call,
    Completion,
    EndpointProfile,
    Framing,
    Json,
    RawReply,
    ReferenceScore,
    Refusal,
)
from blackbox_diff.wire.api_errors import broke_off
from blackbox_diff.wire.asked import asked
from blackbox_diff.wire.completion import Meta, complete
from blackbox_diff.wire.dialects.base import Dialect, ScoreItem, read_scored
from blackbox_diff.wire.entries import Entries
from blackbox_diff.wire.identity import is_other
from blackbox_diff.wire.refusals import refuse
from blackbox_diff.wire.replies import body_of


@dataclass(frozen=True, slots=True)
class Told:
    """What a reply says. written: the entries of what was generated; given: those of the prompt, or None."""

    text: str | None
    written: Entries | None
    given: Entries | None
    meta: Meta


class Native(Dialect):
    """No chat and no prompts of ids, unless a dialect says otherwise; its text is scored as plain text.

    finish: the server's words for why it stopped, where OpenAI has another word.
    """

    raw_recipes: ClassVar[tuple[str, ...]] = ("generate",)
    prefill_recipes = ()
    scoring_recipes: ClassVar[tuple[str, ...]] = ("generate",)
    template_scoring = False
    id_prompts = False
    takes_turns = False
    chats = False
    finish: ClassVar[Mapping[str, str]] = {}

    def told(self, body: dict[str, Json]) -> Told:
        """What a reply that is no error says; total over any JSON object."""
        raise NotImplementedError

    def finish_reason(self, said: str | None) -> str | None:
        return self.finish.get(said or "", said)

    def read_sample(
        self, reply: RawReply, *, call: Call, profile: EndpointProfile, prefill: str, framing: Framing
    ) -> Completion | Refusal:
        body = body_of(reply)
        if isinstance(body, Refusal):
            return body
        told = self.told(body)
        if broke_off(told.meta.finish_reason or ""):
            return refuse("error_reply", f"the generation broke off: {told.meta.finish_reason}")
        if is_other(told.meta.model, profile):
            return refuse("other_model", repr(told.meta.model))
        if told.text is None:
            return refuse("no_text")
        return complete(told.written, told.text, "" if framing == "user" else prefill, told.meta, asked(call))

    def entries(self, reply: RawReply) -> Entries | None:
        body = body_of(reply)
        return None if isinstance(body, Refusal) else self.told(body).written

    def read_score(
        self, reply: RawReply, *, call: Call, profile: EndpointProfile, item: ScoreItem
    ) -> ReferenceScore | Refusal:
        body = body_of(reply)
        if isinstance(body, Refusal):
            return body
        told = self.told(body)
        if is_other(told.meta.model, profile):
            return refuse("other_model", repr(told.meta.model))
        if told.given is None or len(told.given) == 0:
            return refuse("no_logprobs")
        return read_scored(told.given, item, self.context(profile, item), prompt_tokens=len(told.given))
