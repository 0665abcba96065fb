"""Together AI. Read from the together 3.1.1 package and its OpenAPI file of 2026-04-28; not called live.

- `logprobs` is a number (0-20) under both routes; the reply has {tokens, token_logprobs, token_ids} there
  too, or OpenAI's shape for some models. No bytes. token_ids are typed as floats.
- Some models report logprobs after top_p (mostly 0.0): the probe says processed or all zero.
- Prompts are strings only. Echo puts the prompt under a top-level `prompt[]`, apart from `choices`; its
  first value was once positive.
- Prefill over chat is undocumented; raw completions are the framing to use.
"""

from __future__ import annotations

from blackbox_diff.records import Json
from blackbox_diff.wire.body import items, mapping
from blackbox_diff.wire.dialects.base import NEUTRAL, Context, Dialect
from blackbox_diff.wire.entries import Entries, from_choice


class Together(Dialect):
    name = "together"
    sampler = NEUTRAL
    prefill_recipes = ("assistant_last",)
    template_scoring = False
    id_prompts = False

    def chat_logprobs(self, top: int) -> dict[str, Json]:
        return {"logprobs": max(1, top)}

    def echoed(self, body: dict[str, Json], context: Context) -> Entries | None:
        prompts = items(body.get("prompt"))
        if prompts:
            return from_choice(mapping(prompts[0]))
        return super().echoed(body, context)
