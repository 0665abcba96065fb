"""What a run's raw replies say when they are read again: what `verify` compares, and what older runs lack."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice

from blackbox_diff.design.apart import AMPLIFIED, apart, writer
from blackbox_diff.records import (
    Alternatives,
    Completion,
    EndpointProfile,
    Lost,
    ReferenceScore,
    Refusal,
    Sample,
)
from blackbox_diff.run import scoring
from blackbox_diff.run.collect import completed_as, framing_for
from blackbox_diff.runfile.files import damaged
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire import dialect

AT_ONCE = 256  # lists that wait for the disk together

Profiles = Mapping[str, EndpointProfile]  # of the target and of each reference, by label


def completion_again(
    store: Store, sample: Sample, origin: str, call_id: int, profiles: Profiles
) -> Completion | Refusal | None:
    """The outcome of `sample`, read from its reply; None where the reply is missing."""
    stored = store.call(call_id)
    if stored is None or stored.reply is None:
        return None
    profile = _profile(store, profiles, writer(origin))
    spoken = dialect(profile.dialect)
    read = spoken.read_step if origin.startswith(apart(AMPLIFIED, "")) else spoken.read_sample
    return read(
        stored.reply,
        call=stored.call,
        profile=profile,
        prefill=sample.prefill,
        # Earlier versions asked an endpoint that takes raw prompts for those in the place of the user's turn.
        framing=(completed_as if "messages" in stored.call.body else framing_for)(profile, sample),
    )


def score_again(
    store: Store, sample: Sample, completion: Completion, label: str, call_id: int, profiles: Profiles
) -> ReferenceScore | Refusal | None:
    """The score of `completion` under reference `label`, read from its reply; None where that is missing."""
    stored = store.call(call_id)
    if stored is None or stored.reply is None:
        return None
    profile = _profile(store, profiles, label)
    sent = stored.call.body.get("prompt", stored.call.body.get("input_ids"))
    framing = framing_for(profile, sample)
    item = scoring.item(
        scoring.before(sample, framing, profile), framing, completion, share_ids=isinstance(sent, list)
    )
    return dialect(profile.dialect).read_score(stored.reply, call=stored.call, profile=profile, item=item)


def _profile(store: Store, profiles: Profiles, label: str) -> EndpointProfile:
    try:
        return profiles[label]
    except KeyError:
        raise damaged(store.path, f"it holds no profile of '{label}'") from None


async def reread_alternatives(store: Store) -> None:
    """Store what the replies of a run list that was begun in a format without a place for it, once."""
    if store.keeps_all_lists():
        return
    lacking = _lacking(store, store.state.profiles)
    while some := list(islice(lacking, AT_ONCE)):
        await asyncio.gather(*(store.put_lists(*each) for each in some))
    store.set_state(replace(store.state, begun_in_format=None))


def _lacking(store: Store, profiles: Profiles) -> Iterator[tuple[str, str, str | None, Alternatives]]:
    """(sample id, origin, reference, lists) of every usable reply that lists alternatives."""
    for origin in store.origins():
        for sample, outcome, call_id in list(store.decided(origin)):
            if not isinstance(outcome, Completion):
                continue
            if call_id is not None:
                again = completion_again(store, sample, origin, call_id, profiles)
                if isinstance(again, Completion) and again.alternatives is not None:
                    yield sample.id, origin, None, again.alternatives
            for label, score in store.scores(sample.id, origin).items():
                score_call = store.score_call(sample.id, origin, label)
                if isinstance(score, Lost) or score_call is None:
                    continue
                scored = score_again(store, sample, outcome, label, score_call, profiles)
                if isinstance(scored, ReferenceScore) and scored.alternatives is not None:
                    yield sample.id, origin, label, scored.alternatives
