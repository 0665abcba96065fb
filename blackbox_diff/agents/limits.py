"""What a person fixes before an agent begins: which endpoints, how much in all, and where runs lie.

[limits]
runs = "runs"             # the folder of all runs, relative to this file
max_cost = 2              # USD over all audits and questions, targets and references together
max_calls = 5000          # every call counts, scoring and probing too
max_output_tokens = 200000

[[targets]]
label = "acme"            # what the agent calls it
url = "https://vendor.example/v1"
model = "acme-ft"
key_env = "VENDOR_KEY"
price_in = 0.30           # USD per million tokens
price_out = 1.20

[[references]]
label = "base"
url = "http://127.0.0.1:8000/v1"
model = "the-base"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blackbox_diff.buying.prices import prices_for
from blackbox_diff.config.messages import complaint
from blackbox_diff.config.model import AuditConfig, Budget, EndpointConfig, on_this_machine, overlaid, read_toml
from blackbox_diff.errors import ConfigError

CAPS = ("max_cost", "max_calls", "max_output_tokens")
SAFE_SOURCES = ("prose", "code")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LimitSettings(_Strict):
    """The table [limits]. At least one cap is needed. max_cost in USD.

    parallel: audits at work at once. concurrency: calls in flight of each. max_completions: of one audit.
    sources: corpora that prefills may come from; a file or data set only where it is named here.
    """

    runs: str = "agent-runs"
    max_cost: Annotated[float, Field(ge=0, le=1e9)] | None = None
    max_calls: Annotated[int, Field(ge=0)] | None = None
    max_output_tokens: Annotated[int, Field(ge=0)] | None = None
    parallel: Annotated[int, Field(ge=1, le=16)] = 2
    concurrency: Annotated[int, Field(ge=1, le=256)] = 16
    max_completions: Annotated[int, Field(ge=1, le=20_000)] = 2000
    sources: Annotated[tuple[str, ...], Field(min_length=1)] = SAFE_SOURCES


class LimitsFile(_Strict):
    """A limits file as TOML."""

    limits: LimitSettings = LimitSettings()
    targets: tuple[EndpointConfig, ...] = ()
    references: tuple[EndpointConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What no agent can change. targets, references: by label. runs: the folder, absolute."""

    settings: LimitSettings
    runs: Path
    targets: dict[str, EndpointConfig]
    references: dict[str, EndpointConfig]

    @property
    def caps(self) -> Budget:
        """What everything together may cost."""
        return Budget(**{name: getattr(self.settings, name) for name in CAPS})

    def config(self, target: str, reference: str, **design: Any) -> AuditConfig:
        """An audit of two labels; `design` are AuditConfig's fields, and `max_cost` of this audit's target alone.

        Raises ConfigError for settings that can't be, KeyError for a label that is none.
        """
        end = self.targets[target]
        own_cap = design.pop("max_cost", None)
        budget = {"price_in": end.price_in, "price_out": end.price_out, "max_cost": own_cap}
        data = {
            **design,
            "target": {**end.model_dump(), "price_in": None, "price_out": None},
            "reference": self.references[reference].model_dump(),
            "concurrency": self.settings.concurrency,
            "budget": budget,
        }
        try:
            return AuditConfig.model_validate(data)
        except ValidationError as error:
            raise ConfigError(complaint(error, AuditConfig, "audit")) from None

    def allows(self, config: AuditConfig, references: Sequence[EndpointConfig]) -> bool:
        """Whether every endpoint of a run on disk is one of those that are allowed now, at today's price.

        A run goes on at the price that it began with, and another than today's would be counted wrongly.
        """
        target = any(
            _same(config.target, known) and _prices(known) == (config.budget.price_in, config.budget.price_out)
            for known in self.targets.values()
        )
        return target and all(
            any(_same(each, known) and _prices(each) == _prices(known) for known in self.references.values())
            for each in references
        )


def _same(one: EndpointConfig, other: EndpointConfig) -> bool:
    return (one.url, one.model, one.key_env, one.provider) == (
        other.url, other.model, other.key_env, other.provider,
    )  # fmt: skip


def _prices(end: EndpointConfig) -> tuple[float | None, float | None]:
    """USD per million tokens in and out: those given, else those of the price table."""
    found = prices_for(end, Budget(price_in=end.price_in, price_out=end.price_out))
    return (None, None) if found is None else (found.input, found.output)


def read_limits(path: Path, **options: Any) -> Limits:
    """The limits of a TOML file; options that are not None stand over [limits].

    Raises ConfigError, one line, with the file and the field.
    """
    given = {name: value for name, value in options.items() if value is not None}
    data = overlaid({"limits": {}, **read_toml(path)}, {"limits": given} if given else {})
    folder = Path.cwd() if "runs" in given else path.absolute().parent
    return limits_of(data, str(path), folder)


def limits_of(data: dict[str, Any], origin: str, folder: Path) -> Limits:
    """Checked limits from plain data; `folder` is where a relative `runs` begins."""
    try:
        file = LimitsFile.model_validate(data)
    except ValidationError as error:
        raise ConfigError(complaint(error, LimitsFile, origin)) from None
    settings = file.limits
    if all(getattr(settings, cap) is None for cap in CAPS):
        raise ConfigError(f"{origin}: limits: no cap: give max_cost (USD), max_calls or max_output_tokens")
    targets, references = _named(file.targets, origin, "targets"), _named(file.references, origin, "references")
    for label, target in targets.items():
        if target.max_cost is not None or target.url.startswith("local:"):
            wrong = "max_cost stands in [limits]" if target.max_cost is not None else "'local:' is for references"
            raise ConfigError(f"{origin}: targets: {label}: {wrong}")
        if settings.max_cost is not None and _prices(target) == (None, None):
            raise _unpriced(origin, "targets", label)
    for label, reference in references.items():
        priced = _prices(reference) != (None, None)
        if settings.max_cost is not None and not priced and not on_this_machine(reference.url):
            raise _unpriced(origin, "references", label)
    return Limits(settings, (folder / settings.runs).absolute(), targets, references)


def _named(ends: Sequence[EndpointConfig], origin: str, side: str) -> dict[str, EndpointConfig]:
    if not ends:
        raise ConfigError(f"{origin}: {side}: give at least one [[{side}]] with label, url and model")
    found: dict[str, EndpointConfig] = {}
    for end in ends:
        if end.name in found:
            raise ConfigError(f"{origin}: {side}: two are called '{end.name}': give one another label")
        found[end.name] = end
    return found


def _unpriced(origin: str, side: str, label: str) -> ConfigError:
    return ConfigError(
        f"{origin}: {side}: {label}: no price is known, so max_cost can't be held: give price_in and price_out in "
        "USD per million tokens (0 for a server of your own)"
    )
