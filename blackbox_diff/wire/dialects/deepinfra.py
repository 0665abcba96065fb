"""DeepInfra's own inference route. Read from its page on log probabilities; not called live.

- POST /v1/inference/MODEL {input, stream: true}: one event a token, {token: {id, text, logprob, special},
  generated_text, details}. Its page says that neither the reply in one piece nor its OpenAI route has logprobs, so
  the stream is asked for and put together.
- Raw text only. No alternatives, and no logprobs of given text. The page's figures look like bfloat16's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import quote

from blackbox_diff.records import Call, EndpointProfile, Framing, Json, Sampling
from blackbox_diff.wire.body import items, mapping, string
from blackbox_diff.wire.completion import Meta
from blackbox_diff.wire.counts import read_usage
from blackbox_diff.wire.dialects.base import root_url, without
from blackbox_diff.wire.dialects.native import Native, Told
from blackbox_diff.wire.dialects.tgi import FINISH
from blackbox_diff.wire.entries import from_records


class DeepInfra(Native):
    name = "deepinfra"
    sampler: ClassVar[Mapping[str, Json]] = {
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "top_k": 0,
    }
    scoring_recipes = ()
    finish: ClassVar[Mapping[str, str]] = FINISH

    def sample(
        self, profile: EndpointProfile, prefill: str, framing: Framing, sampling: Sampling, seed: int | None
    ) -> Call:
        settings = self.settings(profile, sampling, seed)
        body: dict[str, Json] = {"input": prefill, "max_new_tokens": sampling.max_tokens}
        body |= without(settings, (profile.max_tokens_field, *profile.dropped)) | {"stream": True}
        base = root_url(profile.base_url.removesuffix("/openai"))
        return Call("/inference", body, f"{base}/v1/inference/{quote(profile.model, safe='/')}")

    def told(self, body: dict[str, Json]) -> Told:
        details = mapping(body.get("details"))
        return Told(
            string(body.get("generated_text")),
            from_records(items(details.get("tokens"))),
            None,
            Meta(self.finish_reason(string(details.get("finish_reason"))), read_usage(body)),
        )
