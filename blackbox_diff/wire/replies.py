"""OpenAI-shaped replies, of either route, read to a Completion or a Refusal."""

from __future__ import annotations

from blackbox_diff.records import Completion, Json, RawReply, Refusal
from blackbox_diff.wire.api_errors import error_of
from blackbox_diff.wire.body import first_choice, ids, items, mapping, message_text, string
from blackbox_diff.wire.completion import Meta, complete
from blackbox_diff.wire.counts import read_usage, reasoning_tokens
from blackbox_diff.wire.entries import Entries, from_choice
from blackbox_diff.wire.reading import value_of
from blackbox_diff.wire.refusals import refuse


def read_reply(reply: RawReply, prefill: str) -> Completion | Refusal:
    """The completion in a reply to /completions or /chat/completions; total over any bytes."""
    body = body_of(reply)
    if isinstance(body, Refusal):
        return body
    choice = first_choice(body)
    if not choice:
        return refuse("no_choices")
    message = mapping(choice.get("message"))
    text = string(choice.get("text")) if "text" in choice else message_text(message)
    logprobs = mapping(choice.get("logprobs"))
    if any(message.get(name) for name in ("reasoning", "reasoning_content")) or logprobs.get("reasoning_content"):
        return refuse("reasoning")
    entries = from_choice(choice)
    if text is None:
        if message.get("tool_calls") or entries is None or len(entries) > 1:
            return refuse("no_text")
        text = ""  # content null: some servers say so when the model ends its turn at once
    return complete(entries, text, prefill, meta_of(body, choice))


def body_of(reply: RawReply) -> dict[str, Json] | Refusal:
    """The reply's JSON object, or the refusal that an error or a non-JSON body is."""
    value = value_of(reply)
    if not isinstance(value, dict) or "choices" not in value or reply.status >= 400:
        error = error_of(reply)
        if error is not None:
            return refuse("error_reply", f"{error.status} {error.message}")
    return value if isinstance(value, dict) else refuse("not_json")


def meta_of(body: dict[str, Json], choice: dict[str, Json]) -> Meta:
    """Finish reason, usage, identity and prompt ids of a reply."""
    prompt_ids = ids(choice.get("prompt_token_ids"))
    return Meta(
        finish_reason=string(choice.get("finish_reason")),
        usage=read_usage(body),
        model=string(body.get("model")),
        fingerprint=string(body.get("system_fingerprint")),
        prompt_ids=ids(body.get("prompt_token_ids")) if prompt_ids is None else prompt_ids,
        reasoning_tokens=reasoning_tokens(body),
        only_choice=len(items(body.get("choices"))) == 1,
    )


def entries_of(reply: RawReply) -> Entries | None:
    """The first choice's entries, for the probe's own questions."""
    return from_choice(first_choice(value_of(reply)))
