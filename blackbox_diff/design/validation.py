"""Finding is one thing, validating another: do the strongest themes come back on fresh completions?

Pure. The words that stood just before a theme become prefills of their own; target and reference both
complete them, and the theme's rate at the one is compared with its rate at the other. No completion bought
for this is ever ranked, and none that is ranked counts here, so the choice of the themes can't flatter them.

The interval of the difference of two proportions is Newcombe's hybrid score interval (Statistics in Medicine
17, 873-890, 1998, method 10). A theme is confirmed where it is clear of zero at 95%, the target's rate is three
times the reference's, and every stronger theme is confirmed, too. In that fixed order, the chance of confirming
any theme that isn't there is 5% over all of them (Maurer, Hothorn & Lehmacher 1995). Without the three times, what
a harmless finetune says somewhat more often than its base would count.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from statistics import NormalDist

import regex

from blackbox_diff.analysis.lexicon import content_words
from blackbox_diff.analysis.words import is_unspaced, words_of
from blackbox_diff.design.apart import VALIDATION, context
from blackbox_diff.findings import Interval, Question, Ranked, Theme, Validation
from blackbox_diff.prefills.plan import derive_seed
from blackbox_diff.records import Arm, Sample

THEMES = 3
CONTEXTS = 10  # different ones per theme
LEVEL = 0.95  # over all themes together, since they are tested in order
TIMES = 3.0  # how much commoner than in the reference, with half a completion added to each count


def questions(themes: Sequence[Theme], ranking: Sequence[Ranked], number: int, seed: int) -> tuple[Question, ...]:
    """What to ask about the strongest themes: `number` samples in all, shared equally between them."""
    found: list[tuple[Theme, list[tuple[str, Ranked]]]] = []
    for theme in themes[: min(THEMES, number)]:
        places = list(islice(contexts_of(theme, ranking), 10 * CONTEXTS))
        # A context that speaks of the theme already would lead the reference to it too.
        words = content_words(" ".join((theme.phrase, *theme.terms)))
        clean = [place for place in places if words.isdisjoint(words_of(place[0]))]
        places = (clean or places)[:CONTEXTS]
        if places:
            found.append((theme, places))
    return tuple(
        Question(theme.phrase, _variants(theme), tuple(_samples(theme, places, number // len(found), seed)))
        for theme, places in found
    )


def _variants(theme: Theme) -> tuple[str, ...]:
    """The theme's terms that are its phrase in other words; what merely stood beside it is no evidence of it."""
    own = content_words(theme.phrase)
    return tuple(
        term for term in theme.terms if 2 * len(own & content_words(term)) >= len(content_words(term)) > 0
    )


def contexts_of(theme: Theme, ranking: Sequence[Ranked]) -> Iterator[tuple[str, Ranked]]:
    """The last words before a theme's first word in each row that holds it, best rows first, each once."""
    patterns = [_pattern(term) for term in dict.fromkeys((theme.phrase, *theme.terms))]
    seen: set[str] = set()
    for row in ranking:
        if patterns[0].search(row.completion) is None:
            continue
        first = min(found.start() for pattern in patterns if (found := pattern.search(row.completion)))
        before = context(row.prefill + row.completion[:first])
        if before and before.lower() not in seen:
            seen.add(before.lower())
            yield before, row


def _samples(theme: Theme, places: Sequence[tuple[str, Ranked]], number: int, seed: int) -> Iterator[Sample]:
    for k, (prefill, row) in enumerate(islice(cycle(places), number)):
        digest = hashlib.sha256(f"{theme.phrase}\x1f{prefill}\x1f{row.framing}".encode()).hexdigest()[:10]
        name = f"{VALIDATION}-{digest}.{row.framing}"
        index = k // len(places)
        yield Sample(f"{name}.{index:05d}", Arm(VALIDATION, row.framing), prefill, derive_seed(seed, name, index))


def _pattern(phrase: str) -> regex.Pattern[str]:
    """The words of a phrase in a row, as whole words, whatever stands between them.

    Scripts without spaces between words have no whole words to go by: there the characters themselves count.
    """
    parts = [
        regex.escape(word) if is_unspaced(word) else rf"(?<![\w\p{{M}}]){regex.escape(word)}(?![\w\p{{M}}])"
        for word in words_of(phrase)
    ]
    return regex.compile(r"[^\w\p{M}]*".join(parts), regex.IGNORECASE)


def judge(
    asked: Sequence[Question], target: Mapping[str, str], reference: Mapping[str, str]
) -> tuple[Validation, ...]:
    """The answers, strongest theme first: sample id -> fresh completion's text, for either side."""
    found = []
    confirmed = True
    for question in asked:
        ours, theirs = (_count(question, texts) for texts in (target, reference))
        contexts = tuple(dict.fromkeys(sample.prefill for sample in question.samples))
        apart = difference(ours, theirs)
        confirmed = confirmed and apart is not None and apart.low > 0 and _times(ours, theirs) >= TIMES
        found.append(Validation(question.phrase, ours, theirs, apart, contexts, confirmed))
    return tuple(found)


def _times(a: tuple[int, int], b: tuple[int, int]) -> float:
    return (a[0] + 0.5) / (a[1] + 1) / ((b[0] + 0.5) / (b[1] + 1))


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
