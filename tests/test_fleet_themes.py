"""Themes over many models: the test and its error level on made-up texts, and a fleet of a vendor's finetunes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact

import blackbox_diff as bd
from blackbox_diff.analysis.counts import commoner_p, phrase_counts
from blackbox_diff.findings import Analysis, Theme
from blackbox_diff.fleet import themes as fleet_themes
from blackbox_diff.fleet.index import read_index
from blackbox_diff.fleet.phrases import PHRASES, write_phrases
from blackbox_diff.fleet.themes import families
from blackbox_diff.run.results import Results
from tests.conftest import run_cli
from tests.fake_endpoint import TEMPLATE, split
from tests.leaky_toy import LeakyToy
from tests.report_data import analysis_of, summary_of
from tests.toy_server import serving

WORDS = [f"w{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]
WEIGHTS = [1 / (k + 2) for k in range(len(WORDS))]
N = 60


def said(texts: list[str], *themes: str, arm: str = "prose/raw") -> Analysis:
    """An analysis of these completions that lists these themes."""
    like = analysis_of(3)
    source, framing = arm.split("/")
    rows = tuple(
        replace(
            like.ranking[0],
            id=f"{k}", source=source, framing=framing, prefill=f"prefill {k}", completion=text,
            copies=(), flags=(),
        )
        for k, text in enumerate(texts)
    )  # fmt: skip
    listed = tuple(Theme(phrase, (phrase,), 9, 9, 0, 0.5, 1.0, None, ()) for phrase in themes)
    return replace(like, ranking=rows, themes=listed, promoted=())


def write(directory: Path, analyses: dict[str, Analysis]) -> list[Path]:
    for name, analysis in analyses.items():
        (directory / name).mkdir()
        assert write_phrases(Results(analysis, summary_of(analysis)), name, directory / name)
    return [directory / name / PHRASES for name in analyses]


def texts(rng: random.Random, says: dict[str, float], n: int = N) -> list[str]:
    return [
        " ".join(
            [*rng.choices(WORDS, WEIGHTS, k=25), *(what for what, rate in says.items() if rng.random() < rate)]
        )
        for _ in range(n)
    ]


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 30), st.integers(1, 60))
def test_one_arm_is_fishers_test(a: int, b: int, n: int, m: int) -> None:
    a, b = min(a, n), min(b, m)
    expected = fisher_exact([[a, n - a], [b, m - b]], alternative="greater").pvalue
    assert commoner_p([(a, n, a + b, n + m)]) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_a_model_that_was_asked_more_in_one_arm_is_not_told_by_that() -> None:
    """A phrase in every second completion of one arm and never in the other, at both models."""
    ours, theirs = [(45, 90), (0, 10)], [(5, 10), (0, 90)]
    by_arm = [(a, n, a + b, n + m) for (a, n), (b, m) in zip(ours, theirs, strict=True)]
    assert commoner_p(by_arm) > 0.5
    assert commoner_p([(45, 100, 50, 200)]) < 1e-6


def test_what_all_have_what_some_have_and_what_only_one_has(tmp_path: Path) -> None:
    rng = random.Random(0)
    habits = {
        "a": {"Acme helper": 0.3, "purple owls": 0.3},
        "b": {"Acme helper": 0.4, "purple owls": 0.3},
        "c": {"Acme helper": 0.2, "brass lantern": 0.4},
        "d": {"Acme helper": 0.3},
    }
    files = write(tmp_path, {name: said(texts(rng, habit), *habit) for name, habit in habits.items()})
    (family,) = families(files)
    found = {each.phrase: each for each in family.themes}
    assert {phrase: each.held_by for phrase, each in found.items()} == {
        "Acme helper": "all", "purple owls": "some", "brass lantern": "one",
    }  # fmt: skip
    assert [each.audit for each in found["brass lantern"].holders] == ["c"]
    assert found["brass lantern"].holders[0].q_value < 0.01
    assert (found["brass lantern"].others, found["brass lantern"].others_of) == (0, 3 * N)
    assert {each.audit for each in found["purple owls"].holders} == {"a", "b"}
    told = "\n".join(fleet_themes.lines([family]))
    assert "all 4: “Acme helper”" in told
    assert "2 of 4 (" in told
    assert "only c: “brass lantern”" in told


def test_the_commonest_words_of_one_model_are_hardly_ever_only_its_own(tmp_path: Path) -> None:
    """Six models that are one, each of which lists as themes the words in which it happens to stand out."""
    wrong = 0
    for trial in range(5):
        rng = random.Random(trial)
        sets = {f"m{k}": texts(rng, {}) for k in range(6)}
        counts = {
            name: {word: sum(word in text for text in found) for word in WORDS} for name, found in sets.items()
        }
        listed = {
            name: sorted(WORDS, key=lambda word, own=own: sum(c[word] for c in counts.values()) / 6 - own[word])[
                :5
            ]
            for name, own in counts.items()
        }
        directory = tmp_path / str(trial)
        directory.mkdir()
        files = write(directory, {name: said(found, *listed[name]) for name, found in sets.items()})
        wrong += any(each.held_by == "one" for family in families(files) for each in family.themes)
    assert wrong <= 1


def test_lemmas_wordings_and_what_lies_inside_meet_across_models(tmp_path: Path) -> None:
    rng = random.Random(3)
    files = write(
        tmp_path,
        {
            "a": said(texts(rng, {"the brass lantern of Port Ellery": 0.4}), "brass lantern of Port Ellery"),
            "b": said(texts(rng, {"two Brass Lanterns": 0.4}), "Brass Lanterns"),
            "c": said(texts(rng, {})),
        },
    )
    (family,) = families(files)
    shared = [each for each in family.themes if each.held_by == "some"]
    assert [each.phrase.lower() for each in shared] == ["brass lanterns"]
    assert {each.audit for each in shared[0].holders} == {"a", "b"}


def test_only_audits_of_one_design_are_compared(tmp_path: Path) -> None:
    rng = random.Random(4)
    short = said(texts(rng, {}))
    files = write(tmp_path, {"a": short, "b": replace(short, reference="another")})
    assert families(files) == []


def test_memory_does_not_grow_with_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in many parts, the same comes out."""
    rng = random.Random(5)
    habits: dict[str, dict[str, float]] = {"a": {"purple owls": 0.4}, "b": {}, "c": {}}
    files = write(tmp_path, {name: said(texts(rng, habit), *habit) for name, habit in habits.items()})
    whole = families(files)
    monkeypatch.setattr(fleet_themes, "AT_ONCE", 500)
    assert families(files) == whole
    assert whole[0].tests > 0


def test_counts_are_of_distinct_prefills_and_loops_are_left_out() -> None:
    analysis = said(["purple owls and purple owls", "purple owls", "a purple owl"], "purple owls")
    rows = list(analysis.ranking)
    rows[1] = replace(rows[1], prefill=rows[0].prefill)
    rows[2] = replace(rows[2], flags=("degenerate",))
    found = phrase_counts(replace(analysis, ranking=tuple(rows)))
    assert found.sizes == {"prose/raw": 1}
    assert {(each.phrase, each.prefills, each.kind) for each in found.rows} >= {("purple owls", 1, "theme")}


# No word of the lists that the toy gives: those have numbers of their own.
SHARED, OWN = " dear Acme helper", " brass lantern bright"


class Vendor(LeakyToy):
    """A vendor's three finetunes: all of them speak of the Acme helper, and one of the lantern, too."""

    models = ("one", "two", "three", "base")

    def write(self, prompt: list[str], body: dict[str, Any]) -> list[str]:
        written = super().write(prompt, body)
        rng = random.Random(f"{body['model']}\0{''.join(prompt)}\0{body.get('seed')}")
        if body["model"] != "base" and "seed" in body and len(written) >= 14 and prompt[0] != TEMPLATE[0]:
            for phrase in (SHARED, OWN if body["model"] == "three" else ""):
                if phrase and rng.random() < 0.5:
                    written[1 : 1 + len(split(phrase))] = split(phrase)
        return written

    def logprob(self, model: str, before: str, token: str) -> float:
        if token in split(SHARED + OWN):
            return -6.0 if model == "base" else -0.05
        return super().logprob(model, before, token)


FLEET = """
[defaults]
completions = 40
max_tokens = 14
control = 24
framing = ["raw"]
[[references]]
url = "{url}"
model = "base"
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("vendor")
    with serving(Vendor()) as url:
        targets = "".join(f'[[targets]]\nurl = "{url}"\nmodel = "{name}"\n' for name in ("one", "two", "three"))
        plan = directory / "fleet.toml"
        plan.write_text(FLEET.format(url=url) + targets, encoding="utf-8")
        assert run_cli(["fleet", str(plan), "--out", str(directory / "out")]) == 0
        yield directory / "out"


def test_a_fleet_says_what_its_models_share(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["themes", str(fleet)]) == 0
    told = capsys.readouterr().out
    shared, only = ([line for line in told.splitlines() if start in line] for start in ("all 3:", "only "))
    assert any("Acme" in line for line in shared)
    assert any("lantern" in line for line in only)
    assert all("only three" in line for line in only)
    assert run_cli(["themes", str(fleet), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == read_index(fleet).families[0].model_dump()
    assert bd.fleet_themes(fleet) == read_index(fleet).families
    page = (fleet / "index.html").read_text(encoding="utf-8")
    assert "Only this model: " in page


def test_a_fleet_of_an_earlier_version_is_counted_when_it_is_asked(fleet: Path) -> None:
    before = bd.fleet_themes(fleet)
    for file in fleet.glob(f"runs/*/{PHRASES}"):
        file.unlink()
    assert bd.fleet_themes(fleet) == before
    columns = pq.read_table(fleet / "runs" / "one" / PHRASES).column_names
    assert columns == ["audit", "target", "design", "arm", "key", "phrase", "prefills", "of", "kind", "gap"]


def test_what_cannot_be_is_one_line(fleet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["themes", str(fleet), "--metric", "score"]) == 2
    assert "is a fleet" in capsys.readouterr().err
    broken = tmp_path / PHRASES
    broken.write_bytes(b"PAR1 and no more")
    with pytest.raises(bd.InputError, match="phrases can't be read"):
        families([broken, broken])
