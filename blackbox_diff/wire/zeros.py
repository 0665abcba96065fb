"""Numbers that stand for no number: logprobs that nobody computed for the token beside them.

Speculative decoding reports the tokens that it accepted, and some prompt caches those that they held, as exactly
0. A model's own 0 is borne out by the alternatives at its position: beside a certain token nothing has a share. So
a number next to 0 is missing where the alternatives leave no room for it, or where they are absent although the
reply lists them elsewhere; the latter goes for every number that says "nearly sure". A reply without
alternatives can't bear anything out: there zeros are believed while they are few, or no more than the tokens that
are nearly sure, since a model that is ever certain is more often nearly so.

Any number is missing where the list at its position gives the same token another one: rows that slipped by a
place, or a draft model's numbers beside the target's lists. And a long reply with one number throughout has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from blackbox_diff.records import Json
from blackbox_diff.wire.alternatives import SLACK, listed
from blackbox_diff.wire.entries import Entries
from blackbox_diff.wire.placing import REPLACEMENT
from blackbox_diff.wire.sentinels import MISSING_SHARE, NAN, censor

ZERO = -2e-6  # nats: from here on a number is as good as 0; some hosts keep shares below 1 - 1e-6
NEARLY_SURE = -0.01
ROUNDED = 0.02  # share by which rounding may let probabilities add up to more than 1
NOTHING = 1e-3  # share that alternatives may have beside a 0
LONG = 16  # tokens from which on one number for all of them is none
FULL_LIST = 3  # entries from which on a list says more than the sampled token and the best one


def without_unfounded(entries: Entries) -> int:
    """Make the numbers that nothing bears out missing, in place; how many there were."""
    sure = [index for index, value in enumerate(entries.logprobs) if value > NEARLY_SURE]
    if not sure:
        return 0
    sizes = [len(tops) if isinstance(tops, list | dict) else 0 for tops in entries.tops]
    longest = max(sizes, default=0)
    unfounded: list[int] = []
    unconfirmed: list[int] = []
    for index in sure:
        value = entries.logprobs[index]
        others = _others(entries.tops[index], value) if index < len(sizes) and sizes[index] else []
        allowed = NOTHING if value >= ZERO else 1.0 - math.exp(value) + ROUNDED
        if sum(map(math.exp, others)) > allowed:
            unfounded.append(index)
            continue
        size = sizes[index] if index < len(sizes) else 0
        if size == 0 and longest > 0:
            unfounded.append(index)
        elif value >= ZERO and not others:
            absent = longest >= FULL_LIST
            (unfounded if absent else unconfirmed).append(index)
    nearly = sum(entries.logprobs[index] < ZERO for index in sure)
    if len(unconfirmed) > max(MISSING_SHARE * len(entries), nearly):
        unfounded += unconfirmed
    for index in unfounded:
        entries.logprobs[index] = NAN
    return len(unfounded)


def without_contradicted(entries: Entries) -> int:
    """Make the numbers missing that the lists beside them contradict, in place; how many there were."""
    contradicted = [
        index
        for index, (value, tops) in enumerate(zip(entries.logprobs, entries.tops, strict=False))
        if tops and value == value and _is_contradicted(entries.strings[index], value, tops)
    ]
    for index in contradicted:
        entries.logprobs[index] = NAN
    return len(contradicted)


def _is_contradicted(token: str, own: float, tops: Json) -> bool:
    """Whether a list names the token, and always with another number; strings that lost bytes name many tokens."""
    if not token or REPLACEMENT in token:
        return False
    found = [censor(value) for name, _, value in listed(tops) if name == token]
    known = [value for value in found if value == value]
    return bool(known) and min(abs(value - own) for value in known) > SLACK


def one_number(entries: Entries) -> bool:
    """Whether a long list says the same number for every token."""
    return len(entries) >= LONG and all(value == entries.logprobs[0] for value in entries.logprobs)  # NaN never is


def _others(tops: Json, own: float) -> list[float]:
    """The logprobs of a position's list, less the sampled token's: one entry with the same number."""
    found = [number for number in map(censor, _numbers(tops)) if not math.isnan(number)]
    same = next((place for place, number in enumerate(found) if abs(number - own) <= -ZERO), None)
    if same is not None:
        del found[same]
    return found


def _numbers(tops: Json) -> Iterator[Json]:
    """What a list of any shape (see alternatives) gives as logprobs."""
    entries = tops.values() if isinstance(tops, dict) else tops
    for entry in entries:
        if isinstance(entry, dict) and ("logprob" in entry or "prob" in entry):
            yield entry.get("logprob", _log(entry.get("prob")))
        elif isinstance(entry, dict):
            yield from entry.values()
        elif isinstance(entry, list):
            yield entry[0] if entry else None
        else:
            yield entry


def _log(probability: Json) -> float:
    good = isinstance(probability, float | int) and 0 < probability <= 1
    return math.log(probability) if good else NAN
