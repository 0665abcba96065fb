"""What a request allows its reply to be: how many tokens it may write, and how long the body may get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from blackbox_diff.records import Call, Json

MAX_BODY: Final = 16 * 1024 * 1024
ENVELOPE: Final = 1024 * 1024  # bytes of a reply beside its tokens: prompts repeated, timings, settings
ENTRY: Final = 512  # bytes of one token or alternative: its string, its bytes as a list of numbers, its logprob
# What servers call the most tokens to write, and the seed. Of a limit by another name the ledger would reserve one
# token; tests/test_wire_requests.py holds every dialect to these names.
LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_new_tokens", "n_predict")
SEEDS: Final = ("seed", "random_seed", "sampling_seed")
ALTERNATIVES: Final = 20  # llama.cpp sends as many where none were asked for


def output_tokens(call: Call) -> int:
    """The most output tokens that a request allows: its max_tokens, for each of its completions."""
    body = call.body
    places = (body, body.get("sampling_params"), body.get("parameters"))
    given = [place.get(name) for place in places if isinstance(place, Mapping) for name in LIMITS]
    limit = next((whole(value) for value in given if value), 0)
    # An echo is asked for with max_tokens 0 or 1; servers that can't do 0 write one token.
    return max(1, limit) * max(1, whole(body.get("n"))) * (prompts(body["prompt"]) if "prompt" in body else 1)


def asked(call: Call | None) -> int | None:
    """The most tokens that one completion may have; None where the request is not known."""
    return None if call is None else output_tokens(call) // max(1, whole(call.body.get("n")))


def reply_bytes(call: Call) -> int:
    """The longest body that an answer to the request can be believed to need."""
    body = call.body
    tops = [whole(body.get(name)) for name in ("top_logprobs", "logprobs", "prompt_logprobs", "top_logprobs_num")]
    entries = output_tokens(call) + _given_tokens(body)
    return min(MAX_BODY, ENVELOPE + entries * (1 + max(ALTERNATIVES, *tops)) * ENTRY)


def _given_tokens(body: Json) -> int:
    """At most so many tokens of the prompt come back with logprobs: ids as they are, a text as its bytes."""
    given = [body.get(name) for name in ("prompt", "text", "input_ids", "input", "inputs")]
    given += [message.get("content") for message in body.get("messages", ())]
    return sum(_size(value) for value in given)


def _size(value: Json) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    return (
        sum(_size(part) if isinstance(part, str | list) else 1 for part in value) if isinstance(value, list) else 0
    )


def prompts(value: Json) -> int:
    """How many prompts a `prompt` field holds: a text or a list of ids is one."""
    return len(value) if isinstance(value, (list, tuple)) and value and not isinstance(value[0], int) else 1


def whole(value: Json) -> int:
    """The value if it is a whole number, else 0 (true counts as 1)."""
    return int(value) if isinstance(value, int) else 0
