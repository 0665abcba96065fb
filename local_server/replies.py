"""Token lists as the wire shows them: OpenAI's legacy and chat shapes, vLLM's prompt_logprobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from local_server.engine import Token, Written
from local_server.models import LoadedModel


def text_of(loaded: LoadedModel, tokens: Sequence[Token]) -> str:
    """The content as text; an incomplete character at the end shows as U+FFFD, as OpenAI does it."""
    return joined(loaded, tokens).decode("utf-8", errors="replace")


def joined(loaded: LoadedModel, tokens: Sequence[Token]) -> bytes:
    return b"".join(loaded.pieces[token.id] for token in tokens if token.id not in loaded.special)


def cut_at_stop(text: str, stops: Sequence[bytes]) -> str:
    """`text` up to the first stop string."""
    places = [place for stop in stops if (place := text.find(stop.decode())) >= 0]
    return text[: min(places)] if places else text


def legacy_token(piece: bytes) -> str:
    """A token's text; part of a character as OpenAI's legacy endpoint wrote it: "bytes:\\xe2\\x80"."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def chat_token(piece: bytes) -> dict[str, Any]:
    return {"token": piece.decode("utf-8", errors="replace"), "bytes": list(piece)}


def legacy_logprobs(loaded: LoadedModel, tokens: Sequence[Token], offset: int, as_ids: bool) -> dict[str, Any]:
    """`tokens, token_logprobs, top_logprobs, text_offset` of a completion that starts at `offset`."""

    def name(index: int) -> str:
        return f"token_id:{index}" if as_ids else legacy_token(loaded.pieces[index])

    offsets, place = [], offset
    for token in tokens:
        offsets.append(place)
        place += len(loaded.pieces[token.id].decode("utf-8", errors="ignore"))
    tops: list[dict[str, float] | None] = []
    for token in tokens:
        if token.logprob is None:
            tops.append(None)
            continue
        # Two ids may share a text: the better one is kept, and the sampled token always has its own value.
        best = {name(index): logprob for index, logprob in reversed(token.top)}
        best[name(token.id)] = token.logprob
        tops.append(best)
    return {
        "tokens": [name(token.id) for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": tops,
        "text_offset": offsets,
    }


def chat_logprobs(loaded: LoadedModel, tokens: Sequence[Token]) -> dict[str, Any]:
    return {
        "content": [
            {
                **chat_token(loaded.pieces[token.id]),
                "logprob": token.logprob,
                "top_logprobs": [
                    {**chat_token(loaded.pieces[index]), "logprob": logprob} for index, logprob in token.top
                ],
            }
            for token in tokens
        ],
        "refusal": None,
    }


def prompt_logprobs(loaded: LoadedModel, tokens: Sequence[Token]) -> list[dict[str, Any] | None]:
    """vLLM's form: per prompt token None, or {id: {logprob, rank, decoded_token}}, the actual token first."""
    out: list[dict[str, Any] | None] = []
    for token in tokens:
        if token.logprob is None:
            out.append(None)
            continue
        entries = {str(token.id): _ranked(loaded, token.id, token.logprob, token.rank)}
        for rank, (index, logprob) in enumerate(token.top, start=1):
            entries.setdefault(str(index), _ranked(loaded, index, logprob, rank))
        out.append(entries)
    return out


def _ranked(loaded: LoadedModel, index: int, logprob: float, rank: int) -> dict[str, Any]:
    return {"logprob": logprob, "rank": rank, "decoded_token": legacy_token(loaded.pieces[index])}


def usage(prompt: int, written: Sequence[Written]) -> dict[str, int]:
    completion = sum(len(one.tokens) for one in written)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
