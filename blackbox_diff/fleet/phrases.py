"""A run's phrases as Parquet, beside its run file: what a fleet's audits are compared by. docs/exports.md has the
columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from blackbox_diff.analysis.counts import phrase_counts
from blackbox_diff.errors import InputError
from blackbox_diff.run.results import Results

PHRASES = "phrases.parquet"
GROUP = 8192  # rows that are read or passed over together; rows are in order of their keys
EXTRA = "pip install 'blackbox-diff[export]'"


def write_phrases(results: Results, audit: str, run: Path) -> bool:
    """Write the phrases of one audit into its directory; False where pyarrow is not installed.

    Raises InputError where the file can't be written.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return False
    counts = phrase_counts(results.analysis)
    rows = sorted(counts.rows, key=lambda row: (row.key, row.arm))
    constant = {"audit": audit, "target": results.summary.target, "design": design(results)}
    columns: dict[str, Any] = {
        **{name: pa.array([_plain(value)] * len(rows), pa.string()) for name, value in constant.items()},
        "arm": pa.array([row.arm for row in rows], pa.string()),
        "key": pa.array([row.key for row in rows], pa.int64()),
        "phrase": pa.array([_plain(row.phrase) for row in rows], pa.string()),
        "prefills": pa.array([row.prefills for row in rows], pa.int32()),
        "of": pa.array([counts.sizes[row.arm] for row in rows], pa.int32()),
        "kind": pa.array([row.kind for row in rows], pa.string()),
        "gap": pa.array([row.gap for row in rows], pa.float64()),
    }
    try:
        pq.write_table(pa.table(columns), run / PHRASES, compression="zstd", row_group_size=GROUP)
    except OSError as error:
        raise InputError(f"{run / PHRASES}: can't be written: {error.strerror or error}") from None
    return True


def design(results: Results) -> str:
    """What audits must have in common for their counts to be compared: their reference and what was sampled."""
    settings = results.summary.settings
    return (
        f"{results.analysis.reference}, {settings['max_tokens']} tokens at temperature {settings['temperature']:g}"
    )


def _plain(text: str) -> str:
    """Arrow strings are UTF-8, which has no lone surrogates."""
    return text.encode("utf-8", "replace").decode()
