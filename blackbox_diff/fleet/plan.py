"""What a fleet is: targets, references and one budget, read from a TOML file and the files that it includes.

[fleet]
max_cost = 10            # USD, over all audits together
parallel = 4             # audits at work at once
include = ["team.toml"]  # more targets and references, relative to this file

[fleet.hosts]
"vendor.example" = 16    # calls in flight to a host, over all audits together

[defaults]               # any setting of an audit
completions = 300

[[targets]]              # an endpoint, and what its audit has different from the defaults
url = "https://vendor.example/v1"
model = "acme-ft"
key_env = "VENDOR_KEY"
references = ["base"]    # labels; every reference by default
audit = { completions = 600 }

[[references]]
url = "http://127.0.0.1:8000/v1"
model = "the-base"
label = "base"
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blackbox_diff.config.messages import complaint
from blackbox_diff.config.model import AuditConfig, EndpointConfig, overlaid, parse_config, read_toml
from blackbox_diff.errors import ConfigError

DEFAULT_PARALLEL = 2


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FleetSettings(_Strict):
    """The table [fleet]: caps and limits over all audits together. Money in USD."""

    max_cost: Annotated[float, Field(ge=0)] | None = None
    parallel: Annotated[int, Field(ge=1, le=256)] = DEFAULT_PARALLEL
    hosts: dict[str, Annotated[int, Field(ge=1)]] = {}
    include: tuple[str, ...] = ()


class TargetEntry(EndpointConfig):
    """One of [[targets]]: an endpoint, which references judge it, and what differs from the defaults."""

    references: tuple[str, ...] = ()
    audit: dict[str, Any] = Field(default_factory=dict)


class FleetFile(_Strict):
    """A fleet's TOML file."""

    fleet: FleetSettings = FleetSettings()
    defaults: dict[str, Any] = {}
    targets: tuple[TargetEntry, ...] = ()
    references: tuple[EndpointConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """One audit of the fleet: `config` has the first reference, `also` the others."""

    name: str
    config: AuditConfig
    also: tuple[EndpointConfig, ...]

    @property
    def references(self) -> tuple[EndpointConfig, ...]:
        first = self.config.reference
        return ((first,) if first is not None else ()) + self.also

    @property
    def hosts(self) -> Counter[str]:
        """How many of the audit's endpoints each host has: a vendor may serve target and reference."""
        return Counter(host_of(one.url) for one in (self.config.target, *self.references))

    @property
    def control_key(self) -> str:
        """Audits with the same key have the same control: reference's own completions of the same prefills."""
        config = self.config
        sampled = (config.seed, config.max_tokens, config.temperature, config.top_logprobs)
        return repr((sampled, sorted((one.name, one.url, one.model) for one in self.references)))


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """The audits of a fleet, and the limits that they share."""

    settings: FleetSettings
    audits: tuple[Planned, ...]

    def concurrency(self, planned: Planned) -> int:
        """Most calls in flight to one endpoint of an audit: its share of what its hosts allow to all of those that
        may be asked at once."""
        most = planned.config.concurrency
        for host, own in planned.hosts.items():
            if host in self.settings.hosts:
                sharing = sum(host in other.hosts for other in self.audits)
                most = min(most, self.settings.hosts[host] // (own * min(sharing, self.settings.parallel)))
        return max(1, most)


def read_fleet(path: Path) -> FleetPlan:
    """The fleet that a TOML file describes. Raises ConfigError, one line, with the file and the field."""
    file = _merged(path, ())
    if not file.targets:
        raise ConfigError(f"{path}: targets: give at least one [[targets]] with url and model")
    if not file.references:
        raise ConfigError(f"{path}: references: give at least one [[references]] with url and model")
    labels = [reference.name for reference in file.references]
    repeated = {label for label in labels if labels.count(label) > 1}
    if repeated:
        raise ConfigError(f"{path}: references: two are called '{repeated.pop()}': give one another label")
    names: dict[str, int] = {}
    audits = []
    for target in file.targets:
        slug = re.sub(r"[^\w.-]+", "-", target.name).strip("-.") or "target"
        names[slug] = names.get(slug, 0) + 1
        name = slug if names[slug] == 1 else f"{slug}-{names[slug]}"
        audits.append(_planned(path, name, target, file))
    for host, limit in file.fleet.hosts.items():
        own = max(one.hosts[host] for one in audits)
        if limit < own * file.fleet.parallel:
            each = f" with {own} endpoints there each" if own > 1 else ""
            raise ConfigError(
                f"{path}: fleet.hosts: {limit} calls to {host} can't be shared by {file.fleet.parallel} "
                f"audits{each}: lower fleet.parallel"
            )
    return FleetPlan(file.fleet, tuple(audits))


def host_of(url: str) -> str:
    """Host, with its port where the URL names one."""
    return urlsplit(url).netloc.rpartition("@")[2].lower() or url


def _planned(path: Path, name: str, target: TargetEntry, file: FleetFile) -> Planned:
    wanted = target.references or tuple(reference.name for reference in file.references)
    chosen = [reference for reference in file.references if reference.name in wanted]
    unknown = set(wanted) - {reference.name for reference in chosen}
    if unknown:
        known = ", ".join(reference.name for reference in file.references)
        raise ConfigError(f"{path}: targets: {name}: no reference '{unknown.pop()}'; there are {known}")
    endpoint = target.model_dump(exclude={"references", "audit"})
    data = overlaid(file.defaults, target.audit) | {"target": endpoint, "reference": chosen[0].model_dump()}
    config = parse_config(data, f"{path}: {name}")
    if config.writes is not None:
        raise ConfigError(
            f"{path}: {name}: source: a writer writes other openings for each audit, and audits of a fleet share "
            "their control: leave it out"
        )
    return Planned(name, config, tuple(chosen[1:]))


def _merged(path: Path, seen: Sequence[Path]) -> FleetFile:
    """The file with what it includes: settings and defaults of the outer file win."""
    if path.resolve() in seen:
        raise ConfigError(f"{path}: fleet.include: includes itself")
    file = _parse(read_toml(path), path)
    for name in file.fleet.include:
        inner = _merged(path.parent / name, (*seen, path.resolve()))
        file = file.model_copy(
            update={
                "defaults": overlaid(inner.defaults, file.defaults),
                "targets": (*file.targets, *inner.targets),
                "references": (*file.references, *inner.references),
            }
        )
    return file


def _parse(data: Mapping[str, Any], path: Path) -> FleetFile:
    try:
        return FleetFile.model_validate(data)
    except ValidationError as error:
        raise ConfigError(complaint(error, FleetFile, str(path))) from None
