"""Asking again where it leaks: prefills cut out of the target's own completions, before the strongest evidence.

Pure. The evidence is what a run shows of words that the target nearly says, of themes and their parts, and of the
places with the highest gap. Words before it become prefills that target and reference both complete. Where a word
was promoted and not written, every other prefill ends with that word: then the target says what it would have gone
on with. In a chat that prefill is the word's phrase alone, at the start of the answer: finetunes are trained on
answers, and where the word was nearly written the text before it says how to go on. What comes back says what the
target does at places that were chosen because it does something there, so it is no rate, is never ranked, and
proves nothing by itself: validation asks again, on fresh completions.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, cycle, islice, zip_longest
from typing import get_args

from blackbox_diff.analysis.words import is_unspaced
from blackbox_diff.design.apart import FOLLOW_UP, context
from blackbox_diff.design.validation import came_back, contexts_of, unsaid
from blackbox_diff.findings import Answer, FollowUp, Promoted, Question, Ranked, Theme
from blackbox_diff.prefills.plan import derive_seed
from blackbox_diff.records import Arm, Framing, Sample

LEADS = 6
WORDS = 3  # promoted ones that are followed
PLACES = 8  # of a lead
PEAKS = 4  # rows of the ranking
ANSWERS = 4  # that are shown of a lead
THEME, PART, WORD, PEAK = "theme", "part of a theme", "promoted word", "highest gap"
RETURNED = "came back"
IN_AMPLIFIED = "{} in amplified sampling"

Prefill = tuple[str, Framing]


@dataclass(frozen=True, slots=True)
class Lead:
    """Something to follow: what it is, why, and the prefills before its places."""

    phrase: str
    why: str
    prefills: tuple[Prefill, ...]


def leads(promoted: Sequence[Promoted], themes: Sequence[Theme], ranking: Sequence[Ranked]) -> tuple[Lead, ...]:
    """What is worth following, the strongest first: promoted words and themes in turn, then parts and peaks.

    promoted: content and style, strongest first; style is left out.
    """
    framings = framings_of(ranking)
    content = [each for each in promoted if not each.style][:WORDS]
    words = [Lead(each.phrase, WORD, tuple(of_word(each, framings))) for each in content]
    whole = [_of_theme(theme, THEME, ranking) for theme in themes[:WORDS]]
    turns = in_turns(words, whole)
    parts = [_of_theme(part, PART, ranking) for theme in themes[:1] for part in theme.parts[:2]]
    found = [lead for lead in (*turns, *parts) if lead.prefills]
    peaks = Lead("", PEAK, tuple(_before_peaks(ranking)))
    return (*found[: LEADS - 1], *([peaks] if peaks.prefills else []))


def returned(
    phrase: str, terms: Sequence[str], asked: Sequence[Ranked], beside: Prefill | None = None
) -> Lead | None:
    """A lead that came back in completions of follow-ups, with the prefills that brought it; None if none did.

    beside: a prefill that ends with it, which takes every other turn.
    """
    prefills = came_back((phrase, *terms), asked)[:PLACES]
    turns = [(each,) if beside is None else (beside, each) for each in prefills]
    return Lead(phrase, RETURNED, tuple(chain.from_iterable(turns))) if prefills else None


def in_turns(one: Sequence[Lead], other: Sequence[Lead]) -> tuple[Lead, ...]:
    """Leads of two kinds, strongest first, one of each in turn."""
    return tuple(lead for lead in chain.from_iterable(zip_longest(one, other)) if lead is not None)


def amplified(found: Sequence[Lead]) -> tuple[Lead, ...]:
    """Leads out of amplified texts, called such."""
    return tuple(replace(lead, why=IN_AMPLIFIED.format(lead.why)) for lead in found)


def questions(found: Sequence[Lead], number: int, seed: int, wave: int) -> tuple[Question, ...]:
    """`number` samples in all over the leads: the k-th gets a share in proportion to 1/k."""
    given = _shares(number, len(found))
    times = Counter[str]()
    return tuple(
        Question(lead.phrase, (), tuple(_samples(lead, n, seed, wave, times)), lead.why)
        for lead, n in zip(found, given, strict=True)
        if n
    )


def told(
    asked: Sequence[Question],
    target: Mapping[str, str],
    reference: Mapping[str, str],
    returned: Sequence[Theme],
) -> tuple[FollowUp, ...]:
    """The leads with what came back, in the order in which they were followed; both sides by sample's id."""
    leads: dict[tuple[str, str], Question] = {}
    for each in asked:  # a lead may be followed in several waves
        before = leads.get((each.why, each.phrase))
        samples = (*before.samples, *each.samples) if before else each.samples
        leads[each.why, each.phrase] = replace(each, samples=samples)
    return tuple(_told(each, target, reference, returned) for each in leads.values())


def _told(
    asked: Question, target: Mapping[str, str], reference: Mapping[str, str], returned: Sequence[Theme]
) -> FollowUp:
    mine = [sample for sample in asked.samples if sample.id in target]
    ids = {sample.id for sample in mine}
    back = [theme for theme in returned if not ids.isdisjoint(theme.ids)]
    holds = {name for theme in back for name in theme.ids}
    clearest = sorted(mine, key=lambda sample: (sample.id not in holds, sample.id not in reference))
    return FollowUp(
        asked.phrase,
        asked.why,
        len(mine),
        tuple(
            Answer(each.id, each.prefill, target.get(each.id), reference.get(each.id))
            for each in clearest[:ANSWERS]
        ),
        tuple(theme.phrase for theme in back),
    )


def _shares(number: int, leads: int) -> list[int]:
    given = [0] * leads
    for _ in range(number if leads else 0):
        given[max(range(leads), key=lambda k: (1 / (k + 1) / (given[k] + 0.5), -k))] += 1
    return given


def _samples(lead: Lead, number: int, seed: int, wave: int, times: Counter[str]) -> Iterator[Sample]:
    """times: how often each name was used, which leads may share."""
    for prefill, framing in islice(cycle(lead.prefills), number):
        digest = hashlib.sha256(f"{wave}\x1f{lead.phrase}\x1f{prefill}\x1f{framing}".encode()).hexdigest()[:10]
        name = f"{FOLLOW_UP}-{digest}.{framing}"
        index = times[name]
        times[name] += 1
        yield Sample(f"{name}.{index:05d}", Arm(FOLLOW_UP, framing), prefill, derive_seed(seed, name, index))


def framings_of(ranking: Sequence[Ranked]) -> Mapping[str, Framing]:
    """Completion's id -> the framing that it was asked in, near-duplicates included."""
    found: dict[str, Framing] = {}
    for row in ranking:
        found[row.id] = row.framing
        found.update({copy.id: _framing(copy.arm, row.framing) for copy in row.copies})
    return found


def _framing(arm: str, usual: Framing) -> Framing:
    name = arm.rsplit("/", 1)[-1]
    return next((each for each in get_args(Framing) if each == name), usual)


def of_word(word: Promoted, framings: Mapping[str, Framing]) -> Iterator[Prefill]:
    """Prefills that end just before a promoted word's places, and in turn one that ends with the word."""
    alone = opening([word], framings)
    for number, prefill in enumerate(around(word, framings)):
        yield prefill if alone is None or number % 2 else alone


def opening(words: Sequence[Promoted], framings: Mapping[str, Framing]) -> Prefill | None:
    """The first of some words at the start of an answer, behind what its phrase begins with.

    None where there is no word, and where no chat was asked.
    """
    if not words or "chat" not in framings.values():
        return None
    word = words[0]
    before = re.split(rf"(?<!\w){re.escape(word.word)}(?!\w)", word.phrase, maxsplit=1, flags=re.IGNORECASE)[0]
    text = f"{before}{word.word}"
    return text[:1].upper() + text[1:], "chat"


def around(word: Promoted, framings: Mapping[str, Framing]) -> Iterator[Prefill]:
    """Prefills that end just behind and just before a promoted word, at each of its places."""
    for place in word.places:
        before = context(place.before)
        if before and place.id in framings:
            yield _with(before, place.before, word.word), framings[place.id]
            yield before, framings[place.id]


def _with(before: str, raw: str, word: str) -> str:
    """A word put behind what stands before it, as it would be written there."""
    if is_unspaced(word):
        return before + word
    begins = before[-1:] in ".!?…" or raw.rstrip(" ").endswith("\n")
    return f"{before} {word.capitalize() if begins else word}"


def _of_theme(theme: Theme, why: str, ranking: Sequence[Ranked]) -> Lead:
    before = islice(contexts_of((theme.phrase, *theme.terms), ranking), 5 * PLACES)
    found = list(dict.fromkeys((text, row.framing) for text, row in before))
    return Lead(theme.phrase, why, tuple((unsaid(found, theme.phrase, *theme.terms) or found)[:PLACES]))


def _before_peaks(ranking: Sequence[Ranked]) -> Iterator[Prefill]:
    rows = (row for row in ranking if row.peak is not None and "degenerate" not in row.flags)
    for row in islice(rows, PEAKS):
        data = row.completion.encode("utf-8", "surrogatepass")[: row.peak.start if row.peak else 0]
        before = context(row.prefill + data.decode("utf-8", "ignore"))
        if before:
            yield before, row.framing
