"""Mistral's API. Read from the mistralai 3.7.0 package; not called live.

- Chat only (completions are fill-in-the-middle). Prefill: the last assistant message with `prefix: true`;
  the reply often repeats the prefix. The seed is `random_seed`; unknown fields are a 422.
- The package types logprobs, top_logprobs, and prompt_logprobs under each choice; which models answer
  them is unknown, so the probe decides.
"""

from __future__ import annotations

from blackbox_diff.records import EndpointProfile, Json, Sampling
from blackbox_diff.wire.dialects.base import Dialect


class Mistral(Dialect):
    name = "mistral"
    raw_recipes = ()
    prefill_recipes = ("prefix",)
    scoring_recipes = ()
    template_scoring = False
    id_prompts = False

    def settings(self, profile: EndpointProfile, sampling: Sampling, seed: int | None) -> dict[str, Json]:
        body = super().settings(profile, sampling, None)
        if seed is not None:
            body["random_seed"] = seed
        return body
