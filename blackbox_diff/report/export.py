"""The ranking as data: rows for JSON lines, CSV and Parquet. docs/exports.md documents the columns."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from blackbox_diff.errors import InputError
from blackbox_diff.findings import Analysis, Ranked, RunSummary
from blackbox_diff.report import markdown
from blackbox_diff.sanitize import finite

TEXT_COLUMNS = ("id", "source", "framing", "prefill", "completion", "flags", "duplicates")
METRIC = "metric."
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "'")
_ESCAPED = re.compile(
    r"[\\\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_ESCAPE = re.compile(r"\\(?:\\|u([0-9a-f]{4}))")


def rank_row(ranked: Ranked) -> dict[str, Any]:
    """One completion as the object that `rank --json` prints."""
    return {
        "rank": ranked.rank,
        "id": ranked.id,
        "source": ranked.source,
        "framing": ranked.framing,
        "prefill": ranked.prefill,
        "completion": ranked.completion,
        "n_tokens": ranked.n_tokens,
        "score": finite(ranked.metrics.get("score")),
        "metrics": {name: finite(value) for name, value in ranked.metrics.items()},
        "flags": list(ranked.flags),
        "duplicates": list(ranked.duplicates),
    }


def full_row(ranked: Ranked) -> dict[str, Any]:
    """rank_row with the evidence: `peak` [start, end] and `segments` [start, end, target, reference]."""
    return {
        **rank_row(ranked),
        "peak": [ranked.peak.start, ranked.peak.end] if ranked.peak else None,
        "segments": [[s.start, s.end, finite(s.target), finite(s.reference)] for s in ranked.segments],
    }


def write(path: Path, analysis: Analysis, summary: RunSummary) -> int:
    """Write the ranking to `path` in the format of its suffix; returns the number of rows.

    Raises InputError for another suffix, a missing pyarrow, or a `path` that can't be written.
    """
    writers: dict[str, Callable[[Path, Analysis, RunSummary], None]] = {
        ".jsonl": lambda path, analysis, _: _write_jsonl(path, analysis.ranking),
        ".csv": lambda path, analysis, _: _write_csv(path, analysis.ranking),
        ".parquet": lambda path, analysis, _: _write_parquet(path, analysis.ranking),
        ".md": lambda path, analysis, summary: _write_text(path, markdown.render(analysis, summary)),
    }
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise InputError(f"{path}: can't tell the format: end the name with {', '.join(writers)} or .eval")
    try:
        writer(path, analysis, summary)
    except OSError as error:
        raise InputError(f"{path}: can't be written: {error.strerror or error}") from None
    return len(analysis.ranking)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _write_jsonl(path: Path, ranking: Iterable[Ranked]) -> None:
    with path.open("w", encoding="ascii", newline="\n") as file:
        for ranked in ranking:
            file.write(json.dumps(full_row(ranked), ensure_ascii=True, allow_nan=False) + "\n")


def metric_names(ranking: Iterable[Ranked]) -> list[str]:
    """Every metric that a row has, in order of first appearance."""
    return list(dict.fromkeys(name for ranked in ranking for name in ranked.metrics))


def _write_csv(path: Path, ranking: Sequence[Ranked]) -> None:
    names = metric_names(ranking)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(["rank", *TEXT_COLUMNS, "n_tokens", "score", *(METRIC + name for name in names)])
        for ranked in ranking:
            row = rank_row(ranked)
            texts = [row[name] if isinstance(row[name], str) else " ".join(row[name]) for name in TEXT_COLUMNS]
            metrics = [row["metrics"].get(name) for name in names]
            writer.writerow([row["rank"], *map(guard, texts), row["n_tokens"], row["score"], *metrics])


def guard(text: str) -> str:
    """A CSV cell that no spreadsheet runs and no terminal obeys; `unguard` gives `text` back.

    Backslash, control, bidi and surrogate code points are written as \\\\ and \\uXXXX, so a row is one
    line. A cell that a spreadsheet could take for a formula gets a leading apostrophe.
    """
    escaped = _ESCAPED.sub(lambda m: "\\\\" if m.group() == "\\" else f"\\u{ord(m.group()):04x}", text)
    return "'" + escaped if escaped.startswith(_FORMULA) else escaped


def unguard(cell: str) -> str:
    """The text that `guard` made `cell` from."""
    bare = cell[1:] if cell.startswith("'") else cell
    return _ESCAPE.sub(lambda m: chr(int(m.group(1), 16)) if m.group(1) else "\\", bare)


def read_csv(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV export as rank_row gives them."""
    with path.open(encoding="utf-8", newline="") as file:
        return [_from_cells(cells) for cells in csv.DictReader(file)]


def _from_cells(cells: Mapping[str, str]) -> dict[str, Any]:
    texts = {name: unguard(cells[name]) for name in TEXT_COLUMNS}
    return {
        "rank": int(cells["rank"]),
        **texts,
        "flags": texts["flags"].split(),
        "duplicates": texts["duplicates"].split(),
        "n_tokens": int(cells["n_tokens"]),
        "score": float(cells["score"]),
        "metrics": {
            name.removeprefix(METRIC): float(value) if value else None
            for name, value in cells.items()
            if name.startswith(METRIC)
        },
    }


def _write_parquet(path: Path, ranking: Sequence[Ranked]) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError(f"{path}: Parquet needs pyarrow: pip install 'blackbox-diff[export]'") from None
    segment = pa.struct(
        [("start", pa.int64()), ("end", pa.int64()), ("target", pa.float64()), ("reference", pa.float64())]
    )
    names = metric_names(ranking)
    schema = pa.schema(
        [
            ("rank", pa.int64()),
            *((name, pa.string()) for name in ("id", "source", "framing", "prefill", "completion")),
            ("n_tokens", pa.int64()),
            ("score", pa.float64()),
            *((METRIC + name, pa.float64()) for name in names),
            ("flags", pa.list_(pa.string())),
            ("duplicates", pa.list_(pa.string())),
            ("peak", pa.list_(pa.int64())),
            ("segments", pa.list_(segment)),
        ]
    )
    pq.write_table(pa.Table.from_pylist([_parquet_row(ranked, names) for ranked in ranking], schema=schema), path)


def _parquet_row(ranked: Ranked, names: Sequence[str]) -> dict[str, Any]:
    row = full_row(ranked)
    metrics = row.pop("metrics")
    row["segments"] = [dict(zip(("start", "end", "target", "reference"), s, strict=True)) for s in row["segments"]]
    for name in ("prefill", "completion"):  # Arrow strings are UTF-8, which has no lone surrogates
        row[name] = row[name].encode("utf-8", "replace").decode()
    return {**row, **{METRIC + name: metrics.get(name) for name in names}}
