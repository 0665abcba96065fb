"""Where openings come from. A source gives texts; the opening of each is taken elsewhere."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from blackbox_diff.errors import InputError
from blackbox_diff.prefills.huggingface import open_dataset

BUILT_IN = ("prose", "code")
_JSON_LINES = (".jsonl", ".ndjson")
_DEFAULT_FIELD = "text"


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
    raise InputError(f"unknown source '{spec}': give prose, code, file:PATH[:FIELD] or hf:DATASET[:COLUMN]")


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
    is_json = path.suffix.lower() in _JSON_LINES
    if field != _DEFAULT_FIELD and not is_json:
        raise InputError(f"{path}: field '{field}' is for JSONL files (.jsonl), and this is read as plain text")
    return Source(spec, (lambda: _json_lines(path, field)) if is_json else (lambda: _lines(path)))


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                try:
                    yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise InputError(f"{path}: line {number}: not UTF-8: convert the file first") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


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
        value = record.get(field) if isinstance(record, dict) else None
        if not isinstance(value, str):
            raise InputError(f"{path}: line {number}: no text in field '{field}': name one with file:{path}:FIELD")
        yield value
