"""OpenAI's API. Read from its OpenAPI file of 2026-08-21 and the openai 3.54.0 package; not called live.

- Chat: logprobs with true bytes, up to 20 alternatives; a partial character's token is spelled `\\xf0\\x9f`.
  Reasoning models give logprobs only with thinking off. A token outside the top 20 is -9999.
- Legacy completions: up to 5 alternatives, partial characters as `bytes:\\xe2\\x80`.
- No prefill: a last assistant message is history, so chat models are probed through the user's turn.
- No chat model scores a given text, and echo with logprobs is refused for the instruct models.
- Some models want max_completion_tokens; the probe finds out.
"""

from __future__ import annotations

from blackbox_diff.wire.dialects.base import Dialect


class OpenAI(Dialect):
    name = "openai"
    prefill_recipes = ()
    template_scoring = False
    legacy_top_limit = 5
