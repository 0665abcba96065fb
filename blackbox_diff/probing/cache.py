"""What is known of an endpoint before an audit: from its run, from an earlier probe, or by probing now.

Earlier probes are kept for a day, one file per endpoint, in `profiles/` of the cache directory
($BLACKBOX_DIFF_CACHE, else ~/.cache/blackbox-diff). A file holds what `probe --json` prints; neither it nor its
name depends on the key. Loopback addresses are never kept: another server may come up on the same port, and asking
one's own machine costs nothing. The cache is a convenience: a file that can't be read or written is no error.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from blackbox_diff.buying.buyer import Buyer, Recall
from blackbox_diff.buying.failures import TransportFailure
from blackbox_diff.config.model import EndpointConfig, on_this_machine
from blackbox_diff.errors import StoppedError
from blackbox_diff.probing.conclusion import verdict
from blackbox_diff.probing.probe import UNANSWERED, first_draw, probe
from blackbox_diff.probing.turn import ask_turn
from blackbox_diff.records import Completion, EndpointProfile
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire import DIALECTS, dialect, drift

Purpose = Literal["target", "reference"]

FORMAT = 1  # raised when a profile found by an older probe would mislead
FRESH = datetime.timedelta(hours=24)


async def profile_of(
    store: Store,
    buyer: Buyer,
    endpoint: EndpointConfig,
    label: str,
    purpose: Purpose,
    *,
    fresh: bool,
    turn: bool = False,
    say: Callable[[str], None],
) -> EndpointProfile:
    """The endpoint's profile: found once per run, and kept in it.

    fresh: probe, whatever is known. turn: ask whether the user's turn can be left to the model, too.
    say: told in one line that an earlier profile is used, or no longer fits.
    """
    found = store.state.profiles.get(label)
    if found is not None and not (turn and found.turn is None):
        return found.model_copy(update={"base_url": endpoint.url})
    calls = Recall(buyer)
    profile = found
    if profile is None and not fresh:
        profile = await _known(calls, endpoint, purpose, say)
    if profile is None:
        profile = await probe(calls, endpoint, purpose=purpose)
        busy = next((check.detail for check in profile.checks if check.name == UNANSWERED), None)
        if busy is not None:  # a design that rests on what was not asked would stay so for the whole run
            raise StoppedError(f"{endpoint.url}: too busy to be probed: {busy}; ask again later")
        keep(endpoint, profile)
    if turn and profile.turn is None:
        profile = await ask_turn(calls, profile)
        keep(endpoint, profile)
    state = store.state
    store.set_state(replace(state, profiles={**state.profiles, label: profile}))
    return profile


def recall(endpoint: EndpointConfig, purpose: Purpose) -> EndpointProfile | None:
    """A fresh profile, kept by `keep`, that says the endpoint will do for `purpose`; else None."""
    if on_this_machine(endpoint.url):
        return None
    try:
        profile = verdict(EndpointProfile.model_validate_json(_file(endpoint).read_bytes()), purpose)
        age = _age(profile)
    except (OSError, RuntimeError, ValueError, TypeError):
        return None
    able = profile.auditable if purpose == "target" else profile.can_score
    usable = able and profile.dialect in DIALECTS
    return profile if usable and datetime.timedelta(0) <= age < FRESH else None


def keep(endpoint: EndpointConfig, profile: EndpointProfile) -> None:
    """Keep what a probe found; the file is replaced whole, and only its owner can read it."""
    if on_this_machine(endpoint.url) or any(check.name == UNANSWERED for check in profile.checks):
        return
    try:
        file = _file(endpoint)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".json")
        try:
            with open(handle, "w", encoding="utf-8") as out:
                out.write(profile.model_dump_json())
            os.replace(unfinished, file)
        except BaseException:
            os.unlink(unfinished)
            raise
    except (OSError, RuntimeError, ValueError):
        return


async def _known(
    calls: Recall, endpoint: EndpointConfig, purpose: Purpose, say: Callable[[str], None]
) -> EndpointProfile | None:
    """A kept profile, if the endpoint still answers as it says.

    The one question is that of `watch`, which compares later answers with this one.
    """
    profile = recall(endpoint, purpose)
    if profile is None:
        return None
    speaks = dialect(profile.dialect)
    prefill, framing, call = first_draw(profile, speaks)
    try:
        reply = await calls.post(call)
    except TransportFailure:
        return None
    read = speaks.read_sample(reply, call=call, profile=profile, prefill=prefill, framing=framing)
    changed = drift(read, profile) is not None or not isinstance(read, Completion)
    minutes = int(_age(profile).total_seconds() / 60)
    ago = f"{minutes // 60} h ago" if minutes >= 60 else f"{minutes} min ago"
    then = f"the profile of {profile.model} at {profile.base_url}, probed {ago}"
    if changed:
        say(f"{then}, no longer fits: probing again")
        return None
    say(f"using {then}; `blackbox-diff probe` or --fresh-probe refreshes it")
    return profile


def _age(profile: EndpointProfile) -> datetime.timedelta:
    return datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(profile.probed_at)


def _file(endpoint: EndpointConfig) -> Path:
    """Where this endpoint's profile is kept: named by all that the probe's answers depend on but the key."""
    parts = (
        FORMAT,
        importlib.metadata.version("blackbox-diff"),
        endpoint.url,
        endpoint.model,
        endpoint.dialect,
        endpoint.api_version,
        endpoint.provider,
    )
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
    root = os.environ.get("BLACKBOX_DIFF_CACHE") or Path.home() / ".cache" / "blackbox-diff"
    return Path(root) / "profiles" / f"{digest}.json"
