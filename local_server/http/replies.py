"""Token lists as the wire shows them: OpenAI's legacy and chat shapes, vLLM's prompt_logprobs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from fastapi.responses import JSONResponse

from local_server.engine.jobs import Token
from local_server.errors import RequestError
from local_server.model.load import LoadedModel


def text_of(loaded: LoadedModel, tokens: Sequence[Token]) -> str:
    """The content as text; an incomplete character at the end shows as U+FFFD, as OpenAI does it."""
    return joined(loaded, tokens).decode("utf-8", errors="replace")


def joined(loaded: LoadedModel, tokens: Sequence[Token]) -> bytes:
    return b"".join(loaded.pieces[token.id] for token in tokens if token.id not in loaded.special)


def width(loaded: LoadedModel, token: Token) -> int:
    """Whole characters that a token adds to the text."""
    return len(loaded.pieces[token.id].decode("utf-8", errors="ignore"))


def cut_at_stop(text: str, stops: Sequence[bytes], after: int = 0) -> str:
    """`text` up to the first stop string that begins at or past character `after`."""
    places = [place for stop in stops if (place := text.find(stop.decode(), after)) >= 0]
    return text[: min(places)] if places else text


@cache
def legacy_token(piece: bytes) -> str:
    """A token's text; part of a character as OpenAI's legacy endpoint wrote it: "bytes:\\xe2\\x80"."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


@cache
def chat_token(piece: bytes) -> dict[str, Any]:
    """A token's text and bytes, as the chat endpoint writes them; the caller copies what it gets."""
    return {"token": piece.decode("utf-8", errors="replace"), "bytes": list(piece)}


def legacy_logprobs(
    loaded: LoadedModel, tokens: Sequence[Token], *, top: int, offset: int = 0, as_ids: bool = False
) -> dict[str, Any]:
    """`tokens, token_logprobs, top_logprobs, text_offset`; the first token stands at character `offset`.

    Alternatives as vLLM gives them: the token itself first, then the best `top`. Two ids may share a
    text; then the token's own value is kept, and of others the better one.
    """

    def name(index: int) -> str:
        return f"token_id:{index}" if as_ids else legacy_token(loaded.pieces[index])

    offsets: list[int] = []
    tops: list[dict[str, float] | None] = []
    for token in tokens:
        offsets.append(offset)
        offset += width(loaded, token)
        if token.logprob is None:
            tops.append(None)
            continue
        best = {name(token.id): token.logprob}
        for index, logprob in token.top[:top]:
            best.setdefault(name(index), logprob)
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


def prompt_logprobs(loaded: LoadedModel, tokens: Sequence[Token], top: int) -> list[dict[str, Any] | None]:
    """vLLM's form: per prompt token None, or {id: {logprob, rank, decoded_token}}, the actual token first."""
    out: list[dict[str, Any] | None] = []
    for token in tokens:
        if token.logprob is None:
            out.append(None)
            continue
        entries = {str(token.id): _ranked(loaded, token.id, token.logprob, token.rank)}
        for rank, (index, logprob) in enumerate(token.top[:top], start=1):
            entries.setdefault(str(index), _ranked(loaded, index, logprob, rank))
        out.append(entries)
    return out


def _ranked(loaded: LoadedModel, index: int, logprob: float, rank: int) -> dict[str, Any]:
    return {"logprob": logprob, "rank": rank, "decoded_token": legacy_token(loaded.pieces[index])}


def refusal(error: RequestError) -> JSONResponse:
    """An error as clients get it."""
    headers = {"retry-after": str(error.retry_after)} if error.retry_after else None
    return JSONResponse(error.body(), status_code=error.status, headers=headers)
