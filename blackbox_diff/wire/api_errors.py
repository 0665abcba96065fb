"""Error bodies of every shape, read to one record.

{"error": {message, type, param, code}}        OpenAI; vLLM and llama.cpp (code is a number)
{"object": "error", message, code}             SGLang, older vLLM
{"error": "text", ("error_type")}              TGI, Ollama
{"detail": "text" | [{loc, msg}]}              FastAPI
[{"error": {code, message, status}}]           Gemini
{"error": {code, message, metadata}} at 200    OpenRouter: error.code is the status, also beside choices
{"choices": [{"error": ...}]} at 200           OpenRouter, for a generation that broke off
{"choices": [{"message": {"error": ...}}]}     the same, a level below
{"choices": [{"finish_reason": "error"}]}      and "network_error", "abort", ...: no code, so it counts as a 502
{"choices": [...], "status": "failed"}         the same; also a choice's own, and `native_finish_reason`
{"success": false, message}                    Cloudflare and other gateways
{"code" | "error_code", "msg" | "error_msg"}   Z.ai, Baidu, MiniMax (base_resp), at any status

A failed generation is an error whatever text came before it: nobody knows what is missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from blackbox_diff.records import Json, RawReply
from blackbox_diff.wire.body import items, mapping, one_line, string
from blackbox_diff.wire.reply_json import value_of

# In a finish_reason: the server, and not the model, ended the generation. Every server has its own word for it.
_BROKEN = re.compile(
    "error|fail|abort|cancel|time_?d?_?out|deadline|interrupt|exception|overload|unavailable|insufficient|preempt|"
    "evict|disconnect|malformed|crash|out_of_memory|oom|kill|dead|died|shut_?down|rate_?limit|quota|throttl",
    re.IGNORECASE,
)
# In a finish_reason: the host filtered the text.
_FILTERED = re.compile(
    "filter|sensitive|safety|recitation|refus|toxic|prohibited|block|guardrail|moderat|policy|^spii$|^language$",
    re.IGNORECASE,
)
_CODES = ("code", "error_code", "status_code")
_WORDS = ("message", "msg", "error_msg", "status_msg")
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
    error = _own_error(body)
    if error is None and reply.status < 400:
        return None
    details = error if isinstance(error, dict) else body
    message = _message(error, details, body) or one_line(reply.body[:400].decode("utf-8", "replace"))
    code = next((details[name] for name in (*_CODES, "error_type") if details.get(name) is not None), None)
    status = reply.status
    if status < 400:
        told = _whole(code)
        broke = isinstance(error, str) and broke_off(error)
        status = told if told is not None and 400 <= told < 600 else 502 if broke else 500
    text = string(code) or (str(code) if isinstance(code, int) and abs(code) < 10**6 else None)
    return ApiError(
        status=status,
        code=one_line(text, 60) if text else None,
        message=message or f"HTTP {reply.status} with an empty body",
        param=_param(details),
    )


def _own_error(body: dict[str, Json]) -> Json | None:
    """What a body says went wrong, in whichever place; None where it says nothing of the kind."""
    choices = items(body.get("choices"))
    first = mapping(choices[0]) if choices else {}
    message = mapping(first.get("message"))
    for place in (body.get("error"), body.get("errors"), first.get("error"), message.get("error")):
        found = place[0] if isinstance(place, list) and place else place
        if found and not _is_fine(found):
            return found
    ends = (first.get("finish_reason"), first.get("native_finish_reason"), first.get("status"), body.get("status"))
    for reason in map(_word, ends):
        if reason is not None and broke_off(reason):
            return reason
    if body.get("object") == "error" or body.get("success") is False:
        return body
    own = mapping(body.get("base_resp")) or body
    if choices:  # an error among a stream's parts; beside a whole answer such words may mean anything
        failed = any((_whole(own.get(name)) or 0) >= 400 for name in _CODES)
        return own if failed and any(string(own.get(name)) for name in _WORDS) else None
    if "detail" in body:
        return body
    spoken = any(string(own.get(name)) for name in _WORDS)
    coded = any(own.get(name) not in (None, 0, "0", 200, "200") for name in _CODES)
    return own if spoken and coded else None


def broke_off(reason: str) -> bool:
    """Whether a finish_reason says that the server broke the generation off, and not that a filter did."""
    return not is_filtered(reason) and _BROKEN.search(reason[:60]) is not None


def is_filtered(reason: str) -> bool:
    """Whether a finish_reason says that the host filtered the text."""
    return _FILTERED.search(reason[:60]) is not None


def _word(reason: Json) -> str | None:
    """A finish_reason as a word; SGLang's is an object with a type."""
    return string(mapping(reason).get("type")) if isinstance(reason, dict) else string(reason)


def _is_fine(error: Json) -> bool:
    """Whether an `error` field says that there was none: {"code": 0, "message": ""}."""
    if not isinstance(error, dict):
        return False
    return not any(
        value for name, value in error.items() if not (name in _CODES and value in (0, "0", 200, "200"))
    )


def _whole(code: Json) -> int | None:
    """A code as a number, also where it is written as text."""
    if isinstance(code, str) and len(code) <= 6 and code.isdecimal():
        return int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def allowed_maximum(message: str) -> int | None:
    """The limit that a message such as "5 is greater than the maximum of 1" names."""
    found = _MAXIMUM.search(message)
    return int(found[1]) if found else None


def _message(error: Json, details: dict[str, Json], body: dict[str, Json]) -> str:
    spoken = [details.get(name) for name in _WORDS]
    said = [error, *spoken, body.get("message"), body.get("detail"), details.get("status")]
    if isinstance(error, str) and " " not in error and broke_off(error):  # a finish_reason: words say more
        said = [*said[1:-1], f"the generation broke off: {error.lower()}"]
    for value in said:
        if isinstance(value, str) and value.strip():
            return one_line(value)
        if isinstance(value, list):
            return one_line("; ".join(_complaint(mapping(item)) for item in value[:3]))
    return ""


def _complaint(item: dict[str, Json]) -> str:
    """FastAPI's {loc, msg}."""
    where = ".".join(str(part)[:40] for part in items(item.get("loc"))[:6] if isinstance(part, str | int))
    return f"{where}: {(string(item.get('msg')) or '')[:200]}"


def _param(details: dict[str, Json]) -> str | None:
    param = string(details.get("param"))
    return one_line(param, 60) if param else None
