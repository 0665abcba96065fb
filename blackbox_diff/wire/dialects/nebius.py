"""Nebius Token Factory (AI Studio before). Read from its API pages and its clients; not called live.

- OpenAI's routes at https://api.tokenfactory.nebius.com/v1, for its models and for customers' LoRA adapters.
- Up to 20 alternatives. The pages name neither the engine nor whether echo has logprobs: the probe finds out, and
  drops what is rejected.
"""

from __future__ import annotations

from blackbox_diff.wire.dialects.generic import Generic


class Nebius(Generic):
    name = "nebius"
