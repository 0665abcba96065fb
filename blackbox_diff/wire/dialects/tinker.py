"""Tinker's OpenAI-compatible endpoint. Read from its documentation and the tinker 0.38.0 package; not called live.

- Base URL .../oai/api/v1; the model is a base id or tinker://.../sampler_weights/NNN. Both routes.
- Logprobs are raw; chat logprobs were null for one model family (March 2026), which the probe shows.
- Placeholder -99999. Scoring lives in the native SDK (compute_logprobs), not on this route; echo is tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from blackbox_diff.records import Json
from blackbox_diff.wire.dialects.base import Dialect


class Tinker(Dialect):
    name = "tinker"
    sampler: ClassVar[Mapping[str, Json]] = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "top_k": -1}
    prefill_recipes = ("continue_final_message", "assistant_last")
    template_scoring = False
    id_prompts = False
