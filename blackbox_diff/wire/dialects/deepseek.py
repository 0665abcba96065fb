"""DeepSeek's API. Read from its documentation and threads; not called live.

- Chat only. Prefill: the last assistant message with `prefix: true`, on the /beta base URL.
- Thinking is on by default and its tokens have their own list: it is turned off. The reasoner model
  answers 400 to logprobs. Up to 20 alternatives, true bytes, partial characters spelled `\\xf0\\x9f`.
- V3.2 once returned only 0 and -9999, which the probe refuses. No echo, no ids, no seed documented.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from blackbox_diff.records import EndpointProfile, Json
from blackbox_diff.wire.dialects.base import Dialect


class DeepSeek(Dialect):
    name = "deepseek"
    chat_extras: ClassVar[Mapping[str, Json]] = {"thinking": {"type": "disabled"}}
    raw_recipes = ()
    prefill_recipes = ("prefix",)
    scoring_recipes = ()
    template_scoring = False
    id_prompts = False

    def url(self, profile: EndpointProfile, path: str) -> str | None:
        base = profile.base_url.removesuffix("/v1").removesuffix("/beta")
        return f"{base}/beta{path}" if profile.prefill == "prefix" else None
