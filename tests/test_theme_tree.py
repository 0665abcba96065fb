"""How phrases are put into a tree: which are one thing, which is a part of which, and what chance shows, too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from blackbox_diff.analysis.phrases import Corpus, Phrases
from blackbox_diff.analysis.rank import rank
from blackbox_diff.analysis.themes import (
    _Grouping,
    _likelihood_ratio,
    _Node,
    _shared,
    _together,
    _told_of,
    find_themes,
)
from tests.scored import REFERENCE, run


def units(held: Iterable[int], n: int) -> NDArray[np.bool_]:
    """(n,) which of n units hold a phrase."""
    found = np.zeros(n, dtype=bool)
    found[list(held)] = True
    return found


def tree(texts: Sequence[str], said: Sequence[str], most: int = 30) -> list[_Node]:
    """The tree of the phrases `said`, the strongest first, as they stand in `texts`."""
    corpus, _ = Corpus.of(texts)
    written = [corpus.written(at, 1) for at in range(len(corpus.lemmas))]
    at = [
        np.asarray([k for k in range(len(written)) if written[k : k + len(phrase)] == phrase], dtype=np.int64)
        for phrase in map(str.split, said)
    ]
    rows = [np.unique(corpus.words.rows[each]) for each in at]
    nats, behind = np.ones((len(said), len(texts))), np.zeros((len(said), 1), dtype=np.int64)
    found = Phrases(corpus, [len(phrase.split()) for phrase in said], at, rows, nats, behind, np.asarray([100]))
    return _Grouping(found, len(texts)).roots(most)


def texts(n: int, **held: Iterable[int]) -> list[str]:
    """n texts; each says, a sentence apiece, the words that hold it: `texts(9, heron=range(3))`."""
    sets = {word: frozenset(rows) for word, rows in held.items()}
    return [". ".join(["Marsh", *(word for word, rows in sets.items() if k in rows)]) + "." for k in range(n)]


def told(nodes: Sequence[_Node]) -> list[object]:
    """[members, parts] of each, all the way down."""
    return [[node.members, told(node.parts)] for node in nodes]


def test_the_likelihood_ratio_is_that_of_the_table() -> None:
    """10 of 100 units hold one thing, 50 the other; by chance 5 hold both. Each cell gives 2 seen ln(seen/due)."""
    cells = [(10, 5), (40, 45), (50, 45)]  # (0, 5) adds nothing
    expected = sum(2 * seen * math.log(seen / due) for seen, due in cells)
    found = _likelihood_ratio(np.asarray([10, 5]), 10, np.asarray([50, 50]), 100)
    assert found.tolist() == pytest.approx([expected, 0.0])
    assert expected == pytest.approx(14.98, abs=0.01)


def test_mutual_information_is_one_for_the_same_units_and_none_for_the_half_that_chance_may_show() -> None:
    own = units(range(10), 1000)
    others = np.stack(
        [
            units(range(10), 1000),  # the same
            units(range(500), 1000),  # all of them, in what holds half of everything
            units(range(5, 15), 1000),  # half of them
            units(range(6, 16), 1000),  # fewer than half
            units(range(900, 990), 1000),  # none
        ]
    )
    half = math.log(5 * 1000 / 100) / -math.log(5 / 1000)
    wide = math.log(2) / -math.log(10 / 1000)
    found = _together(own, others, np.ones(1000, dtype=bool))
    assert found.tolist() == pytest.approx([1.0, wide, half, 0.0, 0.0])


def test_what_chance_shows_once_in_a_thousand_is_nothing_together() -> None:
    """Four of 20 units that all lie in one half of them: the ratio is 6.5. Eight of 40: 13.1, beyond 10.83."""
    assert _together(units(range(4), 20), units(range(10), 20)[None], units(range(20), 20)).tolist() == [0.0]
    found = _together(units(range(8), 40), units(range(20), 40)[None], units(range(40), 40))
    assert found.tolist() == pytest.approx([math.log(2) / math.log(5)])


def test_only_the_units_asked_about_count() -> None:
    """Among the first 100 all hold the other, so that to meet it there says nothing."""
    own, other = units(range(20), 1000), units(range(100), 1000)[None]
    assert _together(own, other, units(range(1000), 1000))[0] > 0.5
    assert _together(own, other, units(range(100), 1000)).tolist() == [0.0]


def test_a_phrase_is_told_of_what_four_in_five_of_its_sentences_name() -> None:
    own = units(range(10), 1000)
    others = np.stack([units(range(8), 1000), units(range(7), 1000), units(range(1000), 1000)])
    assert _told_of(own, others).tolist() == pytest.approx([0.8, 0.0, 0.0])


@pytest.mark.parametrize(
    ("own", "other", "same"),
    [({1, 2, 3}, {2, 3, 4}, True), ({1, 2, 3, 4}, {3, 4, 5}, False), ({1}, {1}, False), ({1, 2}, {1, 2}, True)],
)
def test_two_phrases_are_alike_that_share_two_in_three_words_and_two_at_least(
    own: set[int], other: set[int], same: bool
) -> None:
    assert _shared(frozenset(own), frozenset(other)) == same


def test_phrases_of_the_same_completions_are_one_theme_in_several_wordings() -> None:
    """4 of the 10 completions that hold either hold both, just as many as it takes; of 11 it would be too few."""
    assert told(tree(texts(100, heron=range(7), otter=range(3, 10)), ["heron", "otter"])) == [[[0, 1], []]]
    assert told(tree(texts(100, heron=range(7), otter=range(3, 11)), ["heron", "otter"])) == [[[0], [[[1], []]]]]


def test_the_size_of_one_theme_does_not_hide_that_a_phrase_is_another_wording_of_a_second() -> None:
    nodes = tree(
        texts(100, heron=range(20), otter=range(40, 50), bittern=range(40, 48)), ["heron", "otter", "bittern"]
    )
    assert told(nodes) == [[[0], []], [[1, 2], []]]


def test_a_tree_is_two_deep() -> None:
    """The otter is a part of the heron. The bittern, met where the otter is, is put to it as a wording."""
    held = texts(400, heron=range(100), otter=range(20), bittern=range(6))
    assert told(tree(held, ["heron", "otter", "bittern"])) == [[[0], [[[1, 2], []]]]]


def test_no_more_themes_than_asked_for() -> None:
    held = texts(90, heron=range(20), otter=range(30, 50), bittern=range(60, 80))
    assert told(tree(held, ["heron", "otter", "bittern"], most=2)) == [[[0], []], [[1], []]]
    assert len(tree(held, ["heron", "otter", "bittern"], most=3)) == 3


def test_the_only_theme_that_is_asked_for_is_steady() -> None:
    """Its place is that of the themes that are stronger in a resample, of which there is none."""
    found = find_themes(rank(run(300, planted=range(0, 300, 15)), REFERENCE), [], top=1)
    assert [theme.phrase for theme in found] == ["lantern of Port Ellery"]
    assert found[0].stability is not None
    assert found[0].stability > 0.95
