"""Endpoints made ready for a run: connected, capped, probed, and named by what they are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from blackbox_diff.buying.buyer import Buyer
from blackbox_diff.buying.http import Endpoint
from blackbox_diff.buying.ledger import Ledger, Shared
from blackbox_diff.buying.limits import Limiter
from blackbox_diff.buying.prices import prices_for, prices_of_writer
from blackbox_diff.config.model import AuditConfig, EndpointConfig
from blackbox_diff.errors import ConfigError, NotAuditableError
from blackbox_diff.probing import cache
from blackbox_diff.probing.negotiate import listing
from blackbox_diff.probing.probe import shares_vocabulary
from blackbox_diff.probing.turn import NAME
from blackbox_diff.records import TURNS, WRITER, EndpointProfile, Framing
from blackbox_diff.run.collect import TARGET, Lane
from blackbox_diff.run.local import serve
from blackbox_diff.run.progress import Listener, Notice
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire import dialect

LOCAL = "local:"
REFERENCE = "reference-"  # what the options of its caps begin with
LOCAL_SECONDS = 600.0  # a model on this machine may be slow, and asking again would make it slower


async def reach(wanted: EndpointConfig) -> None:
    """Ask for the list of models, which is free. Raises EndpointUsageError where nobody answers.

    A `local:` reference is there once it is started.
    """
    if wanted.url.startswith(LOCAL):
        return
    async with Endpoint(wanted) as endpoint:
        await listing(endpoint)


@dataclass(frozen=True, slots=True)
class Connections:
    """What lanes are made with: the run's store and configuration, and the stack that closes the connections.

    served: where a `local:` reference is up already, by its label. shared: caps over other runs, too.
    """

    store: Store
    config: AuditConfig
    listener: Listener
    stack: AsyncExitStack
    served: Mapping[str, str] = field(default_factory=dict)
    shared: Shared | None = None

    async def target(self, *, probing: bool) -> Lane:
        """The target's lane. Raises NotAuditableError where completions are to be bought and can't be."""
        wanted = self.config.target
        ledger = Ledger(
            self.config.budget,
            prices_for(wanted, self.config.budget),
            self.store.spent(TARGET, WRITER),
            wanted.model,
            shared=self.shared,
        )
        buyer = await self._buyer(wanted, ledger, TARGET)
        profile = await self._profile(buyer, wanted, TARGET, "target")
        if probing and not profile.auditable:
            raise NotAuditableError(f"{wanted.url}: {profile.model} {profile.verdict}")
        return Lane(TARGET, profile, dialect(profile.dialect), buyer)

    async def reference(self, wanted: EndpointConfig) -> Lane:
        """A reference's lane; `local:SPEC` starts the bundled server.

        Raises NotAuditableError for an endpoint that can't score.
        """
        label = wanted.name
        if wanted.url.startswith(LOCAL):
            spec = wanted.url.removeprefix(LOCAL)
            url = self.served.get(label) or await asyncio.to_thread(
                self.stack.enter_context, serve(["--model", f"{wanted.model}={spec}"])
            )
            wanted = wanted.model_copy(update={"url": url, "timeout_seconds": LOCAL_SECONDS})
        role = f"reference:{label}"
        caps, spent = wanted.budget(), self.store.spent(role)
        prices = prices_for(wanted, caps, REFERENCE)
        ledger = Ledger(caps, prices, spent, wanted.model, REFERENCE, self.shared)
        buyer = await self._buyer(wanted, ledger, role)
        profile = await self._profile(buyer, wanted, label, "reference")
        if not profile.can_score:
            raise NotAuditableError(f"{wanted.url}: {profile.model} {profile.verdict}")
        return Lane(label, profile, dialect(profile.dialect), buyer)

    async def writer(self, wanted: EndpointConfig, target: Lane) -> Buyer:
        """What buys the writer's answers: at its own prices, and in the target's ledger, which has the caps."""
        prices, spent = prices_of_writer(wanted, self.config.budget), self.store.spent(WRITER)
        ledger = Ledger(None, prices, spent, wanted.model, shared=target.buyer.ledger)
        return await self._buyer(wanted, ledger, WRITER)

    async def _buyer(self, wanted: EndpointConfig, ledger: Ledger, role: str) -> Buyer:
        endpoint = await self.stack.enter_async_context(Endpoint(wanted))
        return Buyer(endpoint, self.store, ledger, Limiter(self.config.concurrency), role)

    async def _profile(
        self, buyer: Buyer, wanted: EndpointConfig, label: str, purpose: cache.Purpose
    ) -> EndpointProfile:
        return await cache.profile_of(
            self.store,
            buyer,
            wanted,
            label,
            purpose,
            fresh=self.config.fresh_probe,
            turn=any(framing in TURNS for framing in self.config.framing),
            say=lambda line: self.listener(Notice(line)),
        )


def framings_to_use(
    config: AuditConfig, profile: EndpointProfile, reference: EndpointProfile | None
) -> tuple[Framing, ...]:
    """The framings to use. Raises ConfigError for one that the target does not allow.

    Raw completions are of no use beside a reference that can only score chats: the template would be the gap.
    """
    allowed = profile.framings()
    if reference is not None and reference.raw is None:
        allowed = tuple(framing for framing in allowed if framing != "raw")
        if not allowed:
            raise NotAuditableError(
                f"{reference.base_url}: {reference.model} scores chats only, and {profile.model} can't be asked "
                "in a chat: bring a reference with raw completions"
            )
    turns = [framing for framing in config.framing if framing in TURNS]
    shut = next((framing for framing in turns if profile.opening(framing) is None), None)
    if shut is not None:
        raise ConfigError(f"--framing: {profile.model} does not allow {shut}: {_why_not(profile, shut)}")
    missing = [framing for framing in config.framing if framing not in (*allowed, "user", *TURNS)]
    if missing:
        raise ConfigError(
            f"--framing: {profile.model} does not allow {missing[0]}; it allows {', '.join(allowed)}"
        )
    return config.framing or allowed


def _why_not(profile: EndpointProfile, framing: Framing) -> str:
    if profile.turn is not None and profile.turn.how != "no":
        return "its template has no system prompt, so turn is the same" if framing == "turn-bare" else "no opening"
    return next((check.detail for check in profile.checks if check.name == NAME), "nobody asked")


def in_step(store: Store, config: AuditConfig, target: Lane, lane: Lane) -> Lane:
    """A reference's lane that begins the user's turn as the target does, where the configuration asks for turns.

    Raises ConfigError where it can't be given the target's special tokens, as ids or in a text.
    """
    if not any(framing in TURNS for framing in config.framing):
        return lane
    shared = shares_vocabulary(target.profile, lane.profile)
    own, turn = lane.profile.turn, target.profile.turn
    spelled = own is not None and turn is not None and own.how == turn.how != "ids"
    if not (shared or spelled) or own is None or own.how == "no":
        raise ConfigError(
            f"--framing: {lane.label} can't score the user's turn: it must share the target's tokens and score "
            "ids, or read the same template's tokens in a text: bring the base model, or leave turn out"
        )
    profile = lane.profile.model_copy(update={"turn": turn})
    state = store.state
    store.set_state(replace(state, profiles={**state.profiles, lane.label: profile}))
    return replace(lane, profile=profile)
