"""Any OpenAI-compatible server: everything is asked for, and the probe drops what is rejected.

Contract: OpenAI's routes with the common extensions in their neutral position (top_k, min_p,
repetition_penalty, return_token_ids). Most servers ignore unknown fields; strict ones answer 400 and
name the field, and the probe then leaves it out. The bundled local server is spoken to this way.
"""

from __future__ import annotations

from blackbox_diff.wire.dialects.base import NEUTRAL, WITH_IDS, Dialect


class Generic(Dialect):
    name = "generic"
    sampler = NEUTRAL
    extras = WITH_IDS
