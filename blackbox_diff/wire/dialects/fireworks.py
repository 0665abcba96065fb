"""Fireworks AI. Read from the fireworks-ai 1.2.30 package; not called live.

- `logprobs: true` gives chat shape under both routes: {token, bytes, logprob, sampling_logprob, token_id,
  text_offset, top_logprobs}; `logprob` is raw, `sampling_logprob` after the sampler. At most 5 alternatives.
- Scoring: echo with max_tokens 0 gives an entry for every prompt token but the first. LoRA adapters need a
  dedicated deployment. Prompts may be ids; return_token_ids gives them back.
- Prefill over chat is undocumented; raw completions are the framing to use.
"""

from __future__ import annotations

from blackbox_diff.records import Call, EndpointProfile, Json
from blackbox_diff.wire.dialects.base import NEUTRAL_0, WITH_IDS, Dialect, ScoreItem


class Fireworks(Dialect):
    name = "fireworks"
    sampler = NEUTRAL_0
    extras = WITH_IDS
    prefill_recipes = ("assistant_last",)
    template_scoring = False
    id_prompts = False  # its echo leaves the first token out, and ids are then not checked one by one
    legacy_top_limit = 5

    def legacy_logprobs(self, top: int) -> dict[str, Json]:
        return {"logprobs": True, "top_logprobs": min(top, self.legacy_top_limit)}

    def score(self, profile: EndpointProfile, item: ScoreItem) -> Call:
        call = super().score(profile, item)
        return Call(call.path, {**call.body, profile.max_tokens_field: 0}, call.url)
