"""Banks of harmless models as files: the one that is shipped, and a user's own made of runs."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blackbox_diff.analysis.bank import Bank, Member
from blackbox_diff.errors import InputError

FORMAT = 2
SHIPPED = "banks"
WITH_LONG_WORDS = 2  # the first format whose members were searched for words of several tokens, too
LEAST = 2  # a bank of one says nothing


Mass = Annotated[float, Field(ge=0)]


class _Member(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    completions: Annotated[int, Field(ge=1)]
    strengths: dict[str, Annotated[float, Field(ge=0)]]
    wording: dict[str, str]
    masses: list[tuple[Mass, Mass]] = []


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Annotated[int, Field(ge=1, le=FORMAT)]
    base: str
    reference: str
    completions: Annotated[int, Field(ge=1)]
    members: Annotated[list[_Member], Field(min_length=LEAST)]


def shipped_bank(reference: str) -> Bank | None:
    """The bank under `reference` that comes with the package: docs/how-it-works.md says of which models."""
    return next((each for each in shipped_banks() if each.reference == reference), None)


def shipped_banks() -> tuple[Bank, ...]:
    """All banks that come with the package."""
    files = resources.files("blackbox_diff.analysis").joinpath(SHIPPED).iterdir()
    named = sorted((each for each in files if each.name.endswith(".json")), key=lambda each: each.name)
    return tuple(_parsed(each.read_text(encoding="utf-8"), each.name) for each in named)


def read_bank(path: Path) -> Bank:
    """A bank that `calibrate` wrote. Raises InputError, one line, for a file that is none."""
    try:
        return _parsed(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a bank: make one with `blackbox-diff calibrate RUN...`") from None


def _parsed(text: str, origin: str) -> Bank:
    try:
        found = _File.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{origin}: not a bank ({where + ': ' if where else ''}{first['msg']}): make one with "
            "`blackbox-diff calibrate RUN...`"
        ) from None
    members = tuple(
        Member(each.name, each.completions, each.strengths, each.wording, tuple(each.masses))
        for each in found.members
    )
    return Bank(found.base, found.reference, found.completions, members, long=found.format >= WITH_LONG_WORDS)


def written(bank: Bank) -> str:
    """The bank as JSON text."""
    members = [
        {
            "name": member.name,
            "completions": member.completions,
            "strengths": {kind: round(value, 4) for kind, value in member.strengths.items()},
            "wording": dict(member.wording),
            "masses": [[round(value, 4) for value in pair] for pair in member.masses],
        }
        for member in bank.members
    ]
    head = {
        "format": FORMAT if bank.long else FORMAT - 1,
        "base": bank.base,
        "reference": bank.reference,
        "completions": bank.completions,
    }
    value = {**head, "members": members}
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
