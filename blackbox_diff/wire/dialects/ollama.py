"""Ollama's OpenAI routes. Read from the code of 2026-08-21; not run here.

- Chat logprobs since May 2026, raw, up to 20 alternatives; /completions parses the field and drops it from
  the reply, so only chat is used. bytes are rebuilt from strings: partial characters are U+FFFD.
- A last assistant message is continued by template models. No echo, no ids.
- top_k, min_p and repeat_penalty can't be set on this route: sampling is truncated by the model file's
  settings (top_k 40 by default), while the logprobs are of the whole distribution.
"""

from __future__ import annotations

from blackbox_diff.wire.dialects.base import Dialect


class Ollama(Dialect):
    name = "ollama"
    raw_recipes = ()
    prefill_recipes = ("assistant_last",)
    scoring_recipes = ()
    template_scoring = False
    id_prompts = False
