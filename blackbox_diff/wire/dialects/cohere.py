"""Cohere's chat, version 2. Read from the cohere package; not called live.

- POST /v2/chat with `logprobs: true`: [{token_ids, text, logprobs}], a piece of text and the number of each of its
  tokens. Where a piece has several tokens it is one unit, and its number is their sum. No alternatives.
- Chat only, and no way to begin the assistant's turn: the user's turn is the framing.
- The sampler's names are p and k; p is 0.75 by default and at most 0.99, so sampling loses the tail's last 1%.
- finish_reason is COMPLETE, MAX_TOKENS, ... Counts are under usage.tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from blackbox_diff.records import Call, EndpointProfile, Framing, Json, Sampling
from blackbox_diff.wire.body import ids, items, mapping, message_text, string
from blackbox_diff.wire.completion import Meta
from blackbox_diff.wire.counts import read_usage
from blackbox_diff.wire.dialects.base import root_url, without
from blackbox_diff.wire.dialects.native import Native, Told
from blackbox_diff.wire.entries import Entries
from blackbox_diff.wire.sentinels import censor

MOST_P = 0.99


class Cohere(Native):
    name = "cohere"
    raw_recipes = ()
    scoring_recipes = ()
    chats = True
    finish: ClassVar[Mapping[str, str]] = {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length"}

    def sample(
        self, profile: EndpointProfile, prefill: str, framing: Framing, sampling: Sampling, seed: int | None
    ) -> Call:
        settings = self.settings(profile, sampling, seed)
        body: dict[str, Json] = {"model": profile.model, "messages": self.messages(profile, prefill, "user")}
        body |= without(settings, ("top_p",))
        body |= {"p": min(MOST_P, settings["top_p"]), "k": 0, "logprobs": True}
        url = root_url(profile.base_url).removesuffix("/v2") + "/v2/chat"
        return Call("/chat", without(body, profile.dropped), url)

    def told(self, body: dict[str, Json]) -> Told:
        return Told(
            message_text(mapping(body.get("message"))),
            _entries(items(body.get("logprobs"))),
            None,
            Meta(self.finish_reason(string(body.get("finish_reason"))), read_usage(body)),
        )


def _entries(pieces: list[Json]) -> Entries | None:
    """One entry per piece of text; ids only where every piece is one token."""
    strings: list[str] = []
    logprobs: list[float] = []
    own: list[Json] = []
    for piece in map(mapping, pieces):
        text = string(piece.get("text"))
        values, numbers = items(piece.get("logprobs")), items(piece.get("token_ids"))
        if text is None or not values:
            return None
        strings.append(text)
        logprobs.append(sum(map(censor, values)))
        own.append(numbers[0] if len(numbers) == len(values) == 1 else None)
    return Entries(strings, logprobs, None, ids(own))
