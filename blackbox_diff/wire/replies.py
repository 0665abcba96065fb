"""OpenAI-shaped replies, of either route, read to a Completion or a Refusal."""

from __future__ import annotations

from blackbox_diff.records import Completion, Json, RawReply, Refusal
from blackbox_diff.wire.api_errors import error_of
from blackbox_diff.wire.body import first_choice, ids, is_reasoning, items, mapping, message_text, string
from blackbox_diff.wire.completion import Meta, complete
from blackbox_diff.wire.counts import hidden_tokens, read_usage
from blackbox_diff.wire.entries import Entries, from_choice
from blackbox_diff.wire.identity import NAME_LENGTH, named
from blackbox_diff.wire.refusals import refuse
from blackbox_diff.wire.reply_json import value_of

MOST_PROMPT_IDS = 8192  # an audit's prompts are short, whatever template stands around them


def read_reply(
    reply: RawReply, prefill: str, most_tokens: int | None = None, *, specials: bool = False
) -> Completion | Refusal:
    """The completion in a reply to /completions or /chat/completions; total over any bytes.

    most_tokens: as many were asked for at most, where that is known. specials: as for `complete`.
    """
    body = body_of(reply)
    if isinstance(body, Refusal):
        return body
    choice = first_choice(body)
    if not choice:
        return refuse("no_choices")
    message = mapping(choice.get("message"))
    text = string(choice.get("text")) if "text" in choice else message_text(message)
    logprobs = mapping(choice.get("logprobs"))
    if any(map(_reasoned, (choice, message, logprobs))) or _reasoned_above(body):
        return refuse("reasoning")
    hidden = hidden_tokens(body)
    if hidden > 0:
        return refuse("hidden_reasoning", f"{hidden} tokens")
    entries = from_choice(choice)
    if text is None:
        if message.get("tool_calls") or entries is None or len(entries) > 1:
            return refuse("no_text")
        text = ""  # content null: some servers say so when the model ends its turn at once
    return complete(entries, text, prefill, meta_of(body, choice), most_tokens, specials=specials)


def _reasoned(place: dict[str, Json]) -> bool:
    """Whether a choice, its message or its logprobs hold reasoning in any field; white space is none."""
    kinds = [string(mapping(part).get("type")) for part in items(place.get("content"))]
    fields = [field for name, field in place.items() if is_reasoning(name)]
    return any(is_reasoning(kind) for kind in kinds if kind) or any(
        field.strip() if isinstance(field, str) else field for field in fields
    )


def _reasoned_above(body: dict[str, Json]) -> bool:
    """Whether the reply itself holds a text of reasoning; a table or a single word there is a setting."""
    return any(is_reasoning(name) and " " in (string(field) or "").strip() for name, field in body.items())


def body_of(reply: RawReply) -> dict[str, Json] | Refusal:
    """The reply's JSON object, or the refusal that an error or a non-JSON body is."""
    value = value_of(reply)
    error = error_of(reply)
    if error is not None:
        return refuse("error_reply", f"{error.status} {error.message}")
    return value if isinstance(value, dict) else refuse("not_json")


def meta_of(body: dict[str, Json], choice: dict[str, Json]) -> Meta:
    """Finish reason, usage, identity and prompt ids of a reply."""
    given = choice.get("prompt_token_ids", body.get("prompt_token_ids"))
    prompt_ids = ids(given) if len(items(given)) <= MOST_PROMPT_IDS else None
    return Meta(
        finish_reason=_short(choice.get("finish_reason")),
        usage=read_usage(body),
        model=named(body),
        fingerprint=_short(body.get("system_fingerprint") or body.get("provider")),  # a router's host
        prompt_ids=prompt_ids,
        only_choice=len(items(body.get("choices"))) == 1,
    )


def _short(value: Json) -> str | None:
    """A label that a stranger wrote: what is kept of it is bounded."""
    text = string(value)
    return None if text is None else text[:NAME_LENGTH]


def entries_of(reply: RawReply) -> Entries | None:
    """The first choice's entries, for the probe's own questions."""
    return from_choice(first_choice(value_of(reply)))
