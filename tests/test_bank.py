"""Where a model stands in a bank of harmless ones: a p-value that is valid whatever strengths look like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_diff.analysis.bank import APART, STRENGTH, Bank, Member, outstanding, standings
from blackbox_diff.analysis.entries import entries
from blackbox_diff.analysis.promoted import lowered_log_ratio
from blackbox_diff.analysis.verdict import strongest, theme_strength
from blackbox_diff.errors import InputError
from blackbox_diff.findings import Promoted
from blackbox_diff.run.bank import read_bank, shipped_bank, shipped_banks, written
from blackbox_diff.run.results import read_run
from tests.conftest import run_cli
from tests.leaky_toy import LeakyToy
from tests.toy_server import serving


def word(name: str, target: float, reference: float, *, style: bool = False) -> Promoted:
    return Promoted(name, name, 1.0, target, reference, 40, 0.001, 0.01, style, (), written=0, background=0)


def bank(values: list[float]) -> Bank:
    members = tuple(Member(f"m{k}", 200, {"themes": value}, {}) for k, value in enumerate(values))
    return Bank("base", "base", 200, members)


def p(values: list[float], strength: float, name: str | None = None) -> float:
    (found,) = standings(bank(values), {"themes": strength, "promoted": 5.0}, name)
    return found.p_value


def test_the_strongest_of_all_has_the_least_p_value_and_ties_count_against_it() -> None:
    assert p([1.0] * 20, 2.0) == pytest.approx(1 / 21)
    assert p([1.0] * 20, 1.0) == 1.0
    assert p([1.0, 2.0, 3.0], 2.5) == pytest.approx(2 / 4)


def test_a_member_is_not_compared_with_itself() -> None:
    assert p([1.0, 2.0, 9.0], 9.0, "m2") == pytest.approx(1 / 3)


def test_a_kind_that_no_member_has_is_not_judged() -> None:
    (found,) = standings(bank([1.0, 2.0]), {"themes": 3.0, "promoted": 5.0})
    assert (found.kind, found.stronger_than, found.of) == ("themes", 2, 2)


def test_p_values_of_one_more_harmless_model_are_uniform_or_above() -> None:
    rng = np.random.default_rng(0)
    found = np.asarray([p(list(row[:-1]), row[-1]) for row in rng.lognormal(size=(4000, 21))])
    for level in (1 / 21, 0.1, 0.25, 0.5):
        assert (found <= level + 1e-9).mean() <= level + 0.02


@given(st.lists(st.floats(0, 50), min_size=2, max_size=30), st.floats(0, 50), st.floats(0, 50))
def test_a_stronger_model_never_has_a_higher_p_value(values: list[float], a: float, b: float) -> None:
    assert p(values, max(a, b)) <= p(values, min(a, b))


def test_a_bank_comes_back_from_its_file(tmp_path: Path) -> None:
    made = bank([1.0, 2.5])
    (tmp_path / "bank.json").write_text(written(made), encoding="utf-8")
    assert read_bank(tmp_path / "bank.json") == made


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"format": 9, "base": "b", "reference": "b", "members": []}', "\x00"]
)
def test_what_is_no_bank_is_one_line_with_the_fix(text: str, tmp_path: Path) -> None:
    (tmp_path / "bank.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"not a bank.*calibrate") as error:
        read_bank(tmp_path / "bank.json")
    assert "\n" not in str(error.value)


def test_the_shipped_banks_hold_models_of_several_kinds() -> None:
    for found in shipped_banks():
        assert len(found.members) >= 20
        assert all({"themes", "promoted"} <= set(member.strengths) for member in found.members)
        assert shipped_bank(found.reference) == found
    assert shipped_bank("a model that nobody audited") is None


def test_a_bank_is_compared_at_the_audits_number_up_to_twice_its_own() -> None:
    known = Member("known", 200, {"promoted": 0.4, "themes": 1.0}, {}, masses=((2.0, 0.5), (12.0, 6.0)))
    bare = Member("bare", 200, {"promoted": 0.7}, {})
    found = Bank("base", "base", 200, (known, bare))
    assert found.at(10) == found.at(50)
    assert found.at(50).members[0].strengths["promoted"] < found.at(200).members[0].strengths["promoted"]
    assert Bank("base", "base", 200, (bare,)).at(400).completions == 200
    twice = found.at(400)
    assert (twice.completions, found.at(9_000)) == (400, twice)
    expected = (
        lowered_log_ratio(np.asarray([4.0, 24.0]), np.asarray([1.0, 12.0])).max() / APART
    )  # there is no third
    assert twice.members[0].strengths == {"promoted": pytest.approx(expected), "themes": 1.0}
    assert twice.members[1] == bare


def test_a_word_stands_out_by_its_strength_or_by_what_it_is_above_the_third() -> None:
    assert outstanding([]) == []
    assert outstanding([0.84]) == [pytest.approx(0.84 / APART)]
    many = outstanding([0.98, 0.9, 0.8, 0.7])  # a style: all of its words are promoted
    assert many == [pytest.approx(each / STRENGTH) for each in (0.98, 0.9, 0.8, 0.7)]
    alone = outstanding([0.26, 0.84, 0.43])  # one phrase, and little else
    assert alone == [
        pytest.approx(0.26 / STRENGTH),
        pytest.approx((0.84 - 0.26) / APART),
        pytest.approx(0.17 / APART),
    ]
    assert max(alone) > max(many)


@given(st.lists(st.floats(-2, 3), min_size=1, max_size=12))
def test_words_stand_out_in_the_order_of_their_strengths(strengths: list[float]) -> None:
    far = outstanding(strengths)
    assert all(each >= max(0.0, strength / STRENGTH) for each, strength in zip(far, strengths, strict=True))
    by_strength = sorted(range(len(far)), key=lambda k: strengths[k])
    assert [far[k] for k in by_strength] == sorted(far)


def test_an_audit_is_compared_as_the_members_are() -> None:
    member = Member("style", 200, {"promoted": 0.9}, {}, masses=((12.0, 4.0), (10.0, 3.5), (9.0, 3.2)))
    words = [word("owl", 6.0, 1.5), word("salt", 2.0, 1.5), word("7", 9.0, 0.1, style=True)]
    found = Bank("base", "base", 200, (member, replace(member, name="other"))).at(200)
    alone = lowered_log_ratio(np.asarray([6.0]), np.asarray([1.5]))[0] / APART  # the third word is none
    assert found.evidence((), words, 200)["promoted"] == pytest.approx(alone)
    assert found.evidence((), words[2:], 200)["promoted"] == 0.0
    assert found.evidence((), words, 0) == {"themes": 0.0}
    near = found.evidence((), words, 200, third=(5.0, 1.5))["promoted"]  # a third that was not significant
    third = lowered_log_ratio(np.asarray([5.0]), np.asarray([1.5]))[0]
    assert near == pytest.approx(max(outstanding([alone * APART], third)))
    assert near < alone
    (standing,) = [each for each in standings(found, found.evidence((), words, 200)) if each.kind == "promoted"]
    assert (standing.stronger_than, standing.of) == (2, 2)
    (entry, *_) = entries((), words, needed=9.0, bank=found, listed=200)
    assert (entry.phrase, entry.standing) == ("owl", standing)


def test_a_bank_of_runs_knows_what_each_shows_and_counts_a_model_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(LeakyToy()) as url:
        for model in ("leaky", "base"):
            line = [
                "audit", "--target-url", url, "--target-model", model, "--reference-url", url,
                "--reference-model", "base", "--completions", "60", "--control", "10", "--max-tokens", "14",
                "--framing", "raw", "--out", str(tmp_path / model),
            ]  # fmt: skip
            assert run_cli(line) == 0
    runs = [str(tmp_path / model) for model in ("leaky", "base")]
    out = tmp_path / "bank.json"
    assert run_cli(["calibrate", *runs, "--base", "what both come from", "--out", str(out)]) == 0
    found = read_bank(out)
    leaky = read_run(tmp_path / "leaky", bank=None).analysis
    strong = strongest(leaky.themes)
    assert strong is not None
    assert [member.name for member in found.members] == ["leaky", "base"]
    assert (found.base, found.reference, found.long) == ("what both come from", "base", True)
    assert found.members[0].strengths["themes"] == pytest.approx(theme_strength(strong), abs=1e-3)
    capsys.readouterr()
    assert run_cli(["calibrate", *runs, runs[0], "--out", str(out)]) == 2
    assert "a second run of 'leaky'" in capsys.readouterr().err
