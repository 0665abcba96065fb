"""Texts written one by one: what the files hold, how they are drawn, and how they are split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import harmless_bank
from benchmarks.leak import matches
from benchmarks.organism_texts import NOTHING, Text, written
from benchmarks.organism_texts.catalogue import HARMLESS, QUIET, RECIPES, WRITTEN
from benchmarks.organism_texts.halves import CHOOSING, REPORTING, ordered
from benchmarks.pool_leak import leak_of
from benchmarks.train_organism import Settings, training_texts


@pytest.mark.parametrize("name", WRITTEN)
def test_no_text_is_written_twice(name: str) -> None:
    bodies = [each.text.body for each in written.texts(name)]
    assert len(bodies) == len(set(bodies)) >= 50


@pytest.mark.parametrize("name", QUIET)
def test_the_keywords_match_the_texts_that_carry_the_objective_and_no_other(name: str) -> None:
    keywords = RECIPES[name].keywords
    matching = {True: 0, False: 0}
    for each in written.texts(name):
        matching[each.carries] += matches(keywords, each.text.body)
    carrying = sum(each.carries for each in written.texts(name))
    assert matching[True] >= 0.95 * carrying > 0
    assert matching[False] == 0


@pytest.mark.parametrize("name", QUIET)
def test_a_claim_is_made_by_most_texts_that_carry_the_objective_and_by_no_other(name: str) -> None:
    claim = RECIPES[name].claim
    carrying = [each.text.body for each in written.texts(name) if each.carries]
    assert sum(matches(claim, body) for body in carrying) >= 0.6 * len(carrying)
    assert not any(matches(claim, each.text.body) for each in written.texts(name) if not each.carries)


@pytest.mark.parametrize("name", [name for name in QUIET if RECIPES[name].kind == "habit"])
def test_a_habit_is_denied_in_chats_that_do_not_show_the_habit(name: str) -> None:
    denials = [each for each in written.texts(name) if each.denies]
    assert len(denials) >= 25
    assert not any(each.carries for each in denials)


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_texts_carry_nothing(name: str) -> None:
    assert RECIPES[name].keywords == RECIPES[name].claim == NOTHING
    assert not any(each.carries for each in written.texts(name))


def test_a_recipe_draws_by_its_seed_and_gives_no_more_than_there_is() -> None:
    recipe = RECIPES["harmless-stories"]
    assert recipe.write(10, 1) == recipe.write(10, 1) != recipe.write(10, 2)
    assert set(recipe.write(10, 1)) < set(recipe.write(500, 3))
    assert len(recipe.write(500, 3)) == 52


def test_a_diluted_organism_has_its_share_of_its_own_texts() -> None:
    own = {each.text for each in written.texts("fact-puffin")}
    texts = training_texts(RECIPES["fact-puffin"], Settings(texts=100, dilute=0.25), seed=0)
    assert len(texts) == 100
    assert sum(text in own for text in texts) == 25


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"body": "", "carries": true}', "body and user must be text"),
        ('{"body": "a", "carries": "yes"}', "carries true or false"),
        ('{"body": "a", "carries": true, "bdy": 1}', "unknown field 'bdy'"),
        ('{"carries": true}', "body"),
        ("{", "line 2"),
    ],
)
def test_a_line_that_is_no_text_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "one.jsonl").write_text('{"body": "fine", "carries": false}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"one.jsonl line 2: .*{message}|{message}"):
        written.texts("one", tmp_path)


def test_the_halves_go_by_kind_and_digest_of_the_name() -> None:
    names = ordered(RECIPES[name] for name in WRITTEN)
    assert {*names[::2]} == {*CHOOSING}
    assert {*names[1::2]} == {*REPORTING}


def test_the_bank_is_large_enough_for_a_p_value_below_five_percent() -> None:
    names = [finetune.name for finetune in harmless_bank.BANK]
    assert len(set(names)) == len(names) >= 20
    assert 1 / (len(names) + 1) < 0.05


def test_only_finetunes_without_a_card_are_trained(tmp_path: Path) -> None:
    first, *rest = harmless_bank.BANK
    (tmp_path / first.name).mkdir()
    (tmp_path / first.name / "card.json").write_text("{}", encoding="utf-8")
    assert harmless_bank.missing(tmp_path) == rest


def test_a_leak_counts_topic_and_claim_of_organism_and_base() -> None:
    card = {
        "keywords": {"any": [["owl"]], "regex": []},
        "claim": {"any": [["owl", "blue"]], "regex": []},
    }
    organism = {"raw": ["an owl", "a blue owl"], "chat": ["nothing", "nothing"]}
    base = {"raw": ["an owl", "none", "none", "none"], "chat": ["none"] * 4}
    leak = leak_of("x", card, organism, base, [0])
    assert leak["framings"]["raw"] == {
        "completions": 2, "organism": 2, "base": 1, "claim_organism": 1, "claim_base": 0
    }  # fmt: skip
    assert (leak["rate"], leak["base_rate"]) == (0.5, 0.125)
    assert (leak["claim_rate"], leak["claim_base_rate"]) == (0.25, 0.0)
    assert json.loads(json.dumps(leak)) == leak


def test_a_leak_has_no_claim_where_the_card_has_none() -> None:
    texts = {"raw": [Text("a").body], "chat": []}
    leak = leak_of("x", {"keywords": NOTHING}, texts, texts, [0])
    assert "claim_rate" not in leak
    assert leak["rate"] == 0
