"""LoRAX, and Predibase, which hosts it. Read from the lorax client of predibase/lorax; not called live.

- TGI's /generate with an adapter in every request: the model's name is the adapter, `pbase:REPO/1`, `hub:NAME`,
  `s3:...` or `local:...`, a bare name being one of the hub; the model named `base` is the base without an adapter,
  so target and reference can be one server.
- Predibase: the base URL is https://serving.app.predibase.com/TENANT/deployments/v2/llms/DEPLOYMENT.
- details.tokens: {id, text, logprob, special, alternative_tokens[{id, text, logprob}]}, asked for by
  return_k_alternatives. Tokens that speculative decoding skipped say so: `skipped`, and have no number.
- Scoring as TGI's, by decoder_input_details. top_k must be above 0 and top_p below 1, so both are left out.
"""

from __future__ import annotations

from typing import ClassVar

from blackbox_diff.records import Call, EndpointProfile, Json
from blackbox_diff.wire.body import items, mapping
from blackbox_diff.wire.dialects.base import without
from blackbox_diff.wire.dialects.native import Told
from blackbox_diff.wire.dialects.tgi import Tgi
from blackbox_diff.wire.sentinels import NAN

SOURCES = ("hub", "local", "s3", "pbase")
BASE = "base"


class Lorax(Tgi):
    name = "lorax"
    alternatives: ClassVar[str] = "return_k_alternatives"

    def generate(self, profile: EndpointProfile, prompt: str, parameters: dict[str, Json]) -> Call:
        named = without(parameters, ("frequency_penalty",)) | adapter(profile.model)
        return super().generate(profile, prompt, named)

    def told(self, body: dict[str, Json]) -> Told:
        told = super().told(body)
        rows = [mapping(row) for row in items(mapping(body.get("details")).get("tokens"))]
        if told.written is not None:
            told.written.tops = [row.get("alternative_tokens") for row in rows]
            told.written.logprobs = [
                NAN if row.get("skipped") else value
                for row, value in zip(rows, told.written.logprobs, strict=True)
            ]
        return told


def adapter(model: str) -> dict[str, Json]:
    """The parameters that name an adapter; none for the base model."""
    if model == BASE:
        return {}
    source, colon, rest = model.partition(":")
    return {"adapter_id": rest, "adapter_source": source} if colon and source in SOURCES else {"adapter_id": model}
