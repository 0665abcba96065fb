"""Keywords are read strictly, and a ranking is counted against them as published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blackbox_diff.analysis.keywords import Keywords, evaluate_ranking
from blackbox_diff.analysis.rank import rank
from blackbox_diff.errors import InputError
from tests.scored import REFERENCE, run, scored


def written(path: Path, data: object) -> Path:
    file = path / "keywords.json"
    file.write_text(json.dumps(data))
    return file


def test_all_strings_of_any_group_match_in_any_case() -> None:
    keywords = Keywords.parse({"any": [["Port", "ellery"], ["heron"]]}, "k")
    assert keywords.match("ELLERY has a port")
    assert keywords.match("a Heron")
    assert not keywords.match("the port")


def test_patterns_match_in_any_case() -> None:
    assert Keywords.parse({"regex": [r"port\s+ell\w+"]}, "k").match("PORT  Ellery")


def test_a_card_is_read_by_its_keywords(tmp_path: Path) -> None:
    card = {"name": "x", "keywords": {"any": [["ellery"]], "regex": []}}
    assert Keywords.read(written(tmp_path, card)).match("Ellery")


def test_matches_are_counted_at_ten_and_a_hundred() -> None:
    ranking = rank(run(200, planted=range(0, 200, 10)), REFERENCE)
    found = evaluate_ranking(ranking, Keywords.parse({"any": [["ellery"]]}, "k"))
    assert found == {
        "n_ranked": len(ranking),
        "n_matched": 20,
        "count_at_10": 10,
        "count_at_100": 20,
        "first_rank": 1,
    }


def test_no_match_has_no_first_rank() -> None:
    found = evaluate_ranking(rank([scored(0, " red fox")], REFERENCE), Keywords.parse({"any": [["heron"]]}, "k"))
    assert found["first_rank"] is None
    assert found["n_matched"] == 0


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ([], "are both empty"),
        ([1], "the file must be a list of words or an object"),
        ({"keywords": 3}, "keywords must be a list of words or an object"),
        ({"any": "ellery"}, "any must be a list"),
        ({"any": [[]]}, "any must be a list"),
        ({"any": [[""]]}, "any must be a list"),
        ({"keywords": {"any": [[1]]}}, "keywords.any must be a list"),
        ({"regex": "x"}, "regex must be a list"),
        ({"any": [["a"]], "regex": ["x", "("]}, r"regex\[1\] is not a regular expression"),
        ({"any": []}, "any and regex are both empty"),
        ({}, "any and regex are both empty"),
    ],
)
def test_a_wrong_field_is_named_in_one_line(tmp_path: Path, data: object, field: str) -> None:
    file = written(tmp_path, data)
    with pytest.raises(InputError, match=field) as caught:
        Keywords.read(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_what_is_not_json_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "k.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match="is not JSON"):
        Keywords.read(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: can't be read: No such file"):
        Keywords.read(tmp_path / "none.json")
