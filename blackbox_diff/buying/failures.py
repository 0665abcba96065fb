"""A request that got no reply: why, and whether the endpoint can have seen it, since then it may be billed."""

from __future__ import annotations

from typing import Literal


class TransportFailure(Exception):  # noqa: N818 - a value that retry judges, not an error for users
    """No reply. "unsent": the endpoint can't have billed it. "unknown": it may have.

    `reason` is a stable snake_case word, the message one line without the request.
    """

    def __init__(self, kind: Literal["unsent", "unknown"], reason: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.reason = reason
