"""OpenRouter. Read from the openrouter 1.3.84 package and threads; not called live.

- A router: without `provider.require_parameters` unknown parameters are dropped in silence, and without a
  pinned provider (--target-provider) every call may meet another host and quantisation. Both are sent.
- Errors may come with status 200 and {"error": {code, message, metadata}}; the code is the status.
- Prefill is a plain last assistant message, and works if that host continues it; the probe decides.
- Text completions with logprobs may be re-sent as chat, so the raw framing is not trusted.
- usage.cost is in USD. No scoring.
"""

from __future__ import annotations

from blackbox_diff.records import Call, EndpointProfile, Framing, Json, Sampling
from blackbox_diff.wire.dialects.base import Dialect, without


class OpenRouter(Dialect):
    name = "openrouter"
    raw_recipes = ()
    prefill_recipes = ("assistant_last",)
    scoring_recipes = ()
    template_scoring = False
    id_prompts = False

    def sample(
        self, profile: EndpointProfile, prefill: str, framing: Framing, sampling: Sampling, seed: int | None
    ) -> Call:
        call = super().sample(profile, prefill, framing, sampling, seed)
        routing: dict[str, Json] = {"require_parameters": True, "allow_fallbacks": False}
        if profile.provider:
            routing = {"only": [profile.provider], **routing}
        extra = {"provider": routing, "usage": {"include": True}}
        return Call(call.path, without({**call.body, **extra}, profile.dropped), call.url)
