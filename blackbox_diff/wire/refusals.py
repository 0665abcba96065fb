"""Why a reply can't be used, and what to do about it: the stable reasons and their advice."""

from __future__ import annotations

from blackbox_diff.records import Refusal

ADVICE = {
    "not_json": "the body is not JSON: check that the base URL ends where the API begins, usually in /v1",
    "error_reply": "the endpoint answered with an error",
    "no_choices": "the reply holds no choices: this is not an OpenAI-compatible reply",
    "no_text": "the reply holds no text but a tool call or nothing: turn tools off at the server",
    "no_logprobs": "the reply holds no logprobs: the endpoint, its plan or a gateway drops them",
    "ids_only": "the reply names its tokens by number alone, and bytes are not guessed from numbers",
    "zero_logprobs": "logprobs of 0 that the alternatives do not bear out: the host fills the field without "
    "computing it; turn speculative decoding and prompt caches off, or ask for more top_logprobs",
    "constant_logprobs": "one logprob for every token: the host fills the field without computing it",
    "contradicted_logprobs": "the lists of alternatives give the sampled tokens other logprobs, so one of the two "
    "belongs to other tokens: turn speculative decoding off at the server",
    "missing_logprobs": "more than 5% of the logprobs are missing or placeholders: ask for more top_logprobs",
    "merged_characters": "most of the text is characters that the server reports with one token's logprob only",
    "entries_missing": "the list has fewer entries than tokens were generated: turn off streaming and tool or "
    "reasoning parsers",
    "reasoning": "the reply holds reasoning: turn thinking off for this model",
    "hidden_reasoning": "the usage counts tokens that the reply does not show, so the text follows reasoning that "
    "nobody sees: turn thinking off for this model",
    "other_model": "another model answered than the probe saw: turn fallbacks off, or pin the model at its host",
    "too_long": "the reply is longer than what was asked for: max_tokens is ignored",
    "text_not_unicode": "the text holds lone surrogates and is not Unicode",
    "replacement_character": "the text holds bytes that are not UTF-8, which the server replaced",
    "text_mismatch": "the tokens do not join to the text and their bytes can't be recovered",
    "content_filter": "the host filtered the completion",
    "echo_ignored": "the server ignored the text to score: it can't be a reference this way",
    "echo_misaligned": "the echoed tokens do not hold the text that was sent",
    "double_bos": "the server put a second start-of-sequence token before the text",
    "too_many_ids": "the echoed tokens are not the ids that were sent",
    "not_scorable": "this endpoint has no way to score a given text: bring another reference",
}


def refuse(reason: str, detail: str = "") -> Refusal:
    """The refusal of that name; `detail` goes after its advice."""
    advice = ADVICE[reason]
    return Refusal(reason, f"{advice}: {detail}" if detail else advice)
