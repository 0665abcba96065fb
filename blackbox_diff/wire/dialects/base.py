"""What every dialect shares: the OpenAI-compatible requests, and reading them back.

A dialect is data (which sampler fields it names, which recipes it knows) plus the methods it overrides.
Nothing here does I/O; every reader answers arbitrary bytes with a value or a Refusal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Literal

from blackbox_diff.records import (
    CHAT_SYSTEM,
    CHAT_USER,
    TURNS,
    Call,
    Completion,
    EndpointProfile,
    Framing,
    Json,
    RawReply,
    ReferenceScore,
    Refusal,
    Sampling,
)
from blackbox_diff.wire.alternatives import first_list
from blackbox_diff.wire.asked import asked
from blackbox_diff.wire.body import first_choice, ids
from blackbox_diff.wire.counts import read_usage
from blackbox_diff.wire.entries import Entries, from_choice, from_dicts
from blackbox_diff.wire.identity import is_other, named
from blackbox_diff.wire.refusals import refuse
from blackbox_diff.wire.replies import body_of, entries_of, read_reply
from blackbox_diff.wire.scoring import read_echo, read_ids
from blackbox_diff.wire.sentinels import all_zero
from blackbox_diff.wire.zeros import without_contradicted, without_unfounded

COMPLETIONS = "/completions"
CHAT = "/chat/completions"
Context = Literal["ids", "raw", "template", "plain"]

# Extensions of vLLM that many servers share, in their neutral position.
NEUTRAL: Final[Mapping[str, Json]] = {
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "top_k": -1,
    "min_p": 0.0,
}
NEUTRAL_0: Final[Mapping[str, Json]] = {**NEUTRAL, "top_k": 0}  # where 0 and not -1 stands for off
WITH_IDS: Final[Mapping[str, Json]] = {"return_token_ids": True}
NO_THINKING: Final[Mapping[str, Json]] = {"chat_template_kwargs": {"enable_thinking": False}}


@dataclass(frozen=True, slots=True)
class ScoreItem:
    """A text to score after a prefill. ids and prompt_ids are given only where the vocabulary is shared.

    alternatives: how many to list at each position, within what the endpoint allows.
    """

    prefill: str
    framing: Framing
    text: str
    prompt_ids: tuple[int, ...] | None = None
    ids: tuple[int, ...] | None = None
    alternatives: int = 0


class Dialect:
    """One server's way to be asked and to answer. Stateless: instances are shared.

    sampler: sampler settings in their neutral position, beyond temperature and top_p. They are sent
        explicitly because servers fill what is left out from the model's generation_config.
    chat_extras: fields for chat requests only, such as the switch that turns thinking off.
    prefill_recipes, scoring_recipes: in the order in which the probe tries them.
    chats: whether there is a chat route to ask.
    signing: the AWS service that requests are signed for where the host is one of Amazon's; None for hosts that
        take a bare key.
    """

    name: ClassVar[str] = ""
    sampler: ClassVar[Mapping[str, Json]] = {"presence_penalty": 0.0, "frequency_penalty": 0.0}
    extras: ClassVar[Mapping[str, Json]] = {}
    chat_extras: ClassVar[Mapping[str, Json]] = {}
    raw_recipes: ClassVar[tuple[str, ...]] = ("completions",)
    prefill_recipes: ClassVar[tuple[str, ...]] = ("continue_final_message", "assistant_last", "prefix")
    scoring_recipes: ClassVar[tuple[str, ...]] = ("echo",)
    template_scoring: ClassVar[bool] = True  # chat prompt_logprobs are worth trying
    id_prompts: ClassVar[bool] = True  # prompts of token ids are worth trying
    takes_turns: ClassVar[bool] = True  # a raw prompt may hold a chat template's own tokens
    legacy_top_limit: ClassVar[int] = 20
    chats: ClassVar[bool] = True
    signing: ClassVar[str | None] = None

    # -- sampling ------------------------------------------------------------------------------------

    def sample(
        self, profile: EndpointProfile, prefill: str, framing: Framing, sampling: Sampling, seed: int | None
    ) -> Call:
        """The request for one completion of `prefill`; `seed` None leaves the field out.

        In the user's turn there is no prefill, and the end of the sequence is ignored where that can be asked for:
        the model is to answer what it wrote.
        """
        if framing == "raw" or framing in TURNS:
            opening = profile.opening(framing)
            prompt: Json = list(opening) if isinstance(opening, tuple) else opening
            body: dict[str, Json] = {"model": profile.model, "prompt": prefill if framing == "raw" else prompt}
            body |= self.settings(profile, sampling, seed)
            body |= {} if framing == "raw" else {"ignore_eos": True}
            body |= self.legacy_logprobs(self.top(profile, sampling, floor=1))
            path = COMPLETIONS
        else:
            body = {"model": profile.model, "messages": self.messages(profile, prefill, framing)}
            body |= self.settings(profile, sampling, seed)
            body |= self.chat_logprobs(self.top(profile, sampling, floor=0))
            if framing == "chat":
                body |= self.prefill_fields(profile.prefill)
            body |= self.chat_extras
            path = CHAT
        return self.call(profile, path, body)

    def settings(self, profile: EndpointProfile, sampling: Sampling, seed: int | None) -> dict[str, Json]:
        """Sampler fields. Processed logprobs are the model's own only at T=1 and top_p=1."""
        processed = profile.logprobs == "processed"
        body: dict[str, Json] = {
            profile.max_tokens_field: sampling.max_tokens,
            "temperature": 1.0 if processed and sampling.temperature > 0 else sampling.temperature,
            "top_p": 1.0 if processed else sampling.top_p,
            **self.sampler,
            "stream": False,
        }
        if seed is not None:
            body["seed"] = seed
        return body

    def top(self, profile: EndpointProfile, sampling: Sampling, *, floor: int) -> int:
        """Alternatives to ask for: what is wanted, within what the endpoint allows."""
        return max(min(floor, profile.max_top_logprobs), min(sampling.top_logprobs, profile.max_top_logprobs))

    def legacy_logprobs(self, top: int) -> dict[str, Json]:
        return {"logprobs": min(top, self.legacy_top_limit)}

    def chat_logprobs(self, top: int) -> dict[str, Json]:
        return {"logprobs": True, "top_logprobs": top}

    def messages(self, profile: EndpointProfile, prefill: str, framing: Framing) -> list[Json]:
        """The conversation: `prefill` begins the assistant's turn, or is all of the user's."""
        system = {"role": "system", "content": CHAT_SYSTEM}
        if framing == "user":
            return [system, {"role": "user", "content": prefill}]
        last: dict[str, Json] = {"role": "assistant", "content": prefill}
        if profile.prefill == "prefix":
            last["prefix"] = True
        return [system, {"role": "user", "content": CHAT_USER}, last]

    def prefill_fields(self, recipe: str | None) -> dict[str, Json]:
        if recipe == "continue_final_message":
            return {"add_generation_prompt": False, "continue_final_message": True}
        return {}

    def call(self, profile: EndpointProfile, path: str, body: dict[str, Json]) -> Call:
        body |= self.extras
        return Call(path, without(body, profile.dropped), self.url(profile, path))

    def url(self, profile: EndpointProfile, path: str) -> str | None:
        """A full URL where the route is not `path` below the base URL, such as one that holds the model's name."""
        return None

    def read_sample(
        self, reply: RawReply, *, call: Call, profile: EndpointProfile, prefill: str, framing: Framing
    ) -> Completion | Refusal:
        """The completion in a reply to `sample`, without the prefill; total over any bytes."""
        found = read_reply(reply, "" if framing == "user" else prefill, asked(call), specials=framing in TURNS)
        if isinstance(found, Completion) and is_other(found.model, profile):
            return refuse("other_model", repr(found.model))
        return found

    def read_step(
        self, reply: RawReply, *, call: Call, profile: EndpointProfile, prefill: str, framing: Framing
    ) -> Completion | Refusal:
        """Like read_sample, for a single token: with its list also where what was drawn is no content."""
        found = self.read_sample(reply, call=call, profile=profile, prefill=prefill, framing=framing)
        if isinstance(found, Completion) and found.alternatives is None:
            return replace(found, alternatives=first_list(self.entries(reply)))
        return found

    def entries(self, reply: RawReply) -> Entries | None:
        """The entries of a reply to `sample` as they came, for the probe's own questions."""
        return entries_of(reply)

    # -- scoring -------------------------------------------------------------------------------------

    def context(self, profile: EndpointProfile, item: ScoreItem) -> Context:
        """What stands before the text when this endpoint scores it."""
        if item.ids is not None and item.prompt_ids is not None and profile.id_prompts:
            return "ids"
        if item.framing == "raw" or item.framing in TURNS:
            return "raw"
        return "template" if profile.scores_template else "plain"

    def scored_top(self, profile: EndpointProfile, item: ScoreItem) -> int:
        """Alternatives to ask for at each position of `item`; at least 1, which is how a score is asked for."""
        most = profile.max_top_logprobs if profile.max_top_scored is None else profile.max_top_scored
        return max(1, min(item.alternatives, most))

    def score(self, profile: EndpointProfile, item: ScoreItem) -> Call:
        """The request that scores `item`; one token is generated and thrown away.

        max_tokens is 1 and not 0: 0 means "no limit" to llama-cpp-python and 1 to others.
        """
        context = self.context(profile, item)
        settings = self.settings(profile, Sampling(temperature=1.0, max_tokens=1), None)
        if context == "template":
            body: dict[str, Json] = {"model": profile.model, "messages": self.score_messages(item)}
            body |= settings | {"prompt_logprobs": self.scored_top(profile, item), "return_token_ids": True}
            body |= self.prefill_fields("continue_final_message")
            body |= self.chat_extras
            path = CHAT
        else:
            body = {"model": profile.model, "prompt": score_prompt(item, context)}
            body |= settings | {"echo": True} | self.legacy_logprobs(self.scored_top(profile, item))
            path = COMPLETIONS
        return self.call(profile, path, body)

    def score_messages(self, item: ScoreItem) -> list[Json]:
        """The conversation whose last message is the text: the framing's own, with the text filled in."""
        user, said = (item.prefill, item.text) if item.framing == "user" else (CHAT_USER, item.prefill + item.text)
        return [
            {"role": "system", "content": CHAT_SYSTEM},
            {"role": "user", "content": user},
            {"role": "assistant", "content": said},
        ]

    def read_score(
        self, reply: RawReply, *, call: Call, profile: EndpointProfile, item: ScoreItem
    ) -> ReferenceScore | Refusal:
        """The score in a reply to `score`; total over any bytes."""
        body = body_of(reply)
        if isinstance(body, Refusal):
            return body
        if is_other(named(body), profile):
            return refuse("other_model", repr(named(body)))
        context = self.context(profile, item)
        entries = self.echoed(body, context)
        if entries is None or len(entries) == 0:
            return refuse("no_logprobs")
        return read_scored(entries, item, context, prompt_tokens=read_usage(body).input_tokens)

    def echoed(self, body: dict[str, Json], context: Context) -> Entries | None:
        """The prompt's entries in a scoring reply, possibly followed by the generated token's."""
        choice = first_choice(body)
        rows = choice.get("prompt_logprobs", body.get("prompt_logprobs"))
        if context != "template":
            found = from_choice(choice)
            if found is not None and len(found) > 1:
                return found
        if isinstance(rows, list):
            given = ids(choice.get("prompt_token_ids", body.get("prompt_token_ids")))
            return from_dicts(rows, given if given is not None and len(given) == len(rows) else None)
        return from_choice(choice)


def read_scored(
    entries: Entries, item: ScoreItem, context: Context, *, prompt_tokens: int | None
) -> ReferenceScore | Refusal:
    """The score of `item` from echoed entries, located as its context demands."""
    unfounded = 0 if all_zero(entries.logprobs) else without_unfounded(entries)
    contradicted = without_contradicted(entries)
    found = _located(entries, item, context, prompt_tokens=prompt_tokens)
    if isinstance(found, Refusal) and found.reason == "missing_logprobs" and unfounded + contradicted:
        reason = "zero_logprobs" if unfounded >= contradicted else "contradicted_logprobs"
        return refuse(reason, f"{max(unfounded, contradicted)} of {len(entries)}")
    return found


def _located(
    entries: Entries, item: ScoreItem, context: Context, *, prompt_tokens: int | None
) -> ReferenceScore | Refusal:
    if context == "ids" and item.ids is not None and item.prompt_ids is not None:
        return read_ids(entries, item.prompt_ids, item.ids, item.text)
    before = score_prefix(item, context)
    found = read_echo(
        entries, before, item.text, context, prompt_tokens=prompt_tokens, trims=context == "template"
    )
    ignored = len(entries) <= 2 and len(item.text) > 1
    if isinstance(found, Refusal) and found.reason == "echo_misaligned" and ignored:
        return refuse("echo_ignored")
    return found


def score_prefix(item: ScoreItem, context: Context) -> str:
    """What is sent directly before the text, as text."""
    if item.framing != "user":
        return item.prefill
    return "" if context == "template" else item.prefill + "\n\n"


def score_prompt(item: ScoreItem, context: Context) -> str | Sequence[int]:
    """The prompt that ends in the text: the target's own ids, or plain text."""
    if context == "ids" and item.ids is not None and item.prompt_ids is not None:
        return [*item.prompt_ids, *item.ids]
    return score_prefix(item, context) + item.text


def without(body: Mapping[str, Json], dropped: Sequence[str]) -> dict[str, Json]:
    """The body without the fields that the endpoint rejects."""
    return {name: value for name, value in body.items() if name not in dropped}


def root_url(base_url: str) -> str:
    """The server's root, for routes outside of /v1."""
    return base_url.rstrip("/").removesuffix("/v1").rstrip("/")
