"""A refused setting as one line that a person can act on: which option or field, what is wrong, what would do."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

OPTIONS = "options"  # the origin of settings that came from the command line
_SECTIONS = ("budget",)  # tables of a TOML file whose options carry no prefix


def complaint(error: ValidationError, kind: type[BaseModel], origin: str, side: str = "") -> str:
    """The first fault that `error` holds.

    origin: a file's name, or "options"; side: "target" or "reference" where `kind` is that endpoint.
    """
    # An unknown name first: `[targets]` is why `target` is missing.
    first = next((each for each in error.errors() if each["type"] == "extra_forbidden"), error.errors()[0])
    path = [part for part in first["loc"] if isinstance(part, str)]
    if first["type"] == "extra_forbidden":
        message = _unknown(path[-1], _fields(kind, path[:-1]), _places(kind) if len(path) == 1 else {})
    else:
        message = _plain(first["type"], first.get("ctx", {}), first["input"], first["msg"])
    if origin == OPTIONS:
        message = message.replace("--*-", f"--{side or path[0]}-") if side or path else message
        return f"{_option(path, side)}: {message}" if path else message
    return f"{origin}: {'.'.join(path)}: {message}" if path else f"{origin}: {message}"


def _option(path: list[str], side: str) -> str:
    words = [side] * bool(side) + [part for part in path if part not in _SECTIONS]
    return "--" + "-".join(words).replace("_", "-")


def _plain(kind: str, limits: Mapping[str, Any], given: object, fallback: str) -> str:
    """Pydantic's error in plain words."""
    wrong = f", not {given!r}" if isinstance(given, str | int | float) else ""
    match kind:
        case "missing":
            return "is missing: give it"
        case "greater_than_equal":
            return f"must be at least {_number(limits['ge'])}{wrong}"
        case "less_than_equal":
            return f"must be at most {_number(limits['le'])}{wrong}"
        case "less_than":
            return f"must be less than {_number(limits['lt'])}{wrong}"
        case "greater_than":
            return f"must be more than {_number(limits['gt'])}{wrong}"
        case "finite_number":
            return f"must be a finite number{wrong}"
        case "bool_type" | "bool_parsing":
            return f"must be true or false{wrong}"
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size":
            return f"must be a whole number{wrong}"
        case "float_parsing" | "float_type":
            return f"must be a number{wrong}"
        case "string_type":
            return f"must be text{wrong}"
        case "literal_error":
            return f"must be {limits['expected']}{wrong}"
        case "tuple_type" | "list_type":
            return f'must be a list, as in ["prose", "code"]{wrong}'
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"must be a table of settings{wrong}"
    return fallback.removeprefix("Value error, ")


def _number(limit: float) -> str:
    return str(int(limit)) if limit == int(limit) else str(limit)


def _places(kind: type[BaseModel]) -> dict[str, str]:
    """An option's name, without its dashes -> where a TOML file has it, for the settings that stand in a table."""
    return {
        field if table in _SECTIONS else f"{table}_{field}": f"[{table}] {field}"
        for table in kind.model_fields
        for field in (_fields(kind, [table]) if _table(kind, table) else ())
    }


def _unknown(name: str, known: list[str], places: Mapping[str, str]) -> str:
    """What to write in the place of an unknown name. places: options that stand in tables of a TOML file."""
    plain = name.lstrip("-").replace("-", "_")
    if plain in places:
        return f"unknown key: use {places[plain]}"
    if plain in known:
        return f"unknown key: use {plain}"
    close = difflib.get_close_matches(name, known, n=1)
    return f"unknown setting: did you mean {close[0]}?" if close else f"unknown setting: give {', '.join(known)}"


def _fields(kind: type[BaseModel], path: list[str]) -> list[str]:
    """Names of the settings in the table that `path` leads to."""
    for part in path:
        kind = _table(kind, part) or kind
    return list(kind.model_fields)


def _table(kind: type[BaseModel], name: str) -> type[BaseModel] | None:
    """What the setting `name` is where it is a table."""
    inner = kind.model_fields[name].annotation
    kinds = [inner, *getattr(inner, "__args__", ())]
    return next((one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)), None)
