"""One list of what recurs: what was written and what was nearly written, put together where it is the same words.

A theme says what was written, a promoted word what was likely, written or not. A promoted word joins the strongest
theme that holds a word of its lemma, in its phrase, another wording or a part; promoted words of one lemma, of one
phrase, or else of one field (fields.py), are one entry. The strengths of the two kinds have different units, so
each is divided by what a finding needs of it: 1 is where a finding begins, and an entry has the sum of both. For
themes that is what `verdict.needed` says; promoted words count by how far they stand out, over the most that the
bank's members do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from blackbox_diff.analysis.bank import STRENGTH, Bank, Uses, scaled_strengths, standing_of
from blackbox_diff.analysis.lexicon import GENERAL, lexicon
from blackbox_diff.analysis.verdict import BANK_LEVEL, is_steady, theme_strength
from blackbox_diff.analysis.words import Words, words_of
from blackbox_diff.findings import Entry, Promoted, Theme


def entries(
    themes: Sequence[Theme],
    promoted: Sequence[Promoted],
    *,
    needed: float,
    bank: Bank | None,
    listed: int,
    third: Uses | None = None,
) -> tuple[Entry, ...]:
    """The entries, those that carry a finding first, content before turns of phrase, then by strength.

    themes: strong and weak ones. promoted: words of style among them are left out. needed: strength of a theme
    that carries a finding. bank: harmless models under the same reference, if there are any. listed: completions
    in which promoted words were looked for; third: as promoted.Search has it.
    """
    content = [word for word in promoted if not word.style]
    meaning = _Meaning(themes, content)
    groups = [_Group(meaning.of(" ".join(_said(theme))), theme) for theme in sorted(themes, key=_by_strength)]
    far = _how_far(content, bank, listed, third)
    for word, strength in sorted(zip(content, far, strict=True), key=lambda pair: -pair[1]):
        own = meaning.of(word.phrase) | meaning.of(word.word)
        head = meaning.of(word.word)
        same = (each for each in groups if head & each.lemmas or each.heads & own)
        group = next(same, None) or next((each for each in groups if each.is_beside(word)), None)
        if group is None:
            groups.append(group := _Group(own, None))
        group.heads |= head
        group.words.append((strength, word))
    most = max((each.strengths.get("promoted", 0.0) for each in bank.members), default=0.0) if bank else 0.0
    found = [_entry(group, meaning, (needed, most or 1.0), bank) for group in groups]
    return tuple(
        sorted(found, key=lambda entry: (not entry.strong, not entry.content, -entry.strength, entry.phrase))
    )


def first_named(found: Sequence[Entry]) -> Entry | None:
    """The entry that a finding's headline names, of those that carry it: content before turns of phrase, and what
    was written, too, before what was only likely, because it can be read."""
    best = list(found)
    for wanted in (lambda each: each.strong, lambda each: each.content, lambda each: each.theme is not None):
        best = [each for each in best if wanted(each)] or best
    return best[0] if best else None


def _how_far(content: Sequence[Promoted], bank: Bank | None, listed: int, third: Uses | None) -> list[float]:
    """How far each word stands out, as the bank's members are compared.

    A word of a kind that was not looked for in them sets no third for the others.
    """
    alone = scaled_strengths(content, listed, bank.completions if bank else listed)
    if bank is None:
        return [strength / STRENGTH for strength in alone]
    known = [bank.knows(word) for word in content]
    far = iter(bank.how_far([word for word, kept in zip(content, known, strict=True) if kept], listed, third))
    unit = STRENGTH if bank.has_masses else 1.0
    return [next(far) if kept else strength / unit for strength, kept in zip(alone, known, strict=True)]


@dataclass(slots=True)
class _Group:
    """An entry in the making. lemmas: that a word must have to join; heads: of the words that joined."""

    lemmas: frozenset[int]
    theme: Theme | None
    words: list[tuple[float, Promoted]] = field(default_factory=list)
    heads: frozenset[int] = frozenset()

    def is_beside(self, word: Promoted) -> bool:
        """Whether a word could stand where one stands that has joined."""
        return any(word.word in each.beside or each.word in word.beside for _, each in self.words)


def _entry(group: _Group, meaning: _Meaning, units: tuple[float, float], bank: Bank | None) -> Entry:
    theme, first = group.theme, max(0.0, group.words[0][0]) if group.words else 0.0
    written = theme_strength(theme) / units[0] if theme is not None else 0.0
    nearly = first / units[1]
    compared = [strength for strength, word in group.words if bank and bank.knows(word)]
    standing = standing_of(bank, "promoted", max(0.0, compared[0])) if bank and compared else None
    likely = standing is not None and standing.p_value <= BANK_LEVEL
    said = theme is not None and is_steady(theme) and written >= 1
    phrase = theme.phrase if theme is not None and (said or written >= nearly) else group.words[0][1].phrase
    return Entry(
        phrase=phrase,
        strength=written + nearly,
        strong=said or likely,
        content=meaning.is_content(phrase),
        theme=theme,
        words=tuple(word for _, word in group.words),
        standing=standing,
    )


class _Meaning:
    """Lemmas of the words that the evidence holds, each in the language of the texts that it comes from."""

    def __init__(self, themes: Sequence[Theme], promoted: Sequence[Promoted]) -> None:
        quotes = [quote.text for theme in themes for quote in theme.quotes]
        places = [place.before + place.written for word in promoted for place in word.places]
        said = [phrase for theme in themes for phrase in _said(theme)]
        named = [text for word in promoted for text in (word.phrase, word.word)]
        words = Words.of([*quotes, *places, *said, *named])
        meaning = lexicon(words)
        self._lemma = {
            word: lemma
            for word, lemma, function in zip(
                words.vocabulary, meaning.lemmas.tolist(), meaning.function.tolist(), strict=True
            )
            if not function
        }

    def of(self, text: str) -> frozenset[int]:
        """Lemmas of the words of a text that say something."""
        return frozenset(self._lemma[word] for word in words_of(text) if word in self._lemma)

    def is_content(self, phrase: str) -> bool:
        return any(word in self._lemma and word not in GENERAL for word in words_of(phrase))


def _said(theme: Theme) -> Iterator[str]:
    """The theme's phrase, its other wordings, and its parts'."""
    yield theme.phrase
    yield from theme.terms
    for part in theme.parts:
        yield from _said(part)


def _by_strength(theme: Theme) -> tuple[float, str]:
    return -theme_strength(theme), theme.phrase
