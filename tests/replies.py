"""Replies for tests, in the shapes that servers give."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from blackbox_diff.records import Completion, EndpointProfile, Framing, RawReply, Refusal
from blackbox_diff.wire import DIALECTS

PROFILE = EndpointProfile(base_url="http://server/v1", model="m", dialect="generic", max_top_logprobs=20)


def raw(body: Any, status: int = 200) -> RawReply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RawReply(status, {}, data, 0.1)


def legacy(
    text: str, tokens: Sequence[Any], logprobs: Sequence[Any], finish: str = "length", **more: Any
) -> dict[str, Any]:
    lists = {"tokens": list(tokens), "token_logprobs": list(logprobs), "top_logprobs": None, "text_offset": []}
    choice = {"index": 0, "text": text, "logprobs": lists, "finish_reason": finish}
    return {"choices": [choice], **more}


def entry(token: str, logprob: Any = -1.0, data: Any = "own", **more: Any) -> dict[str, Any]:
    given = list(token.encode()) if data == "own" else data
    return {"token": token, "logprob": logprob, "bytes": given, "top_logprobs": [], **more}


def chat(text: Any, content: Any, finish: str = "length", message: Any = None, **more: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": text, **(message or {})}
    choice = {"index": 0, "message": said, "logprobs": {"content": content}, "finish_reason": finish}
    return {"choices": [choice], **more}


def read(
    body: Any, prefill: str = "", dialect: str = "generic", framing: Framing = "raw", status: int = 200
) -> Completion | Refusal:
    return DIALECTS[dialect].read_sample(
        raw(body, status),
        call=None,  # type: ignore[arg-type]
        profile=PROFILE,
        prefill=prefill,
        framing=framing,
    )


def done(body: Any, prefill: str = "", dialect: str = "generic") -> Completion:
    found = read(body, prefill, dialect)
    assert isinstance(found, Completion), found
    return found


def refused(body: Any, prefill: str = "", dialect: str = "generic") -> str:
    found = read(body, prefill, dialect)
    assert isinstance(found, Refusal), found
    assert found.advice
    assert "\n" not in found.advice
    return found.reason


def pieces(found: Completion) -> list[str]:
    """The units' texts; a unit that ends inside a character shows as hex."""
    data, start, out = found.text.encode(), 0, []
    for end in found.tokens.ends:
        piece = data[start:end]
        start = int(end)
        try:
            out.append(piece.decode())
        except UnicodeDecodeError:
            out.append(piece.hex())
    return out
