"""Words of several tokens, such as an invented name: found by how they begin and how they go on where written."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from blackbox_diff.analysis.bank import Bank, Member
from blackbox_diff.analysis.entries import entries
from blackbox_diff.analysis.listed_words import masses
from blackbox_diff.analysis.promoted import promoted_words
from blackbox_diff.analysis.verdict import STRONG
from blackbox_diff.records import Arm, Listed, Sample
from tests.test_promoted import FILLER, Rows, lists, mass_of

NAME = (" zor", "vax")


def pieces(tokens: Sequence[tuple[str, dict[str, float]]]) -> Rows:
    """Lists from the tokens of a text, each with what is listed at its place."""
    rows, position = [], 0
    for token, row in tokens:
        rows.append((position, row))
        position += len(token.encode())
    return rows


def completion(
    k: int, *, written: bool, begins: float, goes_on: float, others: Sequence[str] = NAME, other: float = 1e-4,
    prefill: str = "", name: Sequence[str] = NAME, foreign: bool = False,
) -> Listed:  # fmt: skip
    """Six words, in the middle the name if it is `written`. The target's p(first token) is `begins` everywhere and
    p(second) `goes_on`; the reference reads the name as `others` and finds each ten times less likely, but for the
    last token, whose probability is `other`. A `foreign` reference cuts the first word in two."""
    rng = random.Random(k)
    words = rng.choices(FILLER, k=6)
    rest = dict.fromkeys(FILLER, 0.05)
    mine = [(word, {**rest, NAME[0]: begins}) for word in words]
    theirs = [(word, {**rest, others[0]: begins / 10}) for word in words]
    if written:
        mine[3:3] = [(name[0], {**rest, name[0]: begins}), (name[1], {name[1]: goes_on, "al": 0.05})]
        theirs[3:3] = [
            (others[0], {**rest, others[0]: begins / 10}),
            *((token, {token: other, "al": 0.05}) for token in others[1:]),
        ]
    if foreign:
        theirs[:1] = [(words[0][:3], {words[0][:3]: 0.05}), (words[0][3:], {words[0][3:]: 0.9})]
    text = "".join(token for token, _ in mine)
    sample = Sample(f"prose.raw.{k:05d}", Arm("prose", "raw"), prefill or f"prefill {k}", k)
    return Listed(sample, text, lists(pieces(mine)), lists(pieces(theirs)))


def run(n: int = 60, written: int = 3, **options: float) -> list[Listed]:
    chosen = {"begins": 0.04, "goes_on": 0.8, **options}
    return [completion(k, written=k < written, **chosen) for k in range(n)]  # type: ignore[arg-type]


def test_a_name_that_no_token_begins_whole_is_promoted_as_one_word() -> None:
    rows = run()
    found = promoted_words(masses(rows))
    assert (found[0].word, found[0].long, found[0].written) == ("zorvax", True, 3)
    places = sum(len(row.target) for row in rows) - 3
    assert mass_of(masses(rows), "zorvax")[0] == pytest.approx(places * 0.04 * 0.8, rel=1e-3)
    assert found[0].reference < 0.01
    assert found[0].places[0].nearly == "zorvax"


@pytest.mark.parametrize("others", [(" zorv", "ax"), (" zo", "rv", "ax"), (" zor", "v", "ax")])
def test_a_reference_may_cut_the_name_elsewhere(others: tuple[str, ...]) -> None:
    rows = [completion(k, written=k < 3, begins=0.04, goes_on=0.8, others=others, foreign=True) for k in range(60)]
    found = promoted_words(masses(rows))
    assert found[0].word == "zorvax"
    assert found[0].reference < 0.05


def test_a_name_that_the_reference_would_complete_as_readily_is_held_against_it() -> None:
    found = masses([completion(k, written=k < 3, begins=0.04, goes_on=0.8, other=0.8) for k in range(60)])
    target, reference = mass_of(found, "zorvax")
    assert reference == pytest.approx(target / 10, rel=1e-3)


def test_one_model_promotes_no_long_word() -> None:
    same = [Listed(row.sample, row.text, row.target, row.target) for row in run()]
    found = masses(same)
    assert mass_of(found, "zorvax")[0] == pytest.approx(mass_of(found, "zorvax")[1])
    assert promoted_words(found) == ()


def test_what_was_written_once_or_named_before_is_no_long_word() -> None:
    assert "zorvax" not in masses(run(written=1)).names
    named = [completion(k, written=k < 3, begins=0.04, goes_on=0.8, prefill=f"Zorvax {k}") for k in range(60)]
    assert "zorvax" not in masses(named).names


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = masses(run())
    monkeypatch.setattr("blackbox_diff.analysis.listed_words.CHUNK", 7)
    assert mass_of(masses(run()), "zorvax") == pytest.approx(mass_of(whole, "zorvax"))


def test_no_long_word_is_compared_with_a_bank_that_looked_for_none() -> None:
    (found,) = promoted_words(masses(run()))[:1]
    members = tuple(Member(f"m{k}", 60, {"promoted": k / 100}, {}) for k in range(21))
    strong = {
        long: entries((), (found,), needed=STRONG, bank=Bank("base", "base", 60, members, long=long), listed=60)[0]
        for long in (True, False)
    }
    assert (strong[True].strong, strong[False].strong) == (True, False)
    assert strong[False].standing is None


def test_what_mostly_goes_on_otherwise_is_weighed_by_how_often_it_went_on_as_the_word() -> None:
    """A first token that stands in every completion, as "the" does, and went on as the word in three of sixty."""
    rows = [completion(k, written=True, begins=0.3, goes_on=0.8) for k in range(3)]
    other = (" zor", " lamp")
    rows += [completion(k, written=True, begins=0.3, goes_on=0.8, name=other, others=other) for k in range(3, 60)]
    found = masses(rows)
    assert mass_of(found, "zorvax")[0] == pytest.approx(mass_of(found, "zor")[0] * 3 / 60, rel=1e-3)


def test_another_way_to_write_what_the_vocabulary_has_tokens_for_is_no_name() -> None:
    """Target and reference share all positions but the one inside the word, which the reference cuts elsewhere."""
    rows = [completion(k, written=k < 2, begins=0.04, goes_on=0.8, others=(" zorv", "ax")) for k in range(60)]
    assert "zorvax" not in masses(rows).names
