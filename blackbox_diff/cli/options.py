"""The options that commands share, and how they become a configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from blackbox_diff.cli import exit_codes
from blackbox_diff.config.model import (
    DEFAULT_FOLLOW_UPS,
    DEFAULT_VALIDATION,
    AuditConfig,
    EndpointConfig,
    overlaid,
    parse_config,
    parse_endpoint,
    read_toml,
)
from blackbox_diff.errors import ConfigError
from blackbox_diff.records import Framing

F = TypeVar("F", bound=Callable[..., Any])

RUN = click.argument("run", type=click.Path(path_type=Path))
BACKGROUND = click.option(
    "--background",
    "backgrounds",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="RUN2",
    help="A run whose completions say what is ordinary, such as another finetune of the same maker; repeatable.",
)
JSON = click.option(
    "--json", "as_json", is_flag=True, help="One object on stdout, a failure too; progress on stderr."
)
LOCAL_REFERENCE = click.option(
    "--reference",
    metavar="local:SPEC",
    help="Start the bundled server with this model: smollm2-135m-instruct, gemma-3-270m, a directory, a .gguf "
    "file or a hub's id.",
)
FAIL_ON = click.option(
    "--fail-on",
    multiple=True,
    type=click.Choice(["finding", "undecided"]),
    help=f"End with exit code {exit_codes.FAIL_ON} where this is the verdict; may be given twice.",
)


def renamed(old: str, new: str, **attributes: Any) -> Callable[[F], F]:
    """An option's former spelling: not listed, and answered with what it is called now."""

    def refuse(context: click.Context, _parameter: click.Parameter, value: object) -> None:
        if value:
            raise click.UsageError(f"{old}: did you mean {new}?", context)

    return click.option(old, hidden=True, expose_value=False, callback=refuse, **attributes)


def failure(fail_on: Sequence[str], outcome: str) -> int:
    """The exit code that `--fail-on` asks for at this outcome."""
    return exit_codes.FAIL_ON if outcome in fail_on else 0


ENDPOINT_FIELDS = (
    "url", "model", "key_env", "dialect", "label", "api_version", "provider", "price_in", "price_out", "max_cost",
)  # fmt: skip
SIDES = ("target", "reference", "writer")
BUDGET_FIELDS = ("max_cost", "max_calls", "max_output_tokens", "price_in", "price_out")


FOLLOW_UPS_DEFAULT = f"[default: {DEFAULT_FOLLOW_UPS} with --adaptive, else none]"
VALIDATION_DEFAULT = f"[default: {DEFAULT_VALIDATION} with --adaptive, else none]"


def _default(field: str) -> str:
    """A field's default as `--help` shows it: an option that is not given leaves the TOML file's value."""
    value = AuditConfig.model_fields[field].default
    return f"[default: {' '.join(value) if isinstance(value, tuple) else value}]"


def _reference_costs() -> list[Callable[[F], F]]:
    """What the reference may cost; the target's caps are --max-cost and its like. A reference here is free."""
    return [
        click.option("--reference-price-in", type=float, metavar="USD", help="USD per million input tokens."),
        click.option("--reference-price-out", type=float, metavar="USD", help="USD per million output tokens."),
        click.option(
            "--reference-max-cost", type=float, metavar="USD", help="Hard cap on what the reference costs."
        ),
    ]


def _writer_options() -> list[Callable[[F], F]]:
    """The chat model that writes openings; what it costs counts under the target's cap."""
    return [
        click.option(
            "--writer-url", metavar="URL", help="Base URL of the writer: the same as --source writer:URL."
        ),
        click.option("--writer-model", metavar="NAME", help="Model name of the writer."),
        click.option("--writer-key-env", metavar="VAR", help="Environment variable that holds the writer's key."),
        click.option("--writer-price-in", type=float, metavar="USD", help="USD per million input tokens."),
        click.option("--writer-price-out", type=float, metavar="USD", help="USD per million output tokens."),
    ]


def endpoint_options(side: str, required: bool = False) -> Callable[[F], F]:
    """--SIDE-url, --SIDE-model, --SIDE-key-env, --SIDE-dialect and what some dialects need."""

    def decorate(command: F) -> F:
        for option in reversed(
            [
                click.option(f"--{side}-url", metavar="URL", required=required, help=f"Base URL of the {side}."),
                click.option(
                    f"--{side}-model", metavar="NAME", required=required, help=f"Model name of the {side}."
                ),
                click.option(f"--{side}-key-env", metavar="VAR", help="Environment variable that holds the key."),
                click.option(
                    f"--{side}-dialect", metavar="NAME", help="Wire dialect; found by the probe by default."
                ),
                click.option(f"--{side}-label", metavar="NAME", help="Name in tables; the model's by default."),
                click.option(f"--{side}-api-version", metavar="V", help="Azure OpenAI only."),
                click.option(
                    f"--{side}-provider",
                    metavar="NAME",
                    help="OpenRouter: the provider to pin. watsonx.ai: the project's ID.",
                ),
                *(_reference_costs() if side == "reference" else ()),
            ]
        ):
            command = option(command)
        return command

    return decorate


def budget_options(command: F) -> F:
    for option in reversed(
        [
            click.option(
                "--max-cost",
                type=float,
                metavar="USD",
                help="Hard cap on what target and writer cost. [default: none]",
            ),
            click.option("--max-calls", type=int, metavar="N", help="Hard cap on calls to them. [default: none]"),
            click.option(
                "--max-output-tokens", type=int, metavar="N", help="Hard cap on tokens bought. [default: none]"
            ),
            click.option("--price-in", type=float, metavar="USD", help="USD per million input tokens."),
            click.option("--price-out", type=float, metavar="USD", help="USD per million output tokens."),
        ]
    ):
        command = option(command)
    return command


def design_options(command: F) -> F:
    for option in reversed(
        [
            LOCAL_REFERENCE,
            click.option(
                "--source",
                multiple=True,
                metavar="NAME",
                help="prose, code, a file, hf:DATASET, or writer:URL, where a chat model writes openings; may be "
                f"given again. {_default('source')}",
            ),
            *_writer_options(),
            click.option(
                "--framing",
                multiple=True,
                type=click.Choice(get_args(Framing)),
                help="How prefills are sent; turn: the model writes the user's turn itself. May be given again. "
                "[default: raw and chat, where the target can]",
            ),
            click.option(
                "--completions", type=int, metavar="N", help=f"Completions to buy. {_default('completions')}"
            ),
            click.option(
                "--max-tokens", type=int, metavar="N", help=f"Tokens per completion. {_default('max_tokens')}"
            ),
            click.option("--temperature", type=float, metavar="T", help=f"0 is greedy. {_default('temperature')}"),
            click.option(
                "--concurrency", type=int, metavar="N", help=f"Most calls in flight. {_default('concurrency')}"
            ),
            click.option(
                "--control",
                type=int,
                metavar="N",
                help="The reference's own completions to sample. [default: as many as --completions]",
            ),
            click.option(
                "--adaptive/--no-adaptive",
                default=None,
                help="Ask again where it leaks, and stop once what was found is validated. [default: no-adaptive]",
            ),
            click.option(
                "--follow-ups",
                type=int,
                metavar="N",
                help=f"Completions that ask again where the evidence is strongest. {FOLLOW_UPS_DEFAULT}",
            ),
            click.option(
                "--amplify",
                type=int,
                metavar="N",
                help="Texts to draw token by token towards what the target says more than the reference: leads, "
                "at one call a token on both sides. [default: none]",
            ),
            click.option(
                "--validation",
                type=int,
                metavar="N",
                help=f"Fresh completions that test what was found, at most. {VALIDATION_DEFAULT}",
            ),
            click.option("--seed", type=int, metavar="N", help=f"Which prefills are drawn. {_default('seed')}"),
        ]
    ):
        command = option(command)
    return command


def build_config(config_file: Path | None, options: dict[str, Any]) -> AuditConfig:
    """The TOML file's settings, overlaid with the options that were given."""
    data = overlaid(read_toml(config_file) if config_file else {}, settings(options))
    if "target" not in data and not data.keys() - AuditConfig.model_fields.keys():
        raise ConfigError("no target: give --target-url and --target-model, or a TOML file with [target]")
    return parse_config(data, str(config_file) if config_file else "options")


def settings(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, as a configuration's tables."""
    given = {name: value for name, value in options.items() if value is not None and value != ()}
    _expand_local(given)
    tables = {side: {f"{side}_{field}": field for field in ENDPOINT_FIELDS} for side in SIDES}
    tables["budget"] = {field: field for field in BUDGET_FIELDS}
    found = {
        table: {field: given.pop(option) for option, field in fields.items() if option in given}
        for table, fields in tables.items()
    }
    return {**given, **{table: values for table, values in found.items() if values}}


def reference_endpoint(options: dict[str, Any]) -> EndpointConfig:
    """The endpoint that --reference-* or --reference local:SPEC name."""
    given = {name: value for name, value in options.items() if value is not None}
    _expand_local(given)
    fields = {name.removeprefix("reference_"): value for name, value in given.items()}
    if "url" not in fields:
        raise ConfigError("no reference: give --reference-url and --reference-model, or --reference local:SPEC")
    return parse_endpoint(fields, "options", "reference")


def _expand_local(given: dict[str, Any]) -> None:
    """`--reference local:SPEC` as the endpoint that it stands for."""
    spec = given.pop("reference", None)
    if spec is None:
        return
    if not spec.startswith("local:") or not spec.removeprefix("local:"):
        name = spec.removeprefix("local:") or "smollm2-135m-instruct"
        raise ConfigError(
            f"--reference: '{spec}' is not local:SPEC, as in local:{name}; for a server use --reference-url"
        )
    given["reference_url"], given["reference_model"] = spec, spec.removeprefix("local:")
