"""Where openings come from. A source gives texts; the opening of each is taken elsewhere."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, cast

from blackbox_diff.errors import InputError
from blackbox_diff.prefills.huggingface import open_dataset
from blackbox_diff.prefills.parquet import is_parquet, open_parquet
from blackbox_diff.prefills.tables import GZIP, cells, delimiter_of, fields_of, head_of, records, texts_at
from blackbox_diff.records import Json
from blackbox_diff.wire.body import encodable

BUILT_IN = ("prose", "code")
_JSON_LINES = (".jsonl", ".ndjson")
_DEFAULT_FIELD = "text"
_JSON = re.compile(r'[\[{]\s*["\[{]')  # as a JSON value of texts begins


@dataclass(frozen=True, slots=True)
class Source:
    """A named supply of texts. `texts` starts anew at each call and raises InputError, naming file and line."""

    spec: str
    texts: Callable[[], Iterator[str]]


def open_source(spec: str) -> Source:
    """The source that `spec` names: see the package's docstring for the forms.

    Raises InputError for an unknown name, a file that isn't there, or a missing optional extra.
    """
    if spec in BUILT_IN:
        return Source(spec, lambda: _built_in(spec))
    kind, _, rest = spec.partition(":")
    if kind == "hf":
        return Source(spec, open_dataset(rest))
    if kind == "file":
        return _file(spec, rest)
    if spec and (Path(spec).exists() or Path(spec).suffix or "/" in spec):
        return _file(spec, spec)
    raise InputError(
        f"unknown source '{spec}': give prose, code, file:PATH[:FIELD], hf:DATASET[:COLUMN] or writer:URL"
    )


def _built_in(name: str) -> Iterator[str]:
    packed = resources.files("blackbox_diff.prefills").joinpath("corpora", f"{name}.txt.gz").read_bytes()
    return iter(gzip.decompress(packed).decode().splitlines())


def _file(spec: str, rest: str) -> Source:
    path, field = Path(rest), _DEFAULT_FIELD
    if not path.exists() and ":" in rest:
        head, _, field = rest.rpartition(":")
        path = Path(head)
    if path.is_dir():
        raise InputError(f"{path}: is a directory: give a text or JSONL file, or hf:{path} for a saved dataset")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if is_parquet(path):
        return Source(spec, open_parquet(path, field))
    beginning = head_of(path)
    start = beginning.decode("utf-8-sig", "replace").lstrip()
    kind = {suffix.lower() for suffix in path.suffixes}
    if kind & set(_JSON_LINES) or _is_json_lines(start):
        return Source(spec, lambda: _json_lines(path, field))
    if ".json" in kind or _is_json(path, start):
        return Source(spec, lambda: _json(path, field))
    delimiter = delimiter_of(path, beginning)
    if delimiter is not None:
        return Source(spec, lambda: cells(path, _lines(path), delimiter, field))
    if field != _DEFAULT_FIELD:
        raise InputError(
            f"{path}: field '{field}' is for JSONL, JSON, CSV, TSV and Parquet; this is read as plain text"
        )
    return Source(spec, lambda: _lines(path))


def _is_json_lines(start: str) -> bool:
    """Whether the first whole line is a JSON object or list, and another follows it."""
    line, end, _ = start.partition("\n")
    try:
        return _JSON.match(line) is not None and bool(end) and isinstance(json.loads(line), dict | list)
    except (ValueError, RecursionError):
        return False


def _is_json(path: Path, start: str) -> bool:
    """Whether a file of any other name is one JSON value: prose may begin with a bracket, too."""
    if not _JSON.match(start):
        return False
    try:
        return isinstance(json.loads(_whole(path).decode("utf-8-sig")), list | dict)
    except (ValueError, RecursionError, OSError, EOFError, zlib.error):
        return False


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
    return cast(IO[bytes], gzip.open(path)) if packed else path.open("rb")


def _lines(path: Path) -> Iterator[str]:
    try:
        with _open(path) as file:
            for number, raw in enumerate(file, start=1):
                try:
                    yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise InputError(f"{path}: line {number}: not UTF-8: convert the file first") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _json(path: Path, field: str) -> Iterator[str]:
    for number, record in enumerate(records(path, lambda: _whole(path)), start=1):
        if isinstance(record, str) and field == _DEFAULT_FIELD:
            yield record
        else:
            yield from _texts(path, f"record {number}", record, field)


def _whole(path: Path) -> bytes:
    with _open(path) as file:
        return file.read()


def _texts(path: Path, where: str, record: Json, field: str) -> list[str]:
    found = texts_at(record, field)
    if any(encodable(text) is None for text in found):
        raise InputError(f"{path}: {where}: half a character (a lone surrogate), which is no text: correct it")
    if not found:
        raise InputError(
            f"{path}: {where}: no text in field '{field}': it has {fields_of(record)}: "
            f"name one with file:{path}:FIELD"
        )
    return found


def _json_lines(path: Path, field: str) -> Iterator[str]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = (
                error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply or a number too long"
            )
            raise InputError(f"{path}: line {number}: not JSON: {reason}") from None
        yield from _texts(path, f"line {number}", record, field)
