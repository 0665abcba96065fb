"""An audit's settings as a TOML file that `audit FILE` understands: what was given, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from blackbox_diff.config.model import AuditConfig


def as_toml(config: AuditConfig) -> str:
    """The settings that were given; the others keep their defaults. Of a key, the variable's name stands in it."""
    given = config.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    tables = {name: value for name, value in given.items() if isinstance(value, Mapping)}
    top = [_line(name, value) for name, value in given.items() if name not in tables]
    parts = [top] if top else []
    parts += [[f"[{name}]", *(_line(*item) for item in table.items())] for name, table in tables.items()]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _line(name: str, value: Any) -> str:
    # A JSON scalar or list is one of TOML, too, but for a raw DEL in a string.
    return f"{name} = {json.dumps(value, ensure_ascii=False, allow_nan=False)}".replace("\x7f", "\\u007f")
