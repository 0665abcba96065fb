"""What a run is and where it stands: the rows of `meta`, as values with types."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from blackbox_diff.config.model import AuditConfig, EndpointConfig
from blackbox_diff.findings import Question, Round
from blackbox_diff.records import Arm, EndpointProfile, Json, Sample
from blackbox_diff.runfile.encoding import decoder


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a run was begun with; never changes.

    config: None where the file holds calls alone, as that of `watch`. packages: name -> version.
    """

    created: str = ""
    config: AuditConfig | None = None
    packages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a resume may ask more of than was bought."""

    completions: int
    control: int | None
    validation: int
    follow_ups: int = 0
    amplify: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """Where a run stands. Each field is a row of its own, written when it changes.

    config: the manifest's, with what `resume` has changed; None before the first time.
    references: those that `score` added, in order. profiles: by a lane's label.
    written: the openings that the writer wrote, in its order; none where it was not asked or has not answered.
    controls_from: the run that the control's completions were copied from.
    rounds: of an adaptive run. follow_ups, validation: what was asked again. amplified: the rows that were drawn
        token by token, or why there are none. promoted: words that are validated by their probability, on the
        completions promoted_on (none: on all that validate, in older runs).
    controller: the version that decided what was asked again; 0 for an earlier one.
    drift: how often each warning was given.
    complete: what was asked for when all of it was done.
    begun_in_format: of an older run, until what its replies hold and that format had no place for is stored.
    stopped_because: None while a session is at work, or where one was killed. seconds: of all sessions.
    """

    config: AuditConfig | None = None
    references: tuple[EndpointConfig, ...] = ()
    profiles: Mapping[str, EndpointProfile] = field(default_factory=dict)
    written: tuple[str, ...] = ()
    controls_from: str | None = None
    rounds: tuple[Round, ...] = ()
    follow_ups: tuple[Question, ...] = ()
    amplified: tuple[Question, ...] = ()
    validation: tuple[Question, ...] = ()
    promoted: tuple[str, ...] = ()
    promoted_on: tuple[str, ...] = ()
    controller: int = 0
    drift: Mapping[str, int] = field(default_factory=dict)
    stopped_because: str | None = None
    complete: Asked | None = None
    seconds: float = 0.0
    begun_in_format: int | None = None


@decoder("manifest")
def manifest_of(data: Json) -> Manifest:
    """The manifest in its row, as JSON."""
    config = data.get("config")
    return Manifest(
        created=str(data.get("created", "")),
        config=AuditConfig.model_validate(config) if config else None,
        packages={str(name): str(version) for name, version in data.get("packages", {}).items()},
    )


@decoder("state")
def state_of(rows: Mapping[str, Json]) -> State:
    """The state in its rows: field -> JSON. A row that is missing or null leaves the field as it begins."""
    read: Mapping[str, Callable[[Json], Any]] = {
        "config": AuditConfig.model_validate,
        "references": lambda found: tuple(map(EndpointConfig.model_validate, found)),
        "profiles": lambda found: {name: EndpointProfile.model_validate(one) for name, one in found.items()},
        "written": lambda found: tuple(map(str, found)),
        "controls_from": str,
        "rounds": lambda found: tuple(map(_round, found)),
        "follow_ups": lambda found: tuple(map(_question, found)),
        "amplified": lambda found: tuple(map(_question, found)),
        "validation": lambda found: tuple(map(_question, found)),
        "promoted": lambda found: tuple(map(str, found)),
        "promoted_on": lambda found: tuple(map(str, found)),
        "controller": int,
        "drift": lambda found: {str(warning): int(number) for warning, number in found.items()},
        "stopped_because": str,
        "complete": lambda found: Asked(**found),
        "seconds": float,
        "begun_in_format": int,
    }
    return State(**{name: read[name](value) for name, value in rows.items() if name in read and value is not None})


def rows_of(state: State, before: State) -> Iterator[tuple[str, Json]]:
    """Field and JSON of what `state` has otherwise than `before`."""
    for one in fields(State):
        value = getattr(state, one.name)
        if value != getattr(before, one.name):
            yield one.name, _plain(value)


def _round(found: Json) -> Round:
    return Round(
        found["given"],
        found["bought"],
        found["outcome"],
        found["p_value"],
        tuple(found["themes"]),
        tuple(found.get("decisions", ())),
    )


def _question(found: Json) -> Question:
    samples = tuple(Sample(**{**each, "arm": Arm(**each["arm"])}) for each in found["samples"])
    return Question(found["phrase"], tuple(found["terms"]), samples, found.get("why", ""))


def _plain(value: object) -> Json:
    if isinstance(value, AuditConfig | EndpointConfig | EndpointProfile):
        return value.model_dump(mode="json")
    if isinstance(value, Asked | Round | Question):
        return asdict(value)
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
