"""Is this still the model that was audited? Stored first positions beside two fresh draws each: pure comparisons.

A model that is served twice gives nearly the same probabilities to the same prompt; another model does not. How
near "nearly" is depends on the host, so each prompt is asked twice: where nothing changed, the stored answer and
the two fresh ones are three draws of one thing, and the stored one is the odd one out in one prompt of three.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Listed = Mapping[str, float]
"""The alternatives that an endpoint lists at a completion's first position: token -> logprob, nats."""

UNLIKELY = -10.0  # nats: a coarse number format moves less likely tokens by itself
FLOOR = 0.1  # nats: more than builds, caches and batches of one model are known to differ by on average
ALPHA = 0.01  # at most this often a model that did not change is said to have changed
LEAST = 7  # prompts: all of them odd has a chance of 3^-7 < ALPHA


@dataclass(frozen=True, slots=True)
class Draws:
    """One prompt: what the audit stored at the first position, and what two fresh calls list there."""

    stored: Listed
    first: Listed
    second: Listed


@dataclass(frozen=True, slots=True)
class Sameness:
    """Whether the endpoint still serves the model that was audited.

    p_value: chance that an unchanged model shows as many odd prompts, by a binomial bound; distance and noise:
    means over prompts in nats, of stored against fresh and of fresh against fresh. odd of prompts: where the
    stored answer is further from both fresh ones than they are from each other.
    """

    outcome: Literal["same", "changed", "unknown"]
    sentence: str
    prompts: int
    odd: int
    p_value: float | None
    distance_nats: float | None
    noise_nats: float | None


def distance(a: Listed, b: Listed) -> float | None:
    """Mean |difference| of two lists of alternatives, nats; None where one of them is empty.

    The lists are censored: a token that only one of them holds counts with the least that its probability can
    differ by, since the other list's tokens are all at least as likely. The lowest entry does not bound a list,
    for it may be the sampled token, which hosts add to the likeliest ones.
    """
    if not a or not b:
        return None
    bound_a, bound_b = _bound(a), _bound(b)
    found = []
    for token in {*a, *b}:
        if max(a.get(token, -math.inf), b.get(token, -math.inf)) <= UNLIKELY:
            continue
        if token in a and token in b:
            found.append(abs(a[token] - b[token]))
        elif token in a:
            found.append(max(0.0, a[token] - bound_b))
        else:
            found.append(max(0.0, b[token] - bound_a))
    return sum(found) / len(found) if found else None


def _bound(listed: Listed) -> float:
    ordered = sorted(listed.values())
    return ordered[1] if len(ordered) > 1 else 0.0  # of one entry nothing follows for the others


def compare_draws(draws: Sequence[Draws]) -> Sameness:
    """Whether the stored answers are of the model that answers now; at most ALPHA false alarms.

    "changed" needs more odd prompts than chance allows, and a mean distance above what one model's hosts
    are known to differ by. "unknown" where fewer than LEAST prompts can be compared.
    """
    rows = []
    for each in draws:
        fresh = distance(each.first, each.second)
        beside = [distance(each.stored, one) for one in (each.first, each.second)]
        if fresh is not None and beside[0] is not None and beside[1] is not None:
            rows.append((beside[0], beside[1], fresh))
    n = len(rows)
    if n < LEAST:
        return Sameness(
            "unknown",
            f"Unknown: {n} of {len(draws)} prompts list alternatives to compare, and {LEAST} are needed.",
            n, 0, None, None, None,
        )  # fmt: skip
    odd = sum(min(one, two) > fresh for one, two, fresh in rows)
    p = _at_least(odd, n, 1 / 3)
    mean = sum(one + two for one, two, _ in rows) / (2 * n)
    noise = sum(fresh for _, _, fresh in rows) / n
    changed = p <= ALPHA and mean > FLOOR + 2 * noise
    beside_noise = (
        f"first-token logprobs differ by {mean:.2g} nats from the audit's, and by {noise:.2g} among repeats"
    )
    sentence = (
        f"Changed: another model or build is answering: {beside_noise}."
        if changed
        else f"Still the audited model, as far as {n} prompts show: {beside_noise}."
    )
    return Sameness("changed" if changed else "same", sentence, n, odd, p, mean, noise)


def _at_least(k: int, n: int, chance: float) -> float:
    """P(X >= k) of a binomial."""
    return min(1.0, sum(math.comb(n, j) * chance**j * (1 - chance) ** (n - j) for j in range(k, n + 1)))
