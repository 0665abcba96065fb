"""A reply that came as server-sent events although it was not asked for: its chunks as one reply."""

from __future__ import annotations

from typing import Any

from blackbox_diff.records import Json
from blackbox_diff.wire.body import first_choice, items, load, mapping, string

ARRAYS = ("tokens", "token_logprobs", "top_logprobs", "text_offset", "content")


def assembled(body: bytes) -> dict[str, Json] | None:
    """The reply that the `data:` lines add up to; None where the body is no event stream.

    Usage counts are taken from the last chunk that has them; logprob lists are joined in order.
    """
    if not body.lstrip().startswith(b"data:"):
        return None
    reply: dict[str, Any] = {}
    text: list[str] = []
    logprobs: dict[str, list[Json]] = {}
    finish: Json = None
    chat = False
    for line in body.splitlines():
        chunk = load(line[5:]) if line.startswith(b"data:") else None
        if not isinstance(chunk, dict):
            continue
        reply.update({key: value for key, value in chunk.items() if key != "choices" and value is not None})
        choice = first_choice(chunk)
        chat = chat or "delta" in choice
        text.append(string(choice.get("text")) or string(mapping(choice.get("delta")).get("content")) or "")
        finish = choice.get("finish_reason") or finish
        for name, values in mapping(choice.get("logprobs")).items():
            if name in ARRAYS:
                logprobs.setdefault(name, []).extend(items(values))
    whole = "".join(text)
    content: dict[str, Json] = {"message": {"content": whole}} if chat else {"text": whole}
    reply["choices"] = [{**content, "logprobs": logprobs or None, "finish_reason": finish}]
    return reply
