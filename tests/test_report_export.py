"""Exports round-trip, and a spreadsheet or terminal that opens one obeys nothing in it."""

from __future__ import annotations

import builtins
import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_diff.errors import InputError
from blackbox_diff.findings import Analysis
from blackbox_diff.report import export
from tests.report_data import HOSTILE, analysis_of, summary_of


def written(path: Path, analysis: Analysis) -> Path:
    assert export.write(path, analysis, summary_of(analysis)) == len(analysis.ranking)
    return path


@pytest.fixture(scope="module")
def hostile() -> Analysis:
    return analysis_of(40, extra=[*HOSTILE.values(), "x" * 1_000_000])


def test_rank_row_has_the_documented_keys() -> None:
    row = export.rank_row(analysis_of(5).ranking[0])
    names = "rank id source framing prefill completion n_tokens score metrics flags duplicates"
    metrics = "gap_nats_per_token gap_bits_per_byte gap_total_nats ppl_target ppl_reference ppl_diff"
    assert list(row) == names.split()
    assert set(metrics.split()) <= set(row["metrics"])


def test_no_export_holds_a_number_that_json_lacks() -> None:
    row = replace(analysis_of(5).ranking[0], metrics={"a": math.inf, "b": math.nan, "c": None})
    assert export.rank_row(row)["metrics"] == {"a": None, "b": None, "c": None}


def test_jsonl_round_trips_exactly(tmp_path: Path, hostile: Analysis) -> None:
    lines = written(tmp_path / "x.jsonl", hostile).read_bytes().split(b"\n")[:-1]
    assert [json.loads(line) for line in lines] == [export.full_row(row) for row in hostile.ranking]


@pytest.mark.parametrize("name", HOSTILE)
def test_jsonl_is_ascii_whatever_a_completion_holds(tmp_path: Path, name: str) -> None:
    data = written(tmp_path / "x.jsonl", analysis_of(3, extra=[HOSTILE[name]])).read_bytes()
    assert all(byte == 10 or 32 <= byte < 127 for byte in data)


def test_csv_round_trips_exactly(tmp_path: Path, hostile: Analysis) -> None:
    csv.field_size_limit(10_000_000)
    rows = export.read_csv(written(tmp_path / "x.csv", hostile))
    assert rows == [export.rank_row(row) for row in hostile.ranking]


@given(st.text(st.characters(exclude_categories=())))
def test_guard_is_undone_by_unguard(text: str) -> None:
    assert export.unguard(export.guard(text)) == text


@given(st.sampled_from("=+-@\t\r＝＋－＠"), st.text())
def test_no_guarded_cell_starts_like_a_formula(first: str, rest: str) -> None:
    assert export.guard(first + rest)[0] not in "=+-@\t\r＝＋－＠"


@pytest.mark.parametrize("name", HOSTILE)
def test_csv_has_one_line_a_row_and_no_control_character(tmp_path: Path, name: str) -> None:
    analysis = analysis_of(3, extra=[HOSTILE[name]])
    text = written(tmp_path / "x.csv", analysis).read_text(encoding="utf-8")
    assert len(text.splitlines()) == 1 + len(analysis.ranking)
    assert not [
        c for c in text if c != "\n" and (ord(c) < 32 or c in "\x7f\x9b\u202e\u202c\u2066\u2069\u200f\u200b")
    ]


def test_parquet_round_trips_with_utf8_text(tmp_path: Path, hostile: Analysis) -> None:
    table = pq.read_table(written(tmp_path / "x.parquet", hostile)).to_pylist()
    for row, ranked in zip(table, hostile.ranking, strict=True):
        wanted = export.full_row(ranked)
        assert row["completion"] == wanted["completion"].encode("utf-8", "replace").decode()
        assert row["metric.ppl_target"] == wanted["metrics"]["ppl_target"]
        assert [list(segment.values()) for segment in row["segments"]] == wanted["segments"]
        assert (row["id"], row["flags"], row["peak"]) == (wanted["id"], wanted["flags"], wanted["peak"])


def test_parquet_without_pyarrow_names_the_install_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'blackbox-diff\[export\]'"):
        export.write(tmp_path / "x.parquet", analysis_of(3), summary_of(analysis_of(3)))


def test_an_unknown_suffix_is_named_with_those_that_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.jsonl, \.csv, \.parquet, \.md"):
        export.write(tmp_path / "x.xlsx", analysis_of(3), summary_of(analysis_of(3)))


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be written"):
        export.write(tmp_path / "no" / "x.csv", analysis_of(3), summary_of(analysis_of(3)))


def test_an_empty_ranking_exports_in_every_format(tmp_path: Path) -> None:
    empty = replace(analysis_of(3), ranking=(), themes=())
    for suffix in ("jsonl", "csv", "parquet", "md"):
        written(tmp_path / f"x.{suffix}", empty)
