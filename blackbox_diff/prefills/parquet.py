"""Texts out of a Parquet file, by column, read in batches. Needs pyarrow, which the extra `export` brings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from blackbox_diff.errors import InputError
from blackbox_diff.prefills.tables import texts_at

MARK = b"PAR1"
BATCH = 1024  # rows in memory at a time


def is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MARK)) == MARK


def open_parquet(path: Path, field: str) -> Callable[[], Iterator[str]]:
    """What reads the texts of a column (`a.b` is b in a; every element's of a list; a message's content).

    Raises InputError for a file that is broken, a column that is not there, or a missing pyarrow.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError(
            f"{path}: is a Parquet file, which needs pyarrow: pip install 'blackbox-diff[export]'"
        ) from None
    try:
        names = list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: no Parquet: {' '.join(str(error).split())[:200]}") from None
    column = field if field in names else field.partition(".")[0]
    if column not in names:
        example = next((name for name in names if name.lower() not in ("", "id", "index")), "COLUMN")
        shown = ", ".join(names[:20]) or "none"
        raise InputError(f"{path}: a Parquet file with columns {shown}: give file:{path}:{example}")

    def texts() -> Iterator[str]:
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(BATCH, columns=[column]):
                    yield from _texts(path, batch.to_pylist(), field)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: no Parquet: {' '.join(str(error).split())[:200]}") from None

    return texts


def _texts(path: Path, rows: list[dict[str, Any]], field: str) -> Iterator[str]:
    for row in rows:
        found = texts_at(row, field)
        if not found and any(value is not None for value in row.values()):
            raise InputError(f"{path}: no text in column '{field}': give one of text with file:{path}:COLUMN")
        yield from found
