"""text-generation-inference through its own /generate. Read from the code of 2026-01-08; not run here.

- Raw text only: the OpenAI route gives no logprobs on /completions and no bytes or ids on chat.
- details.tokens: {id, text, logprob, special}; logprobs are after repetition penalty, temperature, top-k and
  top-p, so sampling stays at T=1 with no filter. top_p must be below 1, hence it is left out.
- Scoring: decoder_input_details gives details.prefill, the first logprob null. At most 5 alternatives.
- Partial characters are U+FFFD in token strings.
"""

from __future__ import annotations

from blackbox_diff.records import (
    Call,
    Completion,
    EndpointProfile,
    Framing,
    Json,
    RawReply,
    ReferenceScore,
    Refusal,
    Sampling,
)
from blackbox_diff.wire.asked import asked
from blackbox_diff.wire.body import items, mapping, string
from blackbox_diff.wire.completion import Meta, complete
from blackbox_diff.wire.counts import read_usage
from blackbox_diff.wire.dialects.base import (
    Context,
    Dialect,
    ScoreItem,
    read_scored,
    root_url,
    score_prefix,
    without,
)
from blackbox_diff.wire.entries import from_records
from blackbox_diff.wire.refusals import refuse
from blackbox_diff.wire.replies import body_of

FINISH = {"eos_token": "stop", "stop_sequence": "stop", "length": "length"}


class Tgi(Dialect):
    name = "tgi"
    raw_recipes = ("generate",)
    prefill_recipes = ()
    scoring_recipes = ("generate",)
    template_scoring = False
    id_prompts = False

    def sample(
        self, profile: EndpointProfile, prefill: str, framing: Framing, sampling: Sampling, seed: int | None
    ) -> Call:
        parameters: dict[str, Json] = {
            "max_new_tokens": sampling.max_tokens,
            "do_sample": sampling.temperature > 0,
        }
        if sampling.temperature > 0:
            parameters["temperature"] = 1.0 if profile.logprobs == "processed" else sampling.temperature
        parameters |= {"repetition_penalty": 1.0, "frequency_penalty": 0.0, "return_full_text": False}
        top = self.top(profile, sampling, floor=1)
        parameters |= {"details": True, "decoder_input_details": False, "top_n_tokens": min(5, top)}
        if seed is not None:
            parameters["seed"] = seed
        return self._call(profile, prefill, without(parameters, profile.dropped))

    def read_sample(
        self, reply: RawReply, *, call: Call, profile: EndpointProfile, prefill: str, framing: Framing
    ) -> Completion | Refusal:
        body = body_of(reply)
        if isinstance(body, Refusal):
            return body
        text = string(body.get("generated_text"))
        if text is None:
            return refuse("no_text")
        details = mapping(body.get("details"))
        reason = string(details.get("finish_reason"))
        meta = Meta(FINISH.get(reason or "", reason), read_usage(body))
        entries = from_records(items(details.get("tokens")), items(details.get("top_tokens")))
        return complete(entries, text, prefill, meta, asked(call))

    def score(self, profile: EndpointProfile, item: ScoreItem) -> Call:
        context: Context = self.context(profile, item)
        parameters: dict[str, Json] = {"max_new_tokens": 1, "do_sample": False, "repetition_penalty": 1.0}
        parameters |= {"details": True, "decoder_input_details": True}
        return self._call(profile, score_prefix(item, context) + item.text, without(parameters, profile.dropped))

    def read_score(
        self, reply: RawReply, *, call: Call, profile: EndpointProfile, item: ScoreItem
    ) -> ReferenceScore | Refusal:
        body = body_of(reply)
        if isinstance(body, Refusal):
            return body
        entries = from_records(items(mapping(body.get("details")).get("prefill")))
        if entries is None or len(entries) == 0:
            return refuse("no_logprobs")
        return read_scored(entries, item, self.context(profile, item), prompt_tokens=len(entries))

    def _call(self, profile: EndpointProfile, prompt: str, parameters: dict[str, Json]) -> Call:
        return Call(
            "/generate", {"inputs": prompt, "parameters": parameters}, root_url(profile.base_url) + "/generate"
        )
