"""One budget over many audits, without a lock: shares are handed out before an audit starts, and come back after.

At every moment   spent by finished audits + shares of audits at work <= the cap,   and an audit can't spend more
than its share, since its own ledger caps it; so the sum can't pass the cap, whatever workers do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LEAST_SHARE = 1e-6  # USD: less buys nothing


@dataclass(slots=True)
class Purse:
    """The fleet's money in USD; `cap` None is no cap.

    spent: what each audit has spent in all. held: shares of audits at work, on top of what they had spent before.
    """

    cap: float | None
    spent: dict[str, float] = field(default_factory=dict)
    held: dict[str, float] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """What no audit has spent or holds."""
        if self.cap is None:
            return float("inf")
        return max(0.0, self.cap - sum(self.spent.values()) - sum(self.held.values()))

    def take(self, name: str, waiting: int, own_cap: float | None = None) -> float | None:
        """The most that the audit `name` may spend in all; None where the fleet sets no limit.

        waiting: audits that still want a share, this one among them: each gets an equal part of what is left, so
        what an audit leaves unspent is shared out among those after it. own_cap: the audit's own, USD.
        """
        if self.cap is None:
            return own_cap
        before = self.spent.get(name, 0.0)
        share = self.left / max(1, waiting)
        if own_cap is not None:
            share = min(share, max(0.0, own_cap - before))
        self.held[name] = share
        return before + share

    def settle(self, name: str, spent: float | None, own_cap: float | None = None) -> None:
        """The audit `name` has spent `spent` USD in all; None, unknown, counts its share or its `own_cap`."""
        share = self.held.pop(name, 0.0)
        before = self.spent.get(name, 0.0)
        self.spent[name] = spent if spent is not None else max(before + share, own_cap or 0.0)
