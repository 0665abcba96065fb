"""Files that hold more than lines: which of their fields is text, by content and not by name alone."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from blackbox_diff.errors import InputError
from blackbox_diff.records import Json

HEAD = 65_536  # bytes that are looked at
LONGEST = 2**24  # characters of one cell
GZIP = b"\x1f\x8b"
FOREIGN = {
    b"ARROW1": "an Arrow file: save it as JSONL",
    b"PK\x03\x04": "a zip file or spreadsheet: unpack it, or save it as CSV",
    b"%PDF": "a PDF: save its text",
    b"SQLite format 3": "a database: export it as CSV",
    b"BZh": "packed with bzip2: unpack it",
    b"\xfd7zXZ": "packed with xz: unpack it",
    b"\x28\xb5\x2f\xfd": "packed with zstd: unpack it",
    b"\xff\xfe": "UTF-16: convert it to UTF-8",
    b"\xfe\xff": "UTF-16: convert it to UTF-8",
    b"PAR1": "a packed Parquet file: unpack it",
    b"Rar!": "a RAR archive: unpack it",
    b"{\\rtf": "rich text: save it as plain text",
    b"%!PS": "PostScript: save its text",
    b"version https://git-lfs": "a pointer of Git LFS, and not the file: run `git lfs pull`",
}
MARKUP = {"<!doctype": "a web page", "<html": "a web page", "<?xml": "XML"}  # as a file begins, in small letters
SETTINGS = {".yaml": "YAML", ".yml": "YAML", ".toml": "TOML"}
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_NAME = re.compile(r"[\w.#/-]+(?: [\w.#/-]+){0,2}")  # of a column
_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}


def head_of(path: Path) -> bytes:
    """The file's first bytes, unpacked. Raises InputError for what is no text, with what it is."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
        if head.startswith(GZIP):
            with gzip.open(path) as packed:
                head = packed.read(HEAD)
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from None
    for mark, what in FOREIGN.items():
        if head.startswith(mark):
            raise InputError(f"{path}: is {what}")
    start = head[:200].decode("utf-8-sig", "replace").lstrip().lower()
    markup = next((kind for mark, kind in MARKUP.items() if start.startswith(mark)), None)
    written = markup or SETTINGS.get(path.suffix.lower())
    if written is not None:
        raise InputError(f"{path}: is {written}: save its texts, one a line, or as JSONL")
    if _CONTROLS.search(head):
        raise InputError(f"{path}: is no text: give a text, CSV, TSV, JSON or JSONL file")
    return head


def delimiter_of(path: Path, head: bytes) -> str | None:
    """What separates the columns of a table; None for a file that is none.

    A name that says so decides. Any other file is a table if its first line is nothing but names, each another,
    and its next lines have as many cells.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    named = next((_DELIMITERS[suffix] for suffix in suffixes if suffix in _DELIMITERS), None)
    found = head.decode("utf-8-sig", "replace").splitlines()
    lines = found[:20]
    if named == "," and lines and "," not in lines[0]:
        return next((other for other in ";|" if other in lines[0]), named)
    if named is not None:
        return named
    if len(found) > 20 or len(head) == HEAD:
        del lines[-1]  # which may end in the middle of a cell
    for delimiter in (",", "\t", ";", "|"):
        names, *rows = list(csv.reader(lines, delimiter=delimiter)) or [[]]
        whole = len(set(names)) == len(names) > 1 and all(map(_NAME.fullmatch, names))
        if whole and rows and all(len(row) == len(names) for row in rows if row):
            return delimiter
    return None


def cells(path: Path, lines: Iterator[str], delimiter: str, field: str) -> Iterator[str]:
    """The cells of column `field`. Raises InputError with the columns that there are."""
    csv.field_size_limit(LONGEST)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        names = next(rows, [])
        if field not in names:
            kind = "TSV" if delimiter == "\t" else "CSV"
            example = next((name for name in names if name.lower() not in ("", "id", "index")), "COLUMN")
            shown = ", ".join(names[:20]) or "none"
            raise InputError(f"{path}: a {kind} with columns {shown}: give file:{path}:{example}")
        place = names.index(field)
        for row in rows:
            if len(row) > place:
                yield row[place]
    except csv.Error as error:
        raise InputError(f"{path}: line {rows.line_num}: no CSV: {error}") from None


def texts_at(record: Json, field: str) -> list[str]:
    """The texts at a field of a JSON record: `a.b` is b in a; every element's of a list; a message's content."""
    found = [record]
    for name in (field,) if isinstance(record, dict) and field in record else field.split("."):
        found = [each[name] for one in found for each in _spread(one) if isinstance(each, dict) and name in each]
    texts = [each for one in found for each in _spread(one)]
    return [text for one in texts if isinstance(text := _text_of(one), str)]


def fields_of(record: Json) -> str:
    return ", ".join(map(str, list(record)[:20])) if isinstance(record, dict) else "none"


def _spread(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]


def _text_of(value: Json) -> Json:
    """A message of a conversation as its text."""
    if isinstance(value, dict):
        return next((value[name] for name in ("content", "value", "text") if name in value), None)
    return value


def records(path: Path, read: Callable[[], bytes]) -> list[Json]:
    """The records of a JSON document: its list, or the first list in it."""
    try:
        document = json.loads(read().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {' '.join(str(error).split())[:200]}") from None
    if isinstance(document, dict):
        document = next((value for value in document.values() if isinstance(value, list)), [document])
    return _spread(document)
