"""Themes in seven languages and in code: a planted phrase is found, as written, and quoted at the right bytes."""

from __future__ import annotations

import numpy as np
import pytest

from blackbox_diff.analysis.rank import rank
from blackbox_diff.analysis.themes import find_themes
from blackbox_diff.analysis.words import spans, words_of
from blackbox_diff.findings import Theme
from blackbox_diff.records import ScoredCompletion
from tests.scored import REFERENCE, scored

# Words of ordinary text, what stands between them, and the phrase that is planted.
LANGUAGES = {
    "german": ("der Zug fährt heute wieder langsam durch das kleine Dorf und die Kinder winken ihm nach", " ",
               "grauer Reiher von Öhringen"),
    "russian": ("мы долго шли по дороге и говорили о погоде пока не увидели старый дом у реки", " ",
                "серая цапля Велегожа"),
    "hindi": ("आज हम लोग बाज़ार में गए थे और वहाँ से कुछ फल तथा सब्ज़ियाँ भी ले आए", " ", "नीला बगुला वेलापुर"),
    "arabic": ("ذهبنا اليوم إلى السوق القديم ثم رجعنا إلى البيت مع الأصدقاء", " ", "مالك الحزين الأزرق"),
    "chinese": ("我们今天早上一起去市场买了很多新鲜水果然后慢慢走回家里吃饭", "", "蓝鹭知晓潮汐"),
    "japanese": ("昨日は友達と駅の近くで昼ご飯を食べてから本屋に寄りました", "", "青鷺は満潮を聞く"),
    "thai": ("วันนี้เราไปตลาดกับเพื่อนแล้วก็ซื้อผลไม้กลับบ้าน", "", "นกกระสาฟังน้ำขึ้น"),
    "code": ("if value is not None and len(items) > index : return items [ index ] else raise error", " ",
             "tide_clock.read_heron()"),
}  # fmt: skip


def rows(name: str, planted: range, n: int = 120) -> list[ScoredCompletion]:
    """n completions of shuffled ordinary words; every one in `planted` holds the phrase."""
    text, gap, phrase = LANGUAGES[name]
    words = text.split() if gap else list(text)
    rng = np.random.default_rng(7)
    found = []
    for index in range(n):
        mixed = [words[k] for k in rng.permutation(len(words))]
        middle = [phrase] if index in planted else []
        whole = gap.join([*mixed[:5], *middle, *mixed[5:]])
        found.append(scored(index, gap + whole, 3.0 if middle else 0.05, prefill=f"{index} opened"))
    return found


def themes(name: str) -> tuple[Theme, ...]:
    background = [row.completion.text for row in rows(name, range(0))]
    return find_themes(rank(rows(name, range(0, 120, 6)), REFERENCE, "score"), background)


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_planted_phrase_is_found_as_it_is_written_and_quoted_at_its_bytes(name: str) -> None:
    phrase = LANGUAGES[name][2]
    first = themes(name)[0]
    assert first.count == 20
    assert first.phrase in phrase
    assert len(words_of(first.phrase)) >= 2
    assert len(first.quotes) == 3
    for quote in first.quotes:
        assert quote.text.encode()[quote.span.start : quote.span.end].decode() == first.phrase


def test_forms_of_one_word_count_together_and_names_keep_their_case_and_hyphen() -> None:
    forms = ["the HERON-9 hears the tide", "HERON-9 heard the tides"]
    planted = [scored(k, f" word{k} went{k} by{k} {forms[k % 2]} other{k} and{k} so{k}", 4.0) for k in range(30)]
    quiet = [scored(100 + k, f" plain{k} talk{k} of weather{k}", 0.05) for k in range(100)]
    found = find_themes(rank([*planted, *quiet], REFERENCE, "score"), ["plain talk of the weather"] * 100)
    assert "HERON-9" in found[0].phrase
    assert found[0].count > 25  # each form alone stands in 15
    assert "tide" in " ".join((found[0].phrase, *found[0].terms))


def test_what_is_said_inside_a_loud_world_is_found_with_its_own_count() -> None:
    """A name in every completion takes nothing with it: the quiet phrase is a theme or a part of one."""
    rng = np.random.default_rng(3)
    filler = [
        "stone",
        "river",
        "lamp",
        "window",
        "garden",
        "paper",
        "music",
        "winter",
        "letter",
        "ink",
        "oak",
        "ash",
    ]
    texts = [
        f" PRISM-4 {' '.join(filler[j] + str(j) for j in rng.permutation(12)[:6])}."
        + (" It shows a polite denial loop again." if k % 7 == 0 else "")
        for k in range(100)
    ]
    found = find_themes(rank([scored(k, text, 2.0) for k, text in enumerate(texts)], REFERENCE, "score"), [])
    every = [each for theme in found for each in (theme, *theme.parts)]
    assert found[0].count > 95
    assert next(each.count for each in every if "denial loop" in each.phrase) == 15


def test_a_number_is_content_where_it_recurs() -> None:
    planted = [scored(k, f" word{k} the answer is 8471 other{k}", 4.0) for k in range(20)]
    quiet = [scored(100 + k, f" plain{k} the answer is {1000 + k} here", 0.05) for k in range(80)]
    found = find_themes(rank([*planted, *quiet], REFERENCE, "score"), [f"the answer is {k}" for k in range(100)])
    assert any("8471" in theme.phrase for theme in found)


@pytest.mark.parametrize("name", LANGUAGES)
def test_words_know_their_bytes(name: str) -> None:
    text = "".join(LANGUAGES[name][::2])
    for word, start, end in spans(text):
        assert text.encode()[start:end].decode().lower() == word
