"""SageMaker's LMI containers (DJL Serving). Read from its schema page (0.31) and djl_python code; not called live.

- /invocations {inputs, parameters}, on a container or below .../endpoints/NAME of a SageMaker endpoint, where
  requests are signed for AWS. The endpoint decides the model.
- details.tokens: {id, text, log_prob}, that key; no alternatives. The numbers are the engine's (vLLM: raw).
- Up to 0.31 the default is greedy: do_sample is sent. top_k is vLLM's, -1 for off.
- Scoring: decoder_input_details (vLLM engine, no streaming) gives details.prefill, the first log_prob null. Its
  texts are the vocabulary's own spelling, such as `Ġday`.
- generated_text joins the tokens' texts, the end-of-sequence token's too: that one is taken off.
- finish_reason "error" comes with an empty text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from blackbox_diff.records import Call, EndpointProfile, Framing, Json, Sampling
from blackbox_diff.wire.body import items, mapping, string
from blackbox_diff.wire.completion import Meta
from blackbox_diff.wire.counts import read_usage
from blackbox_diff.wire.dialects.base import NEUTRAL, ScoreItem, score_prefix, without
from blackbox_diff.wire.dialects.native import Native, Told
from blackbox_diff.wire.dialects.tgi import FINISH
from blackbox_diff.wire.entries import from_records
from blackbox_diff.wire.tokens import looks_special

DETAILS: Mapping[str, Json] = {"return_full_text": False, "details": True}


class Lmi(Native):
    name = "lmi"
    sampler = NEUTRAL
    raw_recipes = ("invocations",)
    scoring_recipes = ("invocations",)
    signing = "sagemaker"
    finish: ClassVar[Mapping[str, str]] = FINISH

    def sample(
        self, profile: EndpointProfile, prefill: str, framing: Framing, sampling: Sampling, seed: int | None
    ) -> Call:
        parameters = self.settings(profile, sampling, seed)
        parameters["do_sample"] = sampling.temperature > 0
        return self.invocation(profile, prefill, sampling.max_tokens, parameters)

    def score(self, profile: EndpointProfile, item: ScoreItem) -> Call:
        parameters = self.settings(profile, Sampling(temperature=1.0), None)
        parameters |= {"do_sample": True, "decoder_input_details": True}
        return self.invocation(profile, score_prefix(item, self.context(profile, item)) + item.text, 1, parameters)

    def invocation(
        self, profile: EndpointProfile, prompt: str, max_tokens: int, parameters: dict[str, Json]
    ) -> Call:
        named = without(parameters, (profile.max_tokens_field, "stream", *profile.dropped))
        asked = {"max_new_tokens": max_tokens, **named, **DETAILS}
        return Call("/invocations", {"inputs": prompt, "parameters": asked})

    def told(self, body: dict[str, Json]) -> Told:
        details = mapping(body.get("details"))
        written = from_records(items(details.get("tokens")))
        text = string(body.get("generated_text"))
        meta = Meta(self.finish_reason(string(details.get("finish_reason"))), read_usage(body))
        last = written.strings[-1] if written is not None and len(written) else ""
        if text is not None and meta.finish_reason == "stop" and looks_special(last):
            text = text.removesuffix(last)
        return Told(text, written, from_records(items(details.get("prefill"))), meta)
