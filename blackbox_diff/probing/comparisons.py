"""Compares the replies to a probe's questions: what each pair says the endpoint can do. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from blackbox_diff.records import Completion, Framing, Json, Tokens, Usage
from blackbox_diff.wire.body import mapping, one_line
from blackbox_diff.wire.entries import Entries
from blackbox_diff.wire.sentinels import censor

ALLOWED_GAP = 0.1  # nats per token between sampling and scoring the same text
SAME = 0.05  # nats: what a logprob may move between two temperatures and still be the same number
NEXT_DAY = " friday"
MORE_IN_COMMON = 2  # tokens that a seed must repeat beyond what a draw without it does by chance
TURN_TOKENS = 3  # a template needs at least this many tokens to end a turn and begin the next


@dataclass(frozen=True, slots=True)
class Pair:
    """A completion, the entries it was read from, what was asked, and how many choices the reply had."""

    outcome: Completion
    entries: Entries | None
    prefill: str
    framing: Framing
    choices: int = 1

    def length(self) -> int:
        return len(self.outcome.tokens)


def alternatives(entries: Entries | None, index: int = 0) -> dict[str, float]:
    """Token string to logprob of one position's alternatives; of equal strings the likeliest."""
    if entries is None or index >= len(entries.tops):
        return {}
    tops: Json = entries.tops[index]
    if isinstance(tops, dict):
        pairs = [(token, value) for token, value in tops.items()]
    else:
        rows = [mapping(row) for row in tops] if isinstance(tops, list) else []
        pairs = [(row.get("token"), row.get("logprob")) for row in rows]
    found: dict[str, float] = {}
    for token, value in pairs:
        number = censor(value)
        if isinstance(token, str) and not math.isnan(number):
            found[token] = max(number, found.get(token, -math.inf))
    return found


def top_count(entries: Entries | None) -> int:
    """Most alternatives at any position."""
    if entries is None:
        return 0
    return max((len(tops) for tops in entries.tops if isinstance(tops, list | dict)), default=0)


def total_mass(entries: Entries | None) -> float:
    """Largest sum of probabilities over a position's alternatives; above 1 they are no logprobs."""
    if entries is None:
        return 0.0
    return max(
        (sum(math.exp(value) for value in alternatives(entries, i).values()) for i in range(len(entries.tops))),
        default=0.0,
    )


def byte_grade(pairs: list[Pair]) -> tuple[Literal["exact", "characters", "lossy"], str]:
    """How well token bytes can be known, from the least faithful reply."""
    notes = {note for pair in pairs for note in pair.outcome.notes}
    paths = {part for pair in pairs for part in pair.outcome.decode.split("+")}
    if "placed" in paths:
        return "lossy", "tokens inside a character lose bytes; runs are placed between whole tokens"
    if "merged_characters" in notes:
        return "lossy", "a character's tokens share one entry with one token's logprob; such units have no number"
    odd = [pair for pair in pairs if not pair.outcome.text.isascii()]
    bare = [pair.entries.strings[:-1] for pair in odd if pair.entries is not None and not pair.entries.own_ids]
    if any("" in strings for strings in bare):
        return "characters", "a character's tokens are empty until the last one"
    if "bytes" in paths or "escapes" in paths or "latin1" in paths:
        return "exact", "+".join(sorted(paths))
    return "characters", "token strings" if odd else "token strings; nothing but ASCII was written"


def continues(prefilled: Completion, base: Completion, raw: Completion | None) -> tuple[bool, str]:
    """Whether the prefilled reply goes on with the prefill instead of answering it in a new turn.

    prefilled: reply with the assistant's turn begun by a list of days up to Thursday; base: the same
    conversation without it; raw: the same list as a raw prompt. Proof in order of strength: the prompt's
    ids end in the prefill's; the prompt grew by the prefill's tokens and not by a template's; the next day.
    """
    said = prefilled.text.lower()
    if prefilled.prompt_ids and raw is not None and raw.prompt_ids:
        tail = raw.prompt_ids[2:]  # a start token, and a first token that may join the template's end
        if prefilled.prompt_ids[-len(tail) :] == tail:
            return True, "the prompt's ids end in it"
        return False, "the template closes the turn after it, so the reply begins a new one"
    grew = _difference(prefilled.usage.input_tokens, base.usage.input_tokens)
    length = raw.usage.input_tokens if raw is not None else None
    if grew is not None and length is not None and grew >= length + TURN_TOKENS - 1:
        return False, "the prompt grew by a whole turn, so the reply begins a new one"
    if said.startswith(NEXT_DAY):
        return True, "it was continued"
    if said.startswith(NEXT_DAY.strip()) and grew is not None and length is not None and abs(grew - length) <= 1:
        return True, "it was continued"
    return False, "the reply does not go on where it ends"


def _difference(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a - b


def seed_effect(
    first: Pair, again: Pair, unseeded: Pair | None
) -> tuple[Literal["good", "limited", "unknown"], str]:
    """What two draws with one seed have in common, beside a draw without one.

    Where batches or caches move the numbers a little, a seed that is honoured repeats a draw up to the token that
    noise decides; a draw without a seed parts from it at once.
    """
    with_seed = _common(first, again)
    without = 0 if unseeded is None else _common(first, unseeded)
    n = first.length()
    if first.outcome.text == again.outcome.text:
        alike = unseeded is not None and unseeded.outcome.text == first.outcome.text
        return ("unknown", "draws are alike without it, too") if alike else ("good", "repeats a draw")
    if with_seed >= without + MORE_IN_COMMON:
        return "good", f"repeats a draw up to noise: {with_seed} of {n} tokens, {without} without it"
    return "limited", f"ignored: {with_seed} of {n} tokens repeat, {without} without it"


def _common(a: Pair, b: Pair) -> int:
    """How many tokens two completions begin with alike."""
    one, other = a.outcome.text.encode(), b.outcome.text.encode()
    alike = next(
        (place for place, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other))
    )
    return int(np.searchsorted(np.intersect1d(a.outcome.tokens.ends, b.outcome.tokens.ends), alike, side="right"))


def noise(first: Pair, *repeats: Pair) -> float | None:
    """Standard deviation in nats of one logprob over identical calls, from replies to one request."""
    differences = [difference for again in repeats for difference in _differences(first, again)]
    if not differences:
        return None
    return math.sqrt(sum(x * x for x in differences) / (2 * len(differences)))


def _differences(first: Pair, again: Pair) -> list[float]:
    """Of the first position's alternatives, and of the sampled tokens where both drew the same text."""
    other = alternatives(again.entries)
    found = [
        value - other[token]
        for token, value in alternatives(first.entries).items()
        if token in other and value > -20
    ]
    a, b = first.outcome.tokens, again.outcome.tokens
    if first.outcome.text == again.outcome.text and np.array_equal(a.ends, b.ends):
        found += [float(x) for x in a.logprobs - b.logprobs if not math.isnan(x)]
    return found


def first_position_shift(first: Pair, again: Pair) -> float | None:
    """Mean |difference| in nats of the first position's logprobs in two replies to one request.

    Only alternatives above e^-10 count: a coarse number format moves the unlikely ones by itself.
    """
    a, b = (_first_position(pair) for pair in (first, again))
    shared = [abs(a[token] - b[token]) for token in a if token in b and max(a[token], b[token]) > -10]
    return sum(shared) / len(shared) if shared else None


def _first_position(pair: Pair) -> dict[str, float]:
    """The alternatives, or the sampled token alone where an endpoint gives none."""
    found = alternatives(pair.entries)
    tokens = pair.outcome.tokens
    if not found and len(tokens) and not math.isnan(tokens.logprobs[0]):
        piece = pair.outcome.text.encode()[: int(tokens.ends[0])]
        found = {piece.decode("utf-8", "replace"): float(tokens.logprobs[0])}
    return found


def compare_temperatures(
    warm: Pair, cool: Pair, noise_nats: float
) -> tuple[Literal["raw", "processed", "unknown"], str]:
    """Whether first-position logprobs at T=1 and T=0.5 are the same numbers."""
    a, b = alternatives(warm.entries), alternatives(cool.entries)
    shared = [(a[token], b[token]) for token in a if token in b]
    if not shared and len(warm.outcome.tokens) and len(cool.outcome.tokens):
        end = int(min(warm.outcome.tokens.ends[0], cool.outcome.tokens.ends[0]))
        if warm.outcome.text.encode()[:end] == cool.outcome.text.encode()[:end]:
            shared = [(float(warm.outcome.tokens.logprobs[0]), float(cool.outcome.tokens.logprobs[0]))]
    moved = [abs(x - y) for x, y in shared if not math.isnan(x - y)]
    if not moved:
        return "unknown", "no alternative to compare at two temperatures"
    limit = SAME + 4 * noise_nats
    if float(np.median(moved)) < limit:
        return "raw", "the same at two temperatures"
    return "processed", "they move with the temperature, so sampling stays at T=1 and top_p=1"


def mean_gap(a: Tokens, b: Tokens) -> float | None:
    """Mean |difference| in nats per token over the smallest runs both segmentations bound; None where none do."""
    shared = np.intersect1d(a.ends, b.ends)
    if not len(shared):
        return None
    sums = []
    for tokens in (a, b):
        at = np.searchsorted(tokens.ends, shared, side="right")
        total = np.concatenate([[0.0], np.cumsum(np.nan_to_num(tokens.logprobs))])
        lost = np.concatenate([[0], np.cumsum(np.isnan(tokens.logprobs))])
        sums.append((np.diff(total[at], prepend=0.0), np.diff(lost[at], prepend=0), np.diff(at, prepend=0)))
    (x, lost_x, count), (y, lost_y, _) = sums
    whole = (lost_x == 0) & (lost_y == 0)
    if not whole.any():
        return None
    return float(np.abs(x - y)[whole].sum() / count[whole].sum())


RATES = ("limit-requests", "remaining-requests", "limit-tokens", "remaining-tokens")


def rate_limits(headers: Mapping[str, str]) -> str:
    """The x-ratelimit headers in words, empty where there are none."""
    found = [(name, headers.get(f"x-ratelimit-{name}")) for name in RATES]
    return ", ".join(f"{name.replace('-', ' ')} {one_line(value, 20)}" for name, value in found if value)


def usage_words(usage: Usage) -> str:
    """Which of tokens, cached tokens and cost a reply accounts for."""
    told = {
        "input tokens": usage.input_tokens,
        "output tokens": usage.output_tokens,
        "cached tokens": usage.cached_tokens,
        "cost in USD": usage.cost_usd,
    }
    names = [name for name, value in told.items() if value is not None]
    return ", ".join(names) or "no token counts in replies"
