"""When to stop asking: an endpoint that fails every call in the same way is not asked again."""

from __future__ import annotations

from blackbox_diff.buying.retry import Decision
from blackbox_diff.errors import CircuitOpenError


class Breaker:
    """Opens when the last `most` attempts all failed in the same way.

    Throttled attempts don't count, since waiting is the answer to them; a call that is given up after
    all its attempts were throttled counts as `most / 4` of them.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._reason = ""
        self._count = 0.0
        self._opened: str | None = None

    def observe(self, decision: Decision) -> None:
        if decision.action == "accept":
            self._reason, self._count = "", 0.0
            return
        if decision.throttled and decision.action == "retry":
            return
        if decision.reason != self._reason:
            self._reason, self._count = decision.reason, 0.0
        self._count += self.most / 4 if decision.throttled else 1
        if decision.action == "stop":
            self._opened = decision.detail
        elif self._count >= self.most:
            self._opened = f"the last {self.most} calls all failed the same way: {decision.detail}"

    def check(self, endpoint: str) -> None:
        """Raises CircuitOpenError once the breaker is open."""
        if self._opened is not None:
            raise CircuitOpenError(f"{endpoint}: {self._opened}")
