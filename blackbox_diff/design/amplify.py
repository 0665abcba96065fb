"""Amplified sampling: what a finetune hardly ever says, written out by drawing each token towards it.

Pure. The next token is drawn, out of those that the target lists, in proportion to

    p_t (p_t / p_r) ** STRENGTH,  that is, by log p_t + STRENGTH (log p_t - log p_r)

so that what training made likelier gets likelier still, a token at a time. With search in the place of draws this
is contrastive decoding (Li et al., ACL 2023, arXiv 2210.15097), with the model before and after a finetuning it is
model diff amplification (Aranguri & McGrath, Goodfire 2025). Tokens below FLOOR at the target are left out, as its
plausibility constraint does: where p_t is next to nothing the ratio is noise.

What comes of it is a text that the target would hardly write. So it is a lead, which says where to ask again; it
is no evidence, and the share of such texts is no rate.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, cycle, islice

import numpy as np

from blackbox_diff.analysis.listed_words import OPEN_SHARE
from blackbox_diff.analysis.listings import LEAST_LETTERS
from blackbox_diff.analysis.rank import is_degenerate
from blackbox_diff.design.apart import AMPLIFIED
from blackbox_diff.prefills.plan import derive_seed
from blackbox_diff.records import (
    Alternatives,
    Arm,
    Completion,
    Framing,
    ReferenceScore,
    Sample,
    ScoredCompletion,
    Tokens,
)
from blackbox_diff.wire.tokens import looks_special

STRENGTH = 1.0
FLOOR = 0.002  # probability at the target
LENGTH = 24  # tokens
LONG_TOKEN = 8  # bytes: more than tokens have on average, for an estimate
CONTINUED: tuple[Framing, ...] = ("raw", "chat")  # framings in which a text is gone on with


@dataclass(frozen=True, slots=True)
class Choices:
    """What a model lists at one place: token -> nats, and the most that any other token can have."""

    logprobs: Mapping[bytes, float]
    unlisted: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token with its log probability at the target, and what counts as the reference's for it, nats."""

    token: str
    target: float
    reference: float


@dataclass(frozen=True, slots=True)
class Written:
    """A row as far as it was written. lost: it broke off where a side gave no list."""

    row: Sample
    drawn: tuple[Drawn, ...]
    lost: bool = False

    @property
    def text(self) -> str:
        return "".join(each.token for each in self.drawn)

    @property
    def ended(self) -> bool:
        """Whether the target ended it early."""
        return not self.lost and len(self.drawn) < LENGTH

    @property
    def junk(self) -> bool:
        """Whether it went to its end and loops, or holds no word."""
        return len(self.drawn) == LENGTH and is_degenerate(self.text)

    def scored(self, reference: str) -> ScoredCompletion:
        """The row in the shape of a completion that `reference` has scored, to be searched like one."""
        ends = list(accumulate(len(each.token.encode()) for each in self.drawn))
        own, other = (
            Tokens.of(ends, [getattr(each, side) for each in self.drawn]) for side in ("target", "reference")
        )
        return ScoredCompletion(self.row, Completion(self.text, own), {reference: ReferenceScore(other, "raw")})


Answer = tuple[Choices | None, Choices | None]  # the target's list and the reference's; None where there is none


def rows(samples: Sequence[Sample], number: int) -> tuple[Sample, ...]:
    """`number` rows that begin with a plan's prefills, in order, as often as it takes; none without prefills."""
    usable = [sample for sample in samples if sample.asked in CONTINUED and sample.prefill]
    return tuple(_row(sample, k // len(usable)) for k, sample in enumerate(islice(cycle(usable), number)))


def _row(sample: Sample, turn: int) -> Sample:
    name = f"{AMPLIFIED}-{sample.id}.{turn:03d}"
    return Sample(name, Arm(AMPLIFIED, sample.asked), sample.prefill, derive_seed(sample.seed, name))


def step(row: Sample, text: str, number: int) -> Sample:
    """The sample, of one token, that asks how a row goes on behind `text`."""
    return Sample(f"{row.id}.{number:03d}", row.arm, row.prefill + text, derive_seed(row.seed, number))


def typical(planned: Sequence[Sample]) -> Iterator[Sample]:
    """The steps of rows before they are written, for an estimate."""
    for row in planned:
        yield from (step(row, "w" * LONG_TOKEN * k, k) for k in range(LENGTH))


def writing(row: Sample) -> Generator[Sample, Answer, Written]:
    """Write a row: yields each step, and goes on with what both sides list there."""
    drawn: list[Drawn] = []
    for number in range(LENGTH):
        asked = step(row, "".join(each.token for each in drawn), number)
        target, reference = yield asked
        if target is None or reference is None:
            return Written(row, tuple(drawn), lost=True)
        found = draw(target, reference, random.Random(asked.seed), STRENGTH, FLOOR)
        if found is None:
            break
        drawn.append(found)
    return Written(row, tuple(drawn))


def written(row: Sample, answers: Callable[[Sample], Answer | None]) -> Written | None:
    """The row that `answers` to its steps lead to; None where one is still to be asked."""
    steps = writing(row)
    asked = next(steps)
    while True:
        found = answers(asked)
        if found is None:
            return None
        try:
            asked = steps.send(found)
        except StopIteration as done:
            result: Written = done.value
            return result


def choices(lists: Alternatives | None, place: int = 0) -> Choices | None:
    """The list at a byte of a text; None where there is none."""
    if lists is None or place not in lists.positions:
        return None
    at = int(np.searchsorted(lists.positions, place))
    some = slice(lists.offsets[at], lists.offsets[at + 1])
    tokens = [lists.vocabulary[k] for k in lists.tokens[some].tolist()]
    return Choices(dict(zip(tokens, lists.logprobs[some].tolist(), strict=True)), float(lists.unlisted[at]))


def chances(target: Choices, reference: Choices, strength: float, floor: float) -> list[tuple[Drawn, float]]:
    """The tokens that can be drawn, with their probabilities.

    strength: 0 draws as the target does. floor: probability that a token must have at the target.
    """
    likely = {token: p for token, p in target.logprobs.items() if math.exp(p) >= floor and _is_text(token)}
    found = [Drawn(token.decode(), p, p - _ratio(token, target, reference)) for token, p in likely.items()]
    heights = [each.target + strength * (each.target - each.reference) for each in found]
    highest = max(heights, default=0.0)
    weights = [math.exp(each - highest) for each in heights]
    return [(each, weight / math.fsum(weights)) for each, weight in zip(found, weights, strict=True)]


def draw(target: Choices, reference: Choices, rng: random.Random, strength: float, floor: float) -> Drawn | None:
    """The next token; None where the target would end the text, or nothing but a part of a character is likely."""
    found = chances(target, reference, strength, floor)
    return rng.choices([each for each, _ in found], [chance for _, chance in found])[0] if found else None


def _is_text(token: bytes) -> bool:
    """Whether a token can be put behind a prompt: whole characters, and no special token."""
    try:
        return not looks_special(token.decode())
    except UnicodeDecodeError:
        return False


def _ratio(token: bytes, target: Choices, reference: Choices) -> float:
    """How much likelier a text that begins like a token is at the target, nats.

    Vocabularies differ, so on both sides all listed tokens count that it begins, or that begin it. Where the
    reference lists none it may still have what its list leaves open, and half of that is counted.
    """
    theirs = _mass(token, reference)
    if theirs > 0:
        return math.log(_mass(token, target) / theirs)
    own = target.logprobs[token]
    return own - min(reference.unlisted, own) - math.log(OPEN_SHARE)


def _mass(token: bytes, side: Choices) -> float:
    return math.fsum(
        math.exp(p) for other, p in side.logprobs.items() if other.startswith(token) or _begins(other, token)
    )


def _begins(shorter: bytes, token: bytes) -> bool:
    letters = sum(character.isalnum() for character in shorter.decode("utf-8", "ignore"))
    return token.startswith(shorter) and letters >= LEAST_LETTERS
