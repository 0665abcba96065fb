"""llama.cpp's own server. Written against captured replies (xllamacpp 2026.10) and the code of 2026-10.

- Both routes answer in chat shape with true bytes and `id` per entry; logprobs are raw. Without
  top_logprobs it sends 20, with logprobs 0 none.
- No entry while the text ends inside a character: the completing token's entry holds the whole character
  and only its own logprob, so that unit has no usable number (its alternatives show the token's own bytes).
- Speculative decoding reports accepted tokens as exactly 0 with no alternatives: missing.
- Prefill: a last assistant message is continued, and the reply's text repeats it.
- The end-of-sequence entry is "" with bytes []. Probability 0 is -3.4e38.
- It can't score: echo is ignored with status 200, which the probe shows.
- Documented defaults are temperature 0.8, top_k 40, top_p 0.95, min_p 0.05, so everything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from blackbox_diff.records import Json
from blackbox_diff.wire.dialects.base import NO_THINKING, Dialect


class LlamaCpp(Dialect):
    name = "llamacpp"
    sampler: ClassVar[Mapping[str, Json]] = {
        "top_k": 0,
        "min_p": 0.0,
        "typical_p": 1.0,
        "top_n_sigma": -1.0,
        "xtc_probability": 0.0,
        "dry_multiplier": 0.0,
        "dynatemp_range": 0.0,
        "mirostat": 0,
        "repeat_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }
    chat_extras = NO_THINKING
    prefill_recipes = ("continue_final_message", "assistant_last")
    template_scoring = False
