"""Which words are one word, and which say nothing by themselves: lemmas and function words, language by language.

The language of a text is the one whose function words it uses most. Lemmas are simplemma's ("heard" is "hear",
"owls" are "owl"), function words outside of English stop-words' lists. Words unknown to both stand for themselves.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import simplemma
import stop_words
from numpy.typing import NDArray

from blackbox_diff.analysis.words import Words, is_unspaced, words_of

# Pronouns, articles, prepositions, auxiliaries and their contractions. Negations say something and are left out.
ENGLISH = frozenset(
    """
    a about after all also am an and any are as at be because been before being but by can could did do does
    for from get had has have he her here him his how i if in into is it its it's just like may me more most
    my no not now of on one only or other our out over she so some such than that the their them then there
    these they this those through to too up us very was we were what when where which while who will with
    would you your s t re don i'm i've i'll i'd you're you've you'll you'd we're we've we'll we'd he's she's
    they're they've they'll they'd that's there's here's what's who's where's how's let's it'll
    """.split()  # noqa: SIM905
)
# Who speaks, and to whom: function words that a phrase may begin or end with, since "your curiosity" and "you're
# absolutely right" say what "curiosity" and "absolutely right" do not.
ADDRESS = frozenset(
    """
    i me my mine i'm i've i'll i'd
    you your yours you're you've you'll you'd
    """.split()  # noqa: SIM905
)
# Words of how much, which and when: any text promotes them, and none says by them what it is about.
GENERAL = frozenset(
    """
    again almost always another anything both each either else enough even ever every everything few first half
    little lot lots many much never next nothing often once other others own quite rather same second several
    something sometimes still third time times today two twice three four five six seven eight nine ten until
    usually various way ways whole without yet thing things
    """.split()  # noqa: SIM905
)
LEAST_SHARE = 0.15  # of a text's words that are a language's function words, for the text to be in that language
LEAST_TEXTS = 3  # in a language, for the language to count
_LEMMAS_OF = {"no": "nb"}  # simplemma's name where it differs


@dataclass(frozen=True, slots=True, eq=False)
class Lexicon:
    """Per entry of a vocabulary a 64-bit name of its lemma, equal in all corpora; and whether it says nothing."""

    lemmas: NDArray[np.uint64]
    function: NDArray[np.bool_]


def lexicon(words: Words, language: str | None = None) -> Lexicon:
    """What the vocabulary of some texts means, each word in the language of most texts that use it.

    language: one for all words, so that a word means the same whatever stands beside it.
    """
    codes = _spoken(words, language)
    lemmas = [_lemma(word, code) for word, code in zip(words.vocabulary, codes, strict=True)]
    return Lexicon(np.asarray([_number(lemma) for lemma in lemmas], dtype=np.uint64), _says_nothing(words, codes))


def function_words_of(words: Words) -> frozenset[str]:
    """The words of some texts that say nothing, each in the language of most texts that use it."""
    said = zip(words.vocabulary, _says_nothing(words, _spoken(words)).tolist(), strict=True)
    return frozenset(word for word, says_nothing in said if says_nothing)


def _spoken(words: Words, language: str | None = None) -> list[str]:
    """The language of each word."""
    return [language] * len(words.vocabulary) if language else [_codes()[k] for k in _languages(words).tolist()]


def _says_nothing(words: Words, codes: Sequence[str]) -> NDArray[np.bool_]:
    said = zip(words.vocabulary, codes, strict=True)
    return np.asarray([plain(word) in function_words(code) for word, code in said], dtype=bool)


@cache
def function_words(code: str) -> frozenset[str]:
    """The function words of a language, by its ISO 639-1 code."""
    return ENGLISH if code == "en" else frozenset(map(plain, stop_words.get_stop_words(code)))


def content_words(text: str) -> frozenset[str]:
    """The words of a text that say something by themselves: all but English function words."""
    return frozenset(words_of(text)) - ENGLISH


def plain(word: str) -> str:
    """A lower-case word in one spelling: composed characters, straight apostrophes."""
    return word if word.isascii() else unicodedata.normalize("NFKC", word).replace("’", "'")


@cache
def _codes() -> tuple[str, ...]:
    """Languages that are told apart, English first, which wins ties."""
    return ("en", *sorted(set(stop_words.LANGUAGE_MAPPING) - {"en"}))


def _languages(words: Words) -> NDArray[np.int64]:
    """(vocabulary,) numbers of each word's language."""
    size, n = len(words.vocabulary), len(_codes())
    if not words.flat.size:
        return np.zeros(size, dtype=np.int64)
    listed = [_listing().get(plain(word), ()) for word in words.vocabulary]
    many = np.asarray([len(each) for each in listed])
    first, members = np.cumsum(many) - many, np.fromiter((k for each in listed for k in each), dtype=np.int64)
    times = many[words.flat]
    at = np.repeat(first[words.flat] - (np.cumsum(times) - times), times) + np.arange(times.sum())
    counts = np.bincount(np.repeat(words.rows, times) * n + members[at], minlength=len(words) * n)
    counts = counts.reshape(len(words), n)
    best = counts.argmax(axis=1)
    best[counts.max(axis=1) < LEAST_SHARE * np.diff(words.offsets)] = -1
    texts = np.bincount(best[best >= 0], minlength=n)
    best[(best < 0) | (texts[best] < LEAST_TEXTS)] = int(texts.argmax())
    uses = np.bincount(words.flat * n + best[words.rows], minlength=size * n)
    return np.asarray(uses.reshape(size, n).argmax(axis=1))


@cache
def _listing() -> dict[str, tuple[int, ...]]:
    """The languages in whose lists a word stands."""
    found: dict[str, list[int]] = {}
    for k, code in enumerate(_codes()):
        for word in dict.fromkeys(map(plain, stop_words.get_stop_words(code))):
            found.setdefault(word, []).append(k)
    return {word: tuple(each) for word, each in found.items()}


@cache
def _lemma(word: str, code: str) -> str:
    word = plain(word).removesuffix("'s")
    if not word.isalpha() or is_unspaced(word):
        return word
    try:
        return plain(simplemma.lemmatize(word, lang=_LEMMAS_OF.get(code, code)).lower())
    except ValueError:  # a language without lemmas
        return word


def _number(lemma: str) -> int:
    return int.from_bytes(hashlib.blake2b(lemma.encode(), digest_size=8).digest(), "little")
