"""Prefills: openings, sources and seeded sampling."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from blackbox_diff.errors import InputError
from blackbox_diff.prefills import BUILT_IN, draw, open_source, opening

ANY = st.text(alphabet=st.characters(codec="utf-8"), max_size=8)
WORD = st.sampled_from(["harbour", "don't", "über", "日本語話", "foo_bar", "x1", "(", "==", "the", "The"])
LINES = st.lists(st.lists(WORD | ANY, max_size=5).map(" ".join), max_size=3).map("\n".join)
WITH_OPENING = st.tuples(LINES, WORD.filter(opening)).map("\n".join)  # so that most examples say something


def write_lines(path: Path, n: int) -> Path:
    path.write_text("".join(f"word{chr(97 + i % 26)}{chr(97 + i // 26)} number {i}\n" for i in range(n)))
    return path


@given(WITH_OPENING)
def test_an_opening_begins_and_ends_with_no_white_space(text: str) -> None:
    start = opening(text)
    assert start
    assert start == start.strip()


@given(WITH_OPENING)
def test_an_opening_holds_a_word_of_three_letters(text: str) -> None:
    start = opening(text)
    assert start is not None
    assert re.search(r"[^\W\d_]{3}", start)


@given(WITH_OPENING)
def test_an_opening_begins_a_line_of_its_text(text: str) -> None:
    start = opening(text)
    assert start is not None
    assert any(line.strip().startswith(start) for line in text.splitlines())


@given(st.lists(st.sampled_from(["don't", "foo_bar", "well-known", "x1", "(", "==", "über", "cat"]), min_size=1))
def test_an_opening_never_breaks_a_word(words: list[str]) -> None:
    start = opening(" ".join(words))
    assume(start is not None)
    assert start.split(" ") == words[: len(start.split(" "))]


@given(WITH_OPENING)
def test_an_opening_is_its_own_opening(text: str) -> None:
    start = opening(text)
    assert start is not None
    assert opening(start) == start


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("She didn't know it yet", "She didn't know"),
        ("    def foo_bar(self, x):", "def foo_bar("),
        ("Dr. Who", "Dr. Who"),
        ("\n  \nSecond line counts", "Second line counts"),
        ("a-well-known-fact is told here", "a-well-known-fact is told"),
    ],
)
def test_an_opening_is_three_words_or_runs_of_punctuation(text: str, expected: str) -> None:
    assert opening(text) == expected


@pytest.mark.parametrize(
    "text", ["", "   ", "12 34 56", "x = y", "}))", "a" * 65, "cat\x1b[31m red", "dog\ud800s bark"]
)
def test_text_without_a_usable_opening_has_none(text: str) -> None:
    assert opening(text) is None


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_corpus_has_five_thousand_distinct_openings(name: str) -> None:
    assert len(set(draw(name, 5000, seed=0))) == 5000


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_line_of_a_built_in_corpus_is_an_opening(name: str) -> None:
    assert [line for line in open_source(name).texts() if opening(line) != line] == []


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_corpus_ships_with_its_licence_and_stays_small(name: str) -> None:
    corpora = Path(sys.modules["blackbox_diff.prefills"].__path__[0]) / "corpora"
    assert "LICENSE" in (corpora / f"{name}.LICENSE").read_text()
    assert (corpora / f"{name}.txt.gz").stat().st_size < 200_000


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(), k=st.integers(0, 50))
def test_a_longer_draw_only_appends(seed: int, k: int) -> None:
    assert draw("prose", 50, seed)[:k] == draw("prose", k, seed)


def test_another_seed_draws_other_prefills() -> None:
    assert set(draw("prose", 100, seed=1)) != set(draw("prose", 100, seed=2))


def test_a_draw_is_pinned_so_that_old_runs_can_be_resumed(tmp_path: Path) -> None:
    source = tmp_path / "lines.txt"
    source.write_text("alpha one\nbeta two\ngamma three\ndelta four\n")
    assert draw(str(source), 4, seed=7) == ["delta four", "gamma three", "alpha one", "beta two"]


def test_the_order_of_a_files_lines_does_not_matter(tmp_path: Path) -> None:
    lines = [f"item {word} here" for word in ("ant", "bee", "cow", "dog")]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    (tmp_path / "b.txt").write_text("\n".join(reversed(lines)))
    assert draw(str(tmp_path / "a.txt"), 4, 0) == draw(str(tmp_path / "b.txt"), 4, 0)


def test_repeated_openings_count_once(tmp_path: Path) -> None:
    source = tmp_path / "lines.txt"
    source.write_text("the same start of one\nthe same start of two\nsomething else entirely\n")
    assert sorted(draw(str(source), 2, 0)) == ["something else entirely", "the same start"]


def test_asking_for_more_than_a_source_holds_says_how_many_there_are(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "few.txt", 3)
    with pytest.raises(InputError, match="holds 3 distinct openings and 4 are asked for"):
        draw(str(source), 4, 0)


def test_a_file_may_be_named_with_or_without_its_prefix(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "lines.txt", 20)
    assert draw(f"file:{source}", 20, 3) == draw(str(source), 20, 3)


def test_a_byte_order_mark_is_not_part_of_an_opening(tmp_path: Path) -> None:
    source = tmp_path / "bom.txt"
    source.write_bytes(b"\xef\xbb\xbfhello there friend\n")
    assert draw(str(source), 1, 0) == ["hello there friend"]


def test_jsonl_gives_the_field_text_unless_another_is_named(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps({"text": "hello old friend", "body": "goodbye new world"}) + "\n\n")
    assert draw(f"file:{source}", 1, 0) == ["hello old friend"]
    assert draw(f"file:{source}:body", 1, 0) == ["goodbye new world"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"fine line\n\xff\xfe\n", "a.txt: line 2: not UTF-8"),
        ("a.jsonl", b'{"text": "fine line"}\n{"text":\n', "a.jsonl: line 2: not JSON"),
        ("a.jsonl", b'{"body": "no text"}\n', "a.jsonl: line 1: no text in field 'text'"),
        ("a.jsonl", b'{"text": 3}\n', "a.jsonl: line 1: no text in field 'text'"),
        ("a.jsonl", b"[1, 2]\n", "a.jsonl: line 1: no text in field 'text'"),
        ("a.jsonl", b'{"text": ' + b"9" * 5000 + b"}\n", "a.jsonl: line 1: not JSON"),
        ("a.jsonl", b"[" * 200_000 + b"\n", "a.jsonl: line 1: not JSON"),
    ],
)
def test_a_bad_file_is_reported_with_its_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    source = tmp_path / name
    source.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        draw(str(source), 1, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("verse", "unknown source 'verse'"),
        ("file:missing.txt", "missing.txt: no such file"),
        ("missing/file.txt", "missing/file.txt: no such file"),
        ("", "unknown source ''"),
        ("hf:", "give hf:DATASET"),
        ("hf:./nowhere", "no such directory"),
    ],
)
def test_a_source_that_is_not_there_is_refused_before_anything_is_drawn(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        open_source(spec)


def test_a_directory_is_not_a_text_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        open_source(str(tmp_path))


def test_a_field_of_a_plain_text_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="field 'body' is for JSONL"):
        open_source(f"file:{write_lines(tmp_path / 'a.txt', 1)}:body")


def saved_dataset(directory: Path) -> Path:
    datasets = pytest.importorskip("datasets", reason="the optional extra 'datasets' is not installed")
    rows = {"text": ["first row of text", "second row of text"], "title": ["one fine title", "two fine titles"]}
    datasets.Dataset.from_dict({**rows, "size": [1, 2]}).save_to_disk(directory)
    return directory


def test_a_saved_dataset_gives_its_column_text_unless_another_is_named(tmp_path: Path) -> None:
    source = saved_dataset(tmp_path / "saved")
    assert sorted(draw(f"hf:{source}", 2, 0)) == ["first row of", "second row of"]
    assert sorted(draw(f"hf:{source}:title", 2, 0)) == ["one fine title", "two fine titles"]


def test_a_dataset_directory_of_data_files_is_read_too(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the optional extra 'datasets' is not installed")
    (tmp_path / "train.jsonl").write_text('{"text": "hello old friend"}\n')
    assert draw(f"hf:{tmp_path}", 1, 0) == ["hello old friend"]


def test_a_dataset_with_splits_gives_its_train_split(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the optional extra 'datasets' is not installed")
    splits = {name: datasets.Dataset.from_dict({"text": [f"this is {name}"]}) for name in ("test", "train")}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "splits")
    assert draw(f"hf:{tmp_path / 'splits'}", 1, 0) == ["this is train"]


@pytest.mark.parametrize("column", ["missing", "size"])
def test_a_dataset_without_such_a_text_column_lists_its_columns(tmp_path: Path, column: str) -> None:
    source = saved_dataset(tmp_path / "saved")
    with pytest.raises(InputError, match=rf"no text in column '{column}': name one of text, title, size"):
        draw(f"hf:{source}:{column}", 1, 0)


def test_a_missing_extra_is_answered_with_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=re.escape("pip install 'blackbox-diff[datasets]'")):
        open_source("hf:some/dataset")
