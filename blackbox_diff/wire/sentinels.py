"""Which reported numbers are logprobs, and which only stand where one should be.

Placeholders seen in the wild: null; NaN and infinities; -9999 (OpenAI's documented floor, vLLM's
clamp); -99999 (Tinker); the least float32, about -3.4e38 (SGLang, llama.cpp, gateways); exactly -100
(several re-implementations); positive values (unnormalised logits, a first value of Together's).
"""

from __future__ import annotations

import math
from typing import Final

from blackbox_diff.records import Json

NAN: Final = float("nan")
FLOOR: Final = -9998.0
ROUNDING: Final = 1e-6  # a logprob of 0 may come back this much above it
MISSING_SHARE: Final = 0.05  # a completion with more missing logprobs than this is refused


def censor(value: Json) -> float:
    """The logprob in nats, <= 0, or NaN where `value` is missing or a placeholder."""
    if value.__class__ is not float:
        if value.__class__ is not int:
            return NAN
        try:
            value = float(value)
        except OverflowError:
            return NAN
    if FLOOR < value <= 0.0:
        return NAN if value == -100.0 else value
    return 0.0 if 0.0 < value <= ROUNDING else NAN


def from_probability(value: Json) -> float:
    """llama.cpp's post_sampling_probs: a probability after the sampler chain; 0 is a placeholder."""
    if isinstance(value, float | int) and not isinstance(value, bool) and 0 < value <= 1:
        return math.log(value)
    return NAN


def too_many_missing(missing: int, total: int) -> bool:
    return missing > MISSING_SHARE * total


def all_zero(logprobs: list[float]) -> bool:
    """Whether a list of two or more entries says nothing but 0: no model is that sure twice."""
    return len(logprobs) > 1 and not any(logprobs)
