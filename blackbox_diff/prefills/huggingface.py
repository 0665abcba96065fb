"""Texts of a Hugging Face dataset, through the optional `datasets` package."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from blackbox_diff.errors import InputError

MAX_EXAMPLES = 20_000  # of a dataset; web corpora hold billions, and are streamed
_SAVED = ("dataset_info.json", "dataset_dict.json")  # what save_to_disk leaves behind


def open_dataset(spec: str) -> Callable[[], Iterator[str]]:
    """A supply of the texts of `ID_OR_DIR[:COLUMN]` (column `text`; split `train`, or the first one).

    At most the first 20,000 examples are read. Raises InputError here when the package is missing, and
    while reading when there is no such dataset or column.
    """
    name, column = spec, "text"
    if not Path(spec).exists() and ":" in spec:
        name, _, column = spec.rpartition(":")
    if not name or not column:
        raise InputError(f"source 'hf:{spec}': give hf:DATASET or hf:DATASET:COLUMN")
    if name.startswith((".", "/", "~")) and not Path(name).is_dir():
        raise InputError(f"dataset '{name}': no such directory")
    try:
        import datasets
    except ImportError:
        raise InputError(
            f"source 'hf:{spec}' needs the datasets package: pip install 'blackbox-diff[datasets]'"
        ) from None
    # It reports each try to reach the hub; the one line that says why it failed is ours.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return lambda: _texts(datasets, name, column)


def _texts(datasets: Any, name: str, column: str) -> Iterator[str]:
    rows = _rows(datasets, name)
    try:
        for number, row in enumerate(islice(rows, MAX_EXAMPLES), start=1):
            value = row.get(column)
            if not isinstance(value, str):
                columns = ", ".join(map(str, row))
                raise InputError(
                    f"dataset '{name}': example {number}: no text in column '{column}':"
                    f" name one of {columns} with hf:{name}:COLUMN"
                )
            yield value
    except InputError:
        raise
    except Exception as error:
        raise _unreadable(name, error) from None


def _rows(datasets: Any, name: str) -> Any:
    path = Path(name)
    try:
        if any((path / marker).is_file() for marker in _SAVED):
            loaded = datasets.load_from_disk(os.fspath(path))
        else:
            loaded = datasets.load_dataset(name, streaming=True)
    except Exception as error:
        raise _unreadable(name, error) from None
    if not isinstance(loaded, dict):
        return loaded
    return loaded["train"] if "train" in loaded else next(iter(loaded.values()))


def _unreadable(name: str, error: Exception) -> InputError:
    # The hub client raises errors of many libraries; what a user can act on is in the first line.
    reason = (str(error) or type(error).__name__).strip().splitlines()[0]
    return InputError(f"dataset '{name}': can't be read: {reason[:300]}")
