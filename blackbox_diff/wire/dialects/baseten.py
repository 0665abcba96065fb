"""Baseten. Read from its documentation of the inference API; not called live.

- OpenAI's routes at https://inference.baseten.co/v1 for its models, and at
  https://model-ID.api.baseten.co/environments/production/sync/v1 for a customer's own deployment, whose engine
  (vLLM, SGLang, TensorRT-LLM: the customer's choice) decides what it can do: name its dialect where it is known.
- Up to 20 alternatives on chat. Echo is not documented, and tried.
"""

from __future__ import annotations

from blackbox_diff.wire.dialects.generic import Generic


class Baseten(Generic):
    name = "baseten"
