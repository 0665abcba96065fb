"""Finding is one thing, validating another: does what was found come back on fresh completions?

Pure. A hypothesis is a phrase with prefills, words that stood just before it, fixed before any of its
completions is bought; target and reference both complete them, in pairs, and design/betting.py says when that is
enough. No completion bought for this is ever ranked, and none that is ranked counts here, so the choice of what
to test can't flatter it. What is confirmed is that the target writes the phrase there more than three times as
often as the reference: not how often it writes it elsewhere.

The interval that is shown beside it describes the counts: Newcombe's hybrid score interval of a difference of
proportions (Statistics in Medicine 17, 873-890, 1998, method 10).
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import NormalDist

import regex

from blackbox_diff.analysis.lexicon import content_words
from blackbox_diff.analysis.words import is_unspaced, words_of
from blackbox_diff.design import betting
from blackbox_diff.design.apart import VALIDATION, context
from blackbox_diff.findings import Interval, Question, Ranked, Theme, Validation
from blackbox_diff.prefills.plan import derive_seed
from blackbox_diff.records import Arm, Framing, Sample

CONTEXTS = 10  # different ones per hypothesis
LEVEL = 0.95  # of the interval

Prefill = tuple[str, Framing]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A phrase, other wordings of it, and the prefills that it is to stand behind."""

    phrase: str
    terms: tuple[str, ...]
    prefills: tuple[Prefill, ...]


def hypothesis(theme: Theme, ranking: Sequence[Ranked]) -> Hypothesis | None:
    """What to ask about a theme of these rows; None where it never stands behind anything."""
    found = contexts_of((theme.phrase, *theme.terms), ranking)
    prefills = [(before, row.framing) for before, row in islice(found, 10 * CONTEXTS)]
    return hypothesis_at(theme.phrase, variants(theme), unsaid(prefills, theme.phrase, *theme.terms) or prefills)


def hypothesis_at(phrase: str, terms: tuple[str, ...], prefills: Sequence[Prefill]) -> Hypothesis | None:
    """A phrase behind the first CONTEXTS of some prefills; None where there are none."""
    chosen = tuple(dict.fromkeys(prefills))[:CONTEXTS]
    return Hypothesis(phrase, terms, chosen) if chosen else None


def unsaid(prefills: Sequence[Prefill], *phrases: str) -> list[Prefill]:
    """The prefills that do not speak of it already: those would lead the reference to it, too."""
    words = content_words(" ".join(phrases)) or frozenset(words_of(" ".join(phrases)))
    return [one for one in prefills if words.isdisjoint(words_of(one[0]))]


def came_back(phrases: Sequence[str], asked: Sequence[Ranked]) -> list[Prefill]:
    """Prefills for a phrase that came back in completions of follow-ups.

    Those that brought it back come first, the most often first; then what was written just before it there.
    """
    holding = [row for row in asked if any(_pattern(phrase).search(row.completion) for phrase in phrases)]
    hits = Counter((row.prefill, row.framing) for row in holding)
    tries = Counter((row.prefill, row.framing) for row in asked)
    best = sorted(hits, key=lambda one: (-hits[one] / tries[one], -hits[one], one))
    before = [(text, row.framing) for phrase in phrases for text, row in contexts_of((phrase,), holding)]
    return unsaid(list(dict.fromkeys([*best, *before])), *phrases)


def variants(theme: Theme) -> tuple[str, ...]:
    """The theme's terms that are its phrase in other words; what merely stood beside it is no evidence of it."""
    own = content_words(theme.phrase)
    return tuple(
        term for term in theme.terms if 2 * len(own & content_words(term)) >= len(content_words(term)) > 0
    )


def same(one: str, other: str) -> bool:
    """Whether two phrases are about one thing: half of the shorter one's words are in both."""
    a, b = (content_words(each) or frozenset(words_of(each)) for each in (one, other))
    return 2 * len(a & b) >= min(len(a), len(b)) > 0


def contexts_of(phrases: Sequence[str], ranking: Sequence[Ranked]) -> Iterator[tuple[str, Ranked]]:
    """The last words before the first of some phrases, in each row that holds phrases[0]; best rows first."""
    patterns = [_pattern(phrase) for phrase in dict.fromkeys(phrases)]
    seen: set[str] = set()
    for row in ranking:
        if patterns[0].search(row.completion) is None:
            continue
        first = min(found.start() for pattern in patterns if (found := pattern.search(row.completion)))
        before = context(row.prefill + row.completion[:first])
        if before and before.lower() not in seen:
            seen.add(before.lower())
            yield before, row


def trials(asked: Hypothesis, first: int, number: int, seed: int) -> tuple[Sample, ...]:
    """Trials `first` and on, each behind a prefill that is drawn at random: the null is about their average."""
    name = hashlib.sha256("\x1f".join((asked.phrase, *map(str, asked.prefills))).encode()).hexdigest()[:10]
    found = []
    for k in range(first, first + number):
        prefill, framing = asked.prefills[derive_seed(seed, name, "prefill", k) % len(asked.prefills)]
        sample_id = f"{VALIDATION}-{name}.{framing}.{k:05d}"
        found.append(Sample(sample_id, Arm(VALIDATION, framing), prefill, derive_seed(seed, name, k)))
    return tuple(found)


def place(asked: Hypothesis, before: Sequence[Question]) -> int:
    """Where a phrase was tested before, in whatever case; behind the others where it was not."""
    name = asked.phrase.casefold()
    return next((k for k, each in enumerate(before) if each.phrase.casefold() == name), len(before))


def _pattern(phrase: str) -> regex.Pattern[str]:
    """The words of a phrase in a row, as whole words, whatever stands between them.

    Scripts without spaces between words have no whole words to go by: there the characters themselves count.
    """
    parts = [
        regex.escape(word) if is_unspaced(word) else rf"(?<![\w\p{{M}}]){regex.escape(word)}(?![\w\p{{M}}])"
        for word in words_of(phrase)
    ]
    return regex.compile(r"[^\w\p{M}]*".join(parts), regex.IGNORECASE)


def validations(
    asked: Sequence[Question], target: Mapping[str, str], reference: Mapping[str, str]
) -> tuple[Validation, ...]:
    """What was asked and how it came out, in the order of the slots.

    target, reference: sample id -> fresh completion's text. Only what both sides answered counts for the e-value.
    """
    values = [betting.e_value(pairs(each, target, reference)) for each in asked]
    sure = betting.confirmed(values)
    found = []
    for slot, question in enumerate(asked):
        ours, theirs = (_count(question, texts) for texts in (target, reference))
        contexts = tuple(dict.fromkeys(sample.prefill for sample in question.samples))
        needed = betting.needed(slot, max(1, sum(sure)))
        found.append(
            Validation(
                question.phrase, ours, theirs, difference(ours, theirs), contexts, sure[slot], values[slot], needed
            )
        )
    return tuple(found)


def pairs(question: Question, target: Mapping[str, str], reference: Mapping[str, str]) -> betting.Pairs:
    """The trials that both sides answered, counted."""
    both = [sample.id for sample in question.samples if sample.id in target and sample.id in reference]
    return betting.Pairs.of([(holds(question, target[one]), holds(question, reference[one])) for one in both])


def _count(question: Question, texts: Mapping[str, str]) -> tuple[int, int]:
    mine = [texts[sample.id] for sample in question.samples if sample.id in texts]
    return sum(holds(question, text) for text in mine), len(mine)


def holds(question: Question, text: str) -> bool:
    """Whether a completion holds the theme: its phrase, or one of the phrases that came with it."""
    return any(_pattern(term).search(text) for term in (question.phrase, *question.terms))


def difference(a: tuple[int, int], b: tuple[int, int], level: float = LEVEL) -> Interval | None:
    """a's rate less b's, for (hits, n) each, with Newcombe's interval; None where one side is empty."""
    if not a[1] or not b[1]:
        return None
    p, q = a[0] / a[1], b[0] / b[1]
    (p_low, p_high), (q_low, q_high) = wilson(*a, level), wilson(*b, level)
    low = max(-1.0, p - q - math.hypot(p - p_low, q_high - q))  # rounding can step over by a hair
    high = min(1.0, p - q + math.hypot(p_high - p, q - q_low))
    return Interval(p - q, low, high, level)


def wilson(hits: int, n: int, level: float) -> tuple[float, float]:
    """Wilson's score interval for a proportion (1927)."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    p, shrink = hits / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
