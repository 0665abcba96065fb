"""trtllm-serve, TensorRT-LLM's server. Read from its openai_protocol.py of 2026; not run here.

- Unknown fields are a 400 (`extra="forbid"`), so none of vLLM's extensions is sent that it lacks; top_k is 0 for
  off. Placeholder -9999.
- More than one alternative needs the PyTorch backend, or gather_generation_logits: the probe lowers the number.
- No way to begin the assistant's turn: there is no continue_final_message.
- echo gives the prompt's text back without its logprobs: no reference. NIM 2 is vLLM: speak to it as that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from blackbox_diff.records import Json
from blackbox_diff.wire.dialects.base import NO_THINKING, Dialect


class TensorRTLLM(Dialect):
    name = "tensorrt_llm"
    sampler: ClassVar[Mapping[str, Json]] = {
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "top_k": 0,
        "top_p_min": 0.0,
        "min_p": 0.0,
    }
    chat_extras = NO_THINKING
    prefill_recipes = ()
    scoring_recipes = ()
    template_scoring = False
    id_prompts = False
