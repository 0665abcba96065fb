"""Does an endpoint stay what the probe found? What changes under way is kept in the run and told in the report.

Every reply is looked at, which costs nothing. Beside that the probe's own draw is asked again now and then:
where its first position's logprobs move by more than noise, another model or another build is answering.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from blackbox_diff.buying.buyer import Buyer
from blackbox_diff.buying.failures import TransportFailure
from blackbox_diff.errors import BudgetError
from blackbox_diff.probing.comparisons import Pair, first_position_shift
from blackbox_diff.probing.probe import first_draw
from blackbox_diff.records import Completion, EndpointProfile, Lost, RawReply, ReferenceScore, Refusal
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire import Dialect, drift
from blackbox_diff.wire.body import one_line
from blackbox_diff.wire.identity import alias

EVERY = 250  # completions between two questions
ALLOWED = 0.1  # nats: more than builds, caches and batches of one model are known to differ by on average
MOST = 8  # different warnings that are kept


class Watched(Protocol):
    """What collect.Lane offers."""

    @property
    def profile(self) -> EndpointProfile: ...
    @property
    def dialect(self) -> Dialect: ...
    @property
    def buyer(self) -> Buyer: ...


class Watch:
    """Counts what changed, by warning; goes on with the counts of a run that is resumed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.counts: dict[str, int] = dict(store.state.drift)

    def check(self, outcome: Completion | Refusal | Lost | ReferenceScore, profile: EndpointProfile) -> None:
        """Note what `outcome` shows to have changed since the probe."""
        warning = drift(outcome, profile)
        if warning is not None:
            self._note(warning)
        stands_in = alias(profile)
        if stands_in is not None and stands_in not in self.counts:
            self._note(stands_in)

    async def ask(self, lane: Watched) -> None:
        """Ask the probe's draw again and compare. A question that can't be paid or answered is no warning."""
        profile, role = lane.profile, lane.buyer.role
        prefill, framing, call = first_draw(profile, lane.dialect)
        before = self.store.bought(role, "", call.digest())
        try:
            reply = await lane.buyer.post(call)
        except (BudgetError, TransportFailure):
            return
        if before is None:
            return

        def pair(given: RawReply) -> Pair | None:
            read = lane.dialect.read_sample(given, call=call, profile=profile, prefill=prefill, framing=framing)
            if not isinstance(read, Completion):
                return None
            return Pair(read, lane.dialect.entries(given), prefill, framing)

        first, again = pair(before[1]), pair(reply)
        distance = None if first is None or again is None else first_position_shift(first, again)
        if distance is not None and distance > ALLOWED + 4 * (profile.noise_nats or 0.0):
            self._note(
                f"{one_line(profile.model, 60)}: the same question gives other logprobs than before the run "
                f"(by {distance:.2g} nats): another model or build may be answering"
            )

    def _note(self, warning: str) -> None:
        if warning not in self.counts and len(self.counts) >= MOST:
            return
        self.counts[warning] = self.counts.get(warning, 0) + 1
        if self.counts[warning] == 1:
            self.save()  # so that a run that is killed tells it too

    def save(self) -> None:
        """Keep the counts in the run."""
        if self.counts:
            self.store.set_state(replace(self.store.state, drift=dict(self.counts)))


def sentences(counts: Mapping[str, int]) -> tuple[str, ...]:
    """The warnings as a report tells them."""
    return tuple(text if n == 1 else f"{text} ({n:,} times)" for text, n in counts.items())
