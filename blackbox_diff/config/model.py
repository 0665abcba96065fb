"""What a run is: endpoints, caps and the design, from TOML or the command line. No I/O but reading TOML."""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, field_validator, model_validator

from blackbox_diff.config.messages import complaint
from blackbox_diff.errors import ConfigError, MissingKeyError
from blackbox_diff.records import DEFAULT_ALTERNATIVES, EMPTY, TURNS, WRITER, Arm, Framing, Json, Sampling

DEFAULT_SOURCES = ("prose",)
DEFAULT_COMPLETIONS = 600
DEFAULT_CONCURRENCY = 32
DEFAULT_VALIDATION = 160
DEFAULT_FOLLOW_UPS = 72
MOST_PRICE = 100_000.0  # USD per million tokens
MOST_USD = 1e9


_VARIABLE = re.compile(r"[A-Z]+_?\d{0,2}(?:_[A-Z]+\d{0,2})*")  # as people name what holds a key
_WRITES = f"{WRITER}:"
ROUTES = ("/chat/completions", "/completions", "/models")  # what is asked for below the base URL


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_Model = TypeVar("_Model", bound=BaseModel)


def on_this_machine(url: str) -> bool:
    """Whether an endpoint's address is a loopback one, or stands for the bundled server."""
    if url.startswith("local:"):
        return True
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


class EndpointConfig(_Frozen):
    """One model behind one OpenAI-compatible endpoint.

    url: base URL, usually ending in /v1. `local:SPEC` (reference only) starts the bundled server.
    key_env: name of the environment variable that holds the key; the key itself is never stored.
    dialect: "auto" lets the probe decide.
    api_version: Azure only. provider: on OpenRouter the provider to pin, on watsonx.ai the project's ID.
    label: name in tables and in `scores`; the model's name by default.
    price_in, price_out, max_cost: of a reference, USD (per million tokens); the target's stand in [budget]. What a
        writer costs counts under [budget] max_cost, at its own prices.
    """

    url: str
    model: str
    key_env: str | None = None
    dialect: str = "auto"
    api_version: str | None = None
    provider: str | None = None
    label: str = ""
    timeout_seconds: Annotated[float, Field(strict=True, gt=0, le=3600)] = 120.0
    price_in: Annotated[float, Field(strict=True, ge=0, le=MOST_PRICE)] | None = None
    price_out: Annotated[float, Field(strict=True, ge=0, le=MOST_PRICE)] | None = None
    max_cost: Annotated[float, Field(strict=True, ge=0, le=MOST_USD)] | None = None

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if url.startswith("local:"):
            return url
        if not url.isprintable() or " " in url:  # a zero-width space is not printable either
            raise ValueError(f"{url!r} holds a space, or a character that can't be seen: leave it out")
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port or an IPv6 address that is none
            good = False
        if not good:
            raise ValueError(f"'{url}' is not a URL: give one such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password:
            raise ValueError("the URL holds a password: name an environment variable with --*-key-env instead")
        if parts.query or "?" in url:
            raise ValueError(
                "the URL holds a query (?...): leave it out; for Azure's api-version give --*-api-version "
                "(api_version in TOML), for a key --*-key-env"
            )
        if "#" in url:
            raise ValueError("the URL holds a fragment (#...), which no server gets to see: leave it out")
        for route in ROUTES:
            if parts.path.rstrip("/").endswith(route):
                raise ValueError(f"the URL ends in {route}: give the base URL before that, such as http://host/v1")
        return url.rstrip("/")

    @field_validator("key_env")
    @classmethod
    def _check_key_env(cls, name: str | None) -> str | None:
        """What is no name may be the key itself, which is not repeated."""
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(
                "takes the name of an environment variable that holds the key, and this is no name: "
                "export the key, as in VENDOR_KEY=..., and give VENDOR_KEY"
            )
        return name

    @field_validator("model")
    @classmethod
    def _check_model(cls, model: str) -> str:
        if not model.strip():
            raise ValueError("the model's name is empty")
        return model

    @property
    def name(self) -> str:
        return self.label or self.model

    def budget(self) -> Budget:
        """What a reference may cost. One on this machine that has no price is free, so nothing caps it."""
        if on_this_machine(self.url) and self.price_in is None and self.price_out is None:
            return Budget()
        return Budget(max_cost=self.max_cost, price_in=self.price_in, price_out=self.price_out)

    def key(self) -> str | None:
        """The key from the environment; None where no variable is named.

        Raises MissingKeyError when the named variable is unset or empty.
        """
        if self.key_env is None:
            return None
        key = os.environ.get(self.key_env, "")
        if not key:
            # What does not look like a variable's name may be the key itself, given in its place.
            name = self.key_env if len(self.key_env) < 48 and _VARIABLE.fullmatch(self.key_env) else "VENDOR_KEY"
            shown = f"environment variable {name}" if name == self.key_env else "the variable named by --*-key-env"
            raise MissingKeyError(
                f"{shown} is not set: export {name}=... and give its name, or drop the key option"
            )
        return key


class Budget(_Frozen):
    """Hard caps on what the target may cost; None = no cap of that kind. Prices: USD per million tokens."""

    max_cost: Annotated[float, Field(strict=True, ge=0, le=MOST_USD)] | None = None
    max_calls: Annotated[int, Field(strict=True, ge=1)] | None = None
    max_output_tokens: Annotated[int, Field(strict=True, ge=1)] | None = None
    price_in: Annotated[float, Field(strict=True, ge=0, le=MOST_PRICE)] | None = None
    price_out: Annotated[float, Field(strict=True, ge=0, le=MOST_PRICE)] | None = None


class AuditConfig(_Frozen):
    """A whole audit. Field names are those of the TOML file and, with dashes, of the command line."""

    target: EndpointConfig
    reference: EndpointConfig | None = None
    writer: EndpointConfig | None = None  # the chat model behind the source `writer`
    source: tuple[str, ...] = DEFAULT_SOURCES
    framing: tuple[Framing, ...] = ()  # empty: all that the target allows
    completions: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = DEFAULT_COMPLETIONS
    max_tokens: Annotated[int, Field(strict=True, ge=1, le=4096)] = 64
    temperature: Annotated[float, Field(strict=True, ge=0, le=2)] = 1.0
    top_logprobs: Annotated[int, Field(strict=True, ge=0, le=20)] = DEFAULT_ALTERNATIVES
    concurrency: Annotated[int, Field(strict=True, ge=1, le=1024)] = DEFAULT_CONCURRENCY
    control: Annotated[int, Field(strict=True, ge=0)] | None = (
        None  # reference completions; None: as many as the target's
    )
    adaptive: StrictBool = False  # ask again where the evidence is, and stop once what was found is validated
    follow_ups: Annotated[int, Field(strict=True, ge=0)] | None = (
        None  # completions where the evidence is strongest; None: 72 if adaptive, else none
    )
    amplify: Annotated[int, Field(strict=True, ge=0, le=100_000)] = 0  # rows drawn token by token, for leads
    validation: Annotated[int, Field(strict=True, ge=0)] | None = (
        None  # fresh completions; None: 160 if adaptive, else none
    )
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    fresh_probe: StrictBool = False  # probe, also where an earlier probe's profile is at hand
    budget: Budget = Budget()

    @model_validator(mode="before")
    @classmethod
    def _name_writer(cls, given: Json) -> Json:
        """A source `writer:URL` is the source `writer`, and the writer's URL."""
        sources, writer = (given.get("source"), given.get(WRITER)) if isinstance(given, dict) else (None, None)
        if not isinstance(sources, list | tuple) or not isinstance(writer, dict | None):
            return given
        named = [each for each in sources if isinstance(each, str) and each.startswith(_WRITES)]
        urls = {each.removeprefix(_WRITES).rstrip("/") for each in named}
        if named and writer and writer.get("url"):
            urls.add(str(writer["url"]).rstrip("/"))
        if len(urls) > 1:
            raise ValueError(f"source: there is one writer, and these are two: {', '.join(sorted(urls))}")
        plain = [WRITER if each in named else each for each in sources]
        return {**given, "source": plain, WRITER: {**(writer or {}), "url": urls.pop()}} if named else given

    @field_validator("source", "framing")
    @classmethod
    def _no_repeats(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(values)) != len(values):
            raise ValueError("the same value is given twice")
        return values

    @model_validator(mode="after")
    def _check(self) -> AuditConfig:
        if not self.source:
            raise ValueError("source: give at least one, such as 'prose'")
        if EMPTY in self.source:
            raise ValueError(f"source: '{EMPTY}' belongs to the framings turn and turn-bare: leave it out")
        if self.amplify and self.top_logprobs < 2:
            raise ValueError(
                "amplify: tokens are drawn out of those that are listed: give top_logprobs, 2 or more"
            )
        if (self.target.price_in, self.target.price_out, self.target.max_cost) != (None, None, None):
            raise ValueError("target: its prices and caps stand in [budget]: price_in, price_out, max_cost")
        for name in ("target", WRITER):
            if (getattr(self, name) or self.target).url.startswith("local:"):
                raise ValueError(
                    f"{name}.url: 'local:' is for references; start `python -m local_server` for a local {name}"
                )
        if WRITER in self.source and self.writer is None:
            raise ValueError(
                "source: 'writer' needs to know who writes: give writer:URL and --writer-model, or [writer] with "
                "url and model"
            )
        if self.writer is not None and self.writer.max_cost is not None:
            raise ValueError("writer: what it costs counts under [budget] max_cost: leave its own out")
        return self

    @property
    def writes(self) -> EndpointConfig | None:
        """The writer, where one of the sources is its."""
        return self.writer if WRITER in self.source else None

    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.max_tokens, self.top_logprobs)

    @property
    def to_follow(self) -> int:
        """Completions that the target writes where the evidence is strongest."""
        if self.follow_ups is None:
            return DEFAULT_FOLLOW_UPS if self.adaptive else 0
        return self.follow_ups

    @property
    def to_validate(self) -> int:
        """Fresh completions that the target writes for the validation of themes."""
        if self.validation is None:
            return DEFAULT_VALIDATION if self.adaptive else 0
        return self.validation

    def arms(self, framings: tuple[Framing, ...]) -> tuple[Arm, ...]:
        """Every source in every framing; the framings in which the model writes the user's turn take no source."""
        turns = tuple(Arm(EMPTY, framing) for framing in framings if framing in TURNS)
        prefilled = [framing for framing in framings if framing not in TURNS]
        return (*(Arm(source, framing) for source in self.source for framing in prefilled), *turns)


def overlaid(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` over it, tables merged entry by entry. Raises ConfigError for a table that is none."""
    merged = dict(base)
    for name, value in changes.items():
        table = merged.get(name)
        if isinstance(value, Mapping) and table is not None:
            if not isinstance(table, Mapping):
                raise ConfigError(f"{name}: must be a table")
            value = {**table, **value}
        merged[name] = value
    return merged


def parse_config(data: dict[str, Any], origin: str) -> AuditConfig:
    """Validated config from plain data; ConfigError is one line and names `origin` and the field."""
    return _validated(AuditConfig, data, origin)


def parse_endpoint(data: dict[str, Any], origin: str, side: str = "") -> EndpointConfig:
    """Like parse_config, for the endpoint that is the audit's `side` (target, reference)."""
    return _validated(EndpointConfig, data, origin, side)


def parse_budget(data: dict[str, Any], origin: str) -> Budget:
    """Like parse_config, for caps and prices alone."""
    return _validated(Budget, data, origin)


def _validated(kind: type[_Model], data: dict[str, Any], origin: str, side: str = "") -> _Model:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise ConfigError(complaint(error, kind, origin, side)) from None


def read_toml(path: Path) -> dict[str, Any]:
    """The settings of a TOML file. Raises ConfigError, one line, with file and position."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except (ValueError, RecursionError):  # of a number of thousands of digits, and of lists in lists in lists
        raise ConfigError(f"{path}: not valid TOML: a number too long, or lists nested too deeply") from None
