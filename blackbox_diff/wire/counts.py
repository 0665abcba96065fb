"""Token counts and money as each provider reports them.

OpenAI: prompt_tokens, completion_tokens, prompt_tokens_details.cached_tokens. DeepSeek and Tinker:
prompt_cache_hit_tokens. OpenRouter: cost (USD). SGLang /generate: meta_info.{prompt,completion,cached}_tokens.
TGI /generate: details.generated_tokens and the length of details.prefill.
"""

from __future__ import annotations

from blackbox_diff.records import Json, RawReply, Usage
from blackbox_diff.wire.body import count, items, mapping, money
from blackbox_diff.wire.reading import value_of


def usage(reply: RawReply) -> Usage:
    """The usage that a reply of any shape reports; fields it does not report are None."""
    return read_usage(value_of(reply))


def read_usage(value: Json) -> Usage:
    body = mapping(value)
    given = body.get("usage")
    if isinstance(given, dict):
        return _openai(given)
    if "meta_info" in body:
        info = mapping(body["meta_info"])
        return Usage(
            count(info.get("prompt_tokens")),
            count(info.get("completion_tokens")),
            count(info.get("cached_tokens")),
        )
    if "details" in body:
        details = mapping(body["details"])
        prefill = items(details.get("prefill"))
        return Usage(len(prefill) or None, count(details.get("generated_tokens")))
    return Usage()


def _openai(given: dict[str, Json]) -> Usage:
    details = mapping(given.get("prompt_tokens_details"))
    cached = count(details.get("cached_tokens"))
    if cached is None:
        cached = count(given.get("prompt_cache_hit_tokens"))
    return Usage(
        input_tokens=count(given.get("prompt_tokens")),
        output_tokens=count(given.get("completion_tokens")),
        cached_tokens=cached,
        cost_usd=money(given.get("cost")),
    )


def reasoning_tokens(value: Json) -> int:
    given = mapping(mapping(value).get("usage"))
    return count(mapping(given.get("completion_tokens_details")).get("reasoning_tokens")) or 0
