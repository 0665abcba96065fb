"""Which model a reply says it is from: routers and proxies fall back to another one without an error."""

from __future__ import annotations

import re
from collections.abc import Mapping

from blackbox_diff.records import EndpointProfile, Json
from blackbox_diff.wire.body import one_line, string

FIELDS = ("model", "model_id", "model_name", "modelVersion")  # watsonx.ai, gateways, Gemini
NAME_LENGTH = 200  # characters of a model's name that count
_VERSION = re.compile(r"(?:[-@:_.](?:latest|preview|v?\d{3,8}|\d{4}-\d{2}-\d{2}))+")


def named(body: Mapping[str, Json]) -> str | None:
    """The model that a reply names, by the first of FIELDS that does; None where it names none."""
    name = next((name for field in FIELDS if (name := string(body.get(field)))), None)
    return one_line(name, NAME_LENGTH) if name else None


def akin(one: str, other: str) -> bool:
    """Whether two names can be one model's: apart from case, path and a version or date at the end.

    gpt-4o and gpt-4o-2024-08-06 are akin, and org/m and m:latest; gpt-4o and gpt-4o-mini are not.
    """
    short, long = sorted((_plain(one), _plain(other)), key=len)
    return long == short or (long.startswith(short) and _VERSION.fullmatch(long, len(short)) is not None)


def _plain(name: str) -> str:
    return name.strip().casefold().rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf").removesuffix(":latest")


def is_other(told: str | None, profile: EndpointProfile) -> bool:
    """Whether a reply is from a model that the probe did not see; a reply or a probe without names can't say."""
    seen = profile.answers_as
    return told is not None and seen is not None and not (akin(told, seen) or akin(told, profile.model))


def alias(profile: EndpointProfile) -> str | None:
    """A warning where the probe itself was answered under another name than was asked for, else None.

    An Azure deployment has a name of its own, and always answers under its model's.
    """
    seen = profile.answers_as
    if seen is None or profile.dialect == "azure" or akin(seen, profile.model):
        return None
    return (
        f"{one_line(profile.model, 60)} answers as {one_line(seen, 60)!r}: an alias, or another model that stands "
        "in for it: ask the operator which"
    )
