"""text-generation-inference through its own /generate. Read from the code of 2026-01-08; not run here.

- Raw text only: the OpenAI route gives no logprobs on /completions and no bytes or ids on chat.
- details.tokens: {id, text, logprob, special}; logprobs are after repetition penalty, temperature, top-k and
  top-p, so sampling stays at T=1 with no filter. top_p must be below 1, hence it is left out.
- Scoring: decoder_input_details gives details.prefill, the first logprob null. At most 5 alternatives.
- Partial characters are U+FFFD in token strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from blackbox_diff.records import Call, EndpointProfile, Framing, Json, Sampling
from blackbox_diff.wire.body import items, mapping, string
from blackbox_diff.wire.completion import Meta
from blackbox_diff.wire.counts import read_usage
from blackbox_diff.wire.dialects.base import ScoreItem, root_url, score_prefix, without
from blackbox_diff.wire.dialects.native import Native, Told
from blackbox_diff.wire.entries import from_records

FINISH: Mapping[str, str] = {"eos_token": "stop", "stop_sequence": "stop", "length": "length"}


class Tgi(Native):
    """alternatives: the parameter that asks for the most likely tokens at each position."""

    name = "tgi"
    finish: ClassVar[Mapping[str, str]] = FINISH
    alternatives: ClassVar[str] = "top_n_tokens"

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
        parameters |= {"details": True, "decoder_input_details": False, self.alternatives: min(5, top)}
        if seed is not None:
            parameters["seed"] = seed
        return self.generate(profile, prefill, parameters)

    def score(self, profile: EndpointProfile, item: ScoreItem) -> Call:
        parameters: dict[str, Json] = {"max_new_tokens": 1, "do_sample": False, "repetition_penalty": 1.0}
        parameters |= {"details": True, "decoder_input_details": True}
        text = score_prefix(item, self.context(profile, item)) + item.text
        return self.generate(profile, text, parameters)

    def generate(self, profile: EndpointProfile, prompt: str, parameters: dict[str, Json]) -> Call:
        body: dict[str, Json] = {"inputs": prompt, "parameters": without(parameters, profile.dropped)}
        return Call("/generate", body, root_url(profile.base_url) + "/generate")

    def told(self, body: dict[str, Json]) -> Told:
        details = mapping(body.get("details"))
        return Told(
            string(body.get("generated_text")),
            from_records(items(details.get("tokens")), items(details.get("top_tokens"))),
            from_records(items(details.get("prefill"))),
            Meta(self.finish_reason(string(details.get("finish_reason"))), read_usage(body)),
        )
