"""llama-cpp-python's server. Written against captured replies and the code of 0.3.36.

- Start it with --logits_all true, or there are no logprobs. Chat needs top_logprobs >= 1.
- bytes is null; bytes of partial characters are left out of token strings, so runs of such tokens are
  placed as one unit between whole ones. The end-of-sequence token has no entry.
- No prefill: a last assistant message begins a new turn.
- Echo is off by one where the model adds no start-of-sequence token (rows and tokens are zipped one
  apart), with nothing in the reply to show it; only the probe's self-consistency check finds it.
- max_tokens 0 means no limit. Prompts of ids and lists of prompts are a 500.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from blackbox_diff.records import Json
from blackbox_diff.wire.dialects.base import Dialect


class LlamaCppPython(Dialect):
    name = "llamacpp_python"
    sampler: ClassVar[Mapping[str, Json]] = {
        "top_k": 0,
        "min_p": 0.0,
        "repeat_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "mirostat_mode": 0,
    }
    prefill_recipes = ()
    template_scoring = False
    id_prompts = False
