"""A reader's notes on a run: what to keep, what to dismiss, and why; the page exports them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blackbox_diff.errors import InputError

MOST_BYTES = 20_000_000
Words = Annotated[str, Field(max_length=20_000)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Note(_Part):
    """One note. name: the completion's id, or the theme's phrase."""

    on: Literal["completion", "theme"]
    name: Words
    mark: Literal["keep", "dismiss", ""] = ""
    note: Words = ""


class Notes(_Part):
    """A file of notes, and the run that they are about."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    run: Words
    created: Words
    target: Words
    notes: tuple[Note, ...]


def read_notes(path: Path, *, run: str, created: str, known: Iterable[str]) -> Notes:
    """The notes in a file that the page exported, for the run created at `created` with `known` completions.

    Raises InputError, one line, for what is no such file and for notes of another run.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"--notes: {path}: {error.strerror or error}") from None
    if len(data) > MOST_BYTES:
        raise InputError(f"--notes: {path}: larger than {MOST_BYTES:,} bytes: no file of notes")
    try:
        found = Notes.model_validate(json.loads(data))
    except (ValueError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        where = ".".join(map(str, first["loc"])) + ": " + first["msg"] if first else "not JSON"
        raise InputError(f"--notes: {path}: {where}: give a file that the page's “Notes as JSON” wrote") from None
    missing = {note.name for note in found.notes if note.on == "completion"} - set(known)
    if found.created != created or missing:
        other = f"completion {min(missing)} is not in it" if missing else f"they are of {found.run}"
        raise InputError(f"--notes: {path}: these notes are of another run than {run}: {other}")
    return found
