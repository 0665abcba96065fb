"""Error bodies of every shape, read to one record.

{"error": {message, type, param, code}}        OpenAI; vLLM and llama.cpp (code is a number)
{"object": "error", message, code}             SGLang, older vLLM
{"error": "text", ("error_type")}              TGI, Ollama
{"detail": "text" | [{loc, msg}]}              FastAPI
[{"error": {code, message, status}}]           Gemini
{"error": {code, message, metadata}} at 200    OpenRouter: error.code is the status
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from blackbox_diff.records import Json, RawReply
from blackbox_diff.wire.body import items, mapping, one_line, string
from blackbox_diff.wire.reading import value_of

_MAXIMUM = re.compile(
    r"(?:maximum(?: value)? (?:of|is|allowed(?: is)?:?)|max(?:imum)? allowed:?|less than or equal to|at most|<=|"
    r"between \d+ (?:and|to)|must be in \[?\d+,)\s*(\d{1,4})\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ApiError:
    """status: of HTTP, or the one in the body where HTTP said 200. message: one printable line."""

    status: int
    code: str | None
    message: str
    param: str | None


def error_of(reply: RawReply) -> ApiError | None:
    """The error a reply carries; None for a reply that is none."""
    value = value_of(reply)
    if isinstance(value, list) and value:
        value = value[0]
    body = mapping(value)
    if reply.status < 400 and not _is_error(body):
        return None
    error = body.get("error")
    details = error if isinstance(error, dict) else body
    message = _message(error, details, body) or one_line(reply.body[:400].decode("utf-8", "replace"))
    code = details.get("code", details.get("error_type"))
    status = reply.status
    if status < 400 and isinstance(code, int) and 400 <= code < 600:
        status = code
    elif status < 400:
        status = 500
    text = string(code) or (str(code) if isinstance(code, int) and abs(code) < 10**6 else None)
    return ApiError(
        status=status,
        code=one_line(text, 60) if text else None,
        message=message or f"HTTP {reply.status} with an empty body",
        param=_param(details),
    )


def allowed_maximum(message: str) -> int | None:
    """The limit that a message such as "5 is greater than the maximum of 1" names."""
    found = _MAXIMUM.search(message)
    return int(found[1]) if found else None


def _is_error(body: dict[str, Json]) -> bool:
    if body.get("object") == "error" or "detail" in body:
        return "choices" not in body
    return bool(body.get("error")) and not body.get("choices")


def _message(error: Json, details: dict[str, Json], body: dict[str, Json]) -> str:
    for value in (error, details.get("message"), body.get("message"), body.get("detail"), details.get("status")):
        if isinstance(value, str) and value.strip():
            return one_line(value)
        if isinstance(value, list):
            parts = [string(mapping(item).get("msg")) or "" for item in items(value)[:3]]
            where = [".".join(str(x) for x in items(mapping(item).get("loc"))[:6]) for item in items(value)[:3]]
            return one_line("; ".join(f"{w}: {p}" for w, p in zip(where, parts, strict=True)))
    return ""


def _param(details: dict[str, Json]) -> str | None:
    param = string(details.get("param"))
    return one_line(param, 60) if param else None
