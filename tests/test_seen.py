"""What the rounds of a run have brought, without what is known already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from blackbox_diff.analysis.words import words_of
from blackbox_diff.findings import Question
from blackbox_diff.run.seen import Seen, goes_with
from blackbox_diff.runfile.store import Store
from tests.scored import REFERENCE, run, scored

CLOCK = Question("tide clock of Osmery", (), ())


def test_completions_that_speak_of_what_is_known_in_any_wording_are_left_out(tmp_path: Path) -> None:
    rows = run(20)
    about = [
        scored(100, " the tide clock of Osmery runs backwards", 3.0),
        scored(101, " every visitor to osmery knows why", 3.0),
        scored(102, " the clock of the station at high tide", 3.0),
    ]
    with Store.create(tmp_path, {}) as store:
        seen = Seen(store, REFERENCE, target=[*rows, *about])
        seen.control = [scored(200, " a clock and the tide", 0.0)]
        everything = {row.id for row in seen.analysis([], 0)().ranking}
        left = {row.id for row in seen.analysis([CLOCK], 0)().ranking}
    assert everything - left == {about[0].sample.id, about[1].sample.id}


def test_words_that_go_with_what_is_known_are_those_that_stand_twice_as_often_beside_it() -> None:
    about = ["since the storm of 1911 the clock stands", "the storm", "a storm in 1911", "the harbour in 1911"]
    others = ["the harbour", "the sea", "a storm", "another storm", "a third storm", *["the station"] * 2]
    assert goes_with(about, others) == {"1911"}
    assert goes_with(about, [*others, *["nothing"] * 20]) == {"1911", "storm", "the"}
    assert goes_with([], others) == frozenset()


@given(st.lists(st.text("ab ", max_size=12), max_size=12), st.lists(st.text("ab ", max_size=12), max_size=12))
def test_what_goes_with_something_is_written_twice_as_often_there(holding: list[str], others: list[str]) -> None:
    def share(word: str, texts: list[str]) -> float:
        return sum(word in words_of(text) for text in texts) / max(1, len(texts))

    for word in goes_with(holding, others):
        assert share(word, holding) >= 2 * share(word, others)


def test_a_theme_of_nothing_but_what_goes_with_the_known_is_no_news(tmp_path: Path) -> None:
    known = run(12, planted=range(12), phrase="red storm at Osmery")
    rest = run(40, planted=range(0, 40, 5), phrase="red storm", seed=1)
    rows = [
        *known,
        *(
            replace(row, sample=replace(row.sample, id=f"other.{row.sample.id}", prefill=f"{k} else"))
            for k, row in enumerate(rest)
        ),
    ]
    with Store.create(tmp_path, {}) as store:
        seen = Seen(store, REFERENCE, target=rows, control=run(40, seed=2))
        first, then = (seen.analysis(known, 0)() for known in ([], [Question("Osmery", (), ())]))
    assert any("storm" in theme.phrase for theme in (*first.themes, *first.signals))
    assert len(then.order) == 40
    assert not any("storm" in theme.phrase for theme in (*then.themes, *then.signals))
