"""Token counts and money as each provider reports them, and as the reply itself shows them.

OpenAI: prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details.cached_tokens; input_tokens and
output_tokens on its newer routes. DeepSeek and Tinker: prompt_cache_hit_tokens. OpenRouter: cost, DeepInfra:
estimated_cost (USD). SGLang /generate: meta_info.{prompt,completion,cached}_tokens. TGI /generate:
details.generated_tokens and the length of details.prefill. watsonx.ai: counts in results[0]. Cohere: usage.tokens.

Numbers that can't be are None: no reply holds MOST_TOKENS tokens, and none costs MOST_USD.
"""

from __future__ import annotations

from collections.abc import Iterator

from blackbox_diff.records import Call, Json, RawReply, Usage
from blackbox_diff.wire.body import count, is_reasoning, items, mapping, message_text, money, string
from blackbox_diff.wire.reply_json import value_of

MOST_TOKENS = 1 << 24  # above every context window there is
MOST_USD = 10_000.0
LONGEST_TOKEN = 128  # bytes: the longest runs of spaces in today's vocabularies
_WRITTEN = ("content", "refusal", "tool_calls", "function_call", "audio")  # fields of a message that a model wrote
_ELSEWHERE = ("output", "candidates")  # where replies of other APIs hold what was written


def usage(reply: RawReply) -> Usage:
    """The usage that a reply of any shape reports; fields it does not report are None."""
    return read_usage(value_of(reply))


def read_usage(value: Json) -> Usage:
    body = mapping(value)
    given = body.get("usage")
    if isinstance(given, dict):
        own = mapping(given.get("tokens"))
        if own:
            return Usage(_tokens(own.get("input_tokens")), _tokens(own.get("output_tokens")))
        return _openai(given)
    if "results" in body:
        result = mapping(next(iter(items(body["results"])), None))
        return Usage(_tokens(result.get("input_token_count")), _tokens(result.get("generated_token_count")))
    if "meta_info" in body:
        info = mapping(body["meta_info"])
        return Usage(
            _tokens(info.get("prompt_tokens")),
            _tokens(info.get("completion_tokens")),
            _tokens(info.get("cached_tokens")),
        )
    if "details" in body:
        details = mapping(body["details"])
        prefill = items(details.get("prefill"))
        told = _tokens(details.get("prompt_tokens"))  # LoRAX
        return Usage(len(prefill) or told, _tokens(details.get("generated_tokens")))
    return Usage()


def _openai(given: dict[str, Json]) -> Usage:
    details = mapping(given.get("prompt_tokens_details"))
    cached = _tokens(details.get("cached_tokens"))
    if cached is None:
        cached = _tokens(given.get("prompt_cache_hit_tokens"))
    cost = money(given.get("cost", given.get("estimated_cost")))
    return Usage(
        input_tokens=_tokens(given.get("prompt_tokens", given.get("input_tokens"))),
        output_tokens=_tokens(given.get("completion_tokens", given.get("output_tokens"))),
        cached_tokens=cached,
        cost_usd=cost if cost is not None and cost < MOST_USD else None,
        total_tokens=_tokens(given.get("total_tokens")),
    )


def _tokens(value: Json) -> int | None:
    found = count(value)
    return found if found is not None and found < MOST_TOKENS else None


def delivered(reply: RawReply, call: Call) -> int:
    """The least number of output tokens that the reply itself shows, whatever its usage says.

    Entries of logprob lists and ids count one each, in every choice; text without either, calls of tools and
    reasoning included, is at least a token for each LONGEST_TOKEN bytes. Reasoning that the usage counts is beside
    the text that is shown. An echo's entries for the prompt are no output.
    """
    body = mapping(value_of(reply))
    echoed = read_usage(body).input_tokens if call.body.get("echo") else 0
    if echoed is None:
        return 0
    choices = list(_choices(body.get("choices")))
    shown = sum(max(0, _entries(choice) - echoed) for choice in choices)
    texts = [] if call.body.get("echo") else choices  # of an echo's text nothing tells how much is the prompt's
    visible = sum(_least(message_text(mapping(each.get("message"))) or string(each.get("text"))) for each in texts)
    return max(shown, visible + _reasoned(mapping(body.get("usage")))) + max(_native(body))


def _choices(value: Json) -> Iterator[dict[str, Json]]:
    """Every choice, also where they stand in an object or in lists of lists: what came was written."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict) and any(field in each for field in ("text", "message", "logprobs", "delta")):
            yield each
        else:
            left += each.values() if isinstance(each, dict) else items(each)


def _native(body: dict[str, Json]) -> tuple[int, ...]:
    """What replies of servers' own routes show, each in its place."""
    results = [mapping(result) for result in items(body.get("results"))]
    return (
        len(items(mapping(body.get("details")).get("tokens"))),
        len(items(mapping(body.get("meta_info")).get("output_token_logprobs"))),
        sum(len(items(result.get("generated_tokens"))) for result in results),
        sum(len(items(mapping(piece).get("logprobs"))) for piece in items(body.get("logprobs"))),
        sum(_least(string(place.get("generated_text"))) for place in (body, *results)),
        *(-(-_size(body.get(name)) // LONGEST_TOKEN) for name in _ELSEWHERE),
    )


def _entries(choice: dict[str, Json]) -> int:
    logprobs = mapping(choice.get("logprobs"))
    lists = [logprobs.get(name) for name in ("content", "tokens", "token_logprobs", "reasoning_content")]
    content, legacy, values, reasoning = (len(items(each)) for each in lists)
    message = mapping(choice.get("message"))
    said = [value for name, value in message.items() if name in _WRITTEN or is_reasoning(name)]
    said = [mapping(each).get("transcript", each) for each in said]  # a sound is no text
    text = _size([choice.get("text"), *said])
    ids = max(len(items(place.get("token_ids"))) for place in (choice, message))
    return max(content + reasoning, legacy, values, ids, -(-text // LONGEST_TOKEN))


def _size(value: Json) -> int:
    """The bytes of all texts in a value, however deep."""
    size, left = 0, [value]
    while left:
        part = left.pop()
        if isinstance(part, str):
            size += len(part.encode("utf-8", "surrogatepass"))
        else:
            left += part.values() if isinstance(part, dict) else items(part)
    return size


def _least(text: str | None) -> int:
    """The least number of tokens that a text can be."""
    return 0 if text is None else -(-len(text.encode("utf-8", "surrogatepass")) // LONGEST_TOKEN)


def hidden_tokens(value: Json) -> int:
    """Tokens that the usage counts and the reply does not show: reasoning, by name or as a gap in the total."""
    given = mapping(mapping(value).get("usage"))
    named = _reasoned(given)
    told = _openai(given)
    if told.total_tokens is None or told.input_tokens is None or told.output_tokens is None:
        return named
    gap = told.total_tokens - told.input_tokens - told.output_tokens
    # Some hosts count input from a cache in the total alone.
    return max(named, 0 if gap == told.cached_tokens else gap)


def _reasoned(given: dict[str, Json]) -> int:
    """Tokens of reasoning that a usage names, under whichever name: reasoning_tokens, thoughts_token_count, ..."""
    places = (given, *(mapping(given.get(f"{side}_tokens_details")) for side in ("completion", "output")))
    named = [_tokens(value) for place in places for name, value in place.items() if is_reasoning(name)]
    return max((tokens for tokens in named if tokens is not None), default=0)
