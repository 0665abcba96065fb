"""What may differ between a run's configuration and the options of the `resume` that goes on with it."""

from __future__ import annotations

from typing import Any

from blackbox_diff.config.model import AuditConfig, overlaid, parse_config
from blackbox_diff.errors import ConfigError
from blackbox_diff.records import Json

# Everything else decides what was bought, or what it is said to have cost.
RESUMABLE = {
    "max-cost", "max-calls", "max-output-tokens", "completions", "control", "follow-ups", "validation", "amplify",
    "concurrency", "reference-max-cost", "target-key-env", "reference-key-env", "target-timeout-seconds",
    "reference-timeout-seconds", "writer-key-env", "writer-timeout-seconds",
}  # fmt: skip


def changed(config: AuditConfig, changes: dict[str, Any]) -> AuditConfig:
    """`config` with `changes` over it, where those can't change what was bought.

    Raises ConfigError with every difference that could.
    """
    after = parse_config(overlaid(config.model_dump(mode="json"), changes), "options")
    old, new = _options(config), _options(after)
    differing = [name for name in old | new if old.get(name) != new.get(name) and name not in RESUMABLE]
    if differing:
        shown = ", ".join(f"--{name} {_shown(old.get(name))} -> {_shown(new.get(name))}" for name in differing)
        raise ConfigError(f"{shown}: can't change in a resumed run: leave it out, or start a new run")
    if after.completions < config.completions:
        raise ConfigError(f"--completions: the run was started with {config.completions}; it can only grow")
    return after


def _options(config: AuditConfig) -> dict[str, Json]:
    """The configuration as options: name on the command line -> value."""
    flat: dict[str, Json] = {}
    for name, value in config.model_dump(mode="json").items():
        prefix = "" if name == "budget" else f"{name}_"
        flat |= {f"{prefix}{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return {name.replace("_", "-"): value for name, value in flat.items()}


def _shown(value: Json) -> str:
    if value in (None, "", []):
        return "(not given)"
    return " ".join(str(part) for part in value) if isinstance(value, list) else str(value)
