"""Commands that talk to endpoints."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click

from blackbox_diff.cli import exit_codes
from blackbox_diff.cli.help import GroupedCommand, ResumeCommand
from blackbox_diff.cli.options import (
    BACKGROUND,
    FAIL_ON,
    JSON,
    LOCAL_REFERENCE,
    RUN,
    budget_options,
    build_config,
    design_options,
    endpoint_options,
    settings,
)
from blackbox_diff.config.model import AuditConfig


def _toml_file(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and str(path).startswith(("http:/", "https:/")):
        raise click.UsageError("CONFIG is a TOML file: give a URL with --target-url", ctx)
    return path


CONFIG = click.argument(
    "config", required=False, type=click.Path(path_type=Path, dir_okay=False), callback=_toml_file
)


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo-run"), metavar="RUN", help="Directory of the run."
)
@click.option("--organism", default="false-fact", show_default=True, help="Which fixture organism to audit.")
@click.option(
    "--reference",
    type=click.Choice(["same", "cross"]),
    default="same",
    help="The base, or a model of another family.",
)
@click.option("--completions", type=click.IntRange(min=1), default=300, metavar="N", help="Completions to buy.")
@click.option("--adaptive/--no-adaptive", default=False, help="Ask again where it leaks, validate, and stop.")
def demo(out: Path, organism: str, reference: str, completions: int, adaptive: bool) -> int:
    """Audit a finetuned model on this machine, with no key.

    Starts the bundled server with a fixture organism, audits it over HTTP under a cap, prints the
    findings and writes the HTML report. --reference cross judges it with a model of another family.
    """
    from blackbox_diff.cli.demo import run_demo

    return run_demo(out, organism, cross=reference == "cross", completions=completions, adaptive=adaptive)


@click.command(cls=GroupedCommand)
@endpoint_options("target", required=True)
@click.option(
    "--purpose", type=click.Choice(["target", "reference"]), default="target", help="What it is to serve as."
)
@click.option("--turn", is_flag=True, help="Ask whether the user's turn can be left to the model, too.")
@JSON
def probe(purpose: Literal["target", "reference"], turn: bool, as_json: bool, **options: Any) -> int:
    """Find out what an endpoint can do, in about ten tiny calls.

    An audit within a day follows what was found, unless the endpoint is on this machine.
    """
    from blackbox_diff.config.model import EndpointConfig, parse_endpoint
    from blackbox_diff.report.terminal import profile_lines
    from blackbox_diff.run.commands import probe_endpoint

    given = {name.removeprefix("target_"): value for name, value in options.items() if value is not None}
    endpoint: EndpointConfig = parse_endpoint(given, "options", "target")
    profile = asyncio.run(probe_endpoint(endpoint, purpose, turn=turn))
    for line in [json.dumps(profile.model_dump())] if as_json else profile_lines(profile):
        click.echo(line)
    usable = profile.auditable if purpose == "target" else profile.can_score
    return exit_codes.DONE if usable else exit_codes.NOT_AUDITABLE


@click.command(cls=GroupedCommand)
@CONFIG
@endpoint_options("target")
@endpoint_options("reference")
@design_options
@budget_options
@JSON
def estimate(config: Path | None, as_json: bool, **options: Any) -> None:
    """Calls, tokens and USD of an audit, expected and worst case; spends nothing."""
    from blackbox_diff.run.commands import estimate_audit

    found = estimate_audit(build_config(config, options))
    click.echo(json.dumps(found.as_dict()) if as_json else "\n".join(found.lines()))


@click.command(cls=GroupedCommand)
@CONFIG
@endpoint_options("target")
@endpoint_options("reference")
@design_options
@budget_options
@click.option(
    "--fresh-probe", is_flag=True, default=None, help="Probe again, also if an endpoint was probed within a day."
)
@click.option("--out", "run", type=click.Path(path_type=Path), metavar="RUN", help="Directory of the run.")
@click.option(
    "--write-config",
    "written",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write what is given as a TOML file for later audits, and audit nothing.",
)
@JSON
@FAIL_ON
def audit(
    config: Path | None,
    run: Path | None,
    written: Path | None,
    as_json: bool,
    fail_on: tuple[str, ...],
    **options: Any,
) -> int:
    """Sample the target, score with the reference, rank and report.

    CONFIG is a TOML file with the same names; options win over it.
    """
    from blackbox_diff.cli.collecting import collected
    from blackbox_diff.cli.finish import finish
    from blackbox_diff.run.commands import start

    wanted = build_config(config, options)
    if written is not None:
        return _write_config(wanted, written)
    if run is None:
        raise click.UsageError(
            "Missing option '--out': name the run's directory, as in --out runs/acme", click.get_current_context()
        )
    return finish(collected(partial(start, wanted, run)), run, as_json, fail_on=fail_on)


def _write_config(config: AuditConfig, path: Path) -> int:
    from blackbox_diff.config.write import as_toml

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(as_toml(config))
    except OSError as error:
        raise click.UsageError(f"--write-config: {path}: {error.strerror or error}") from None
    click.echo(f"wrote {path}: audit with `blackbox-diff audit {path} --out RUN`")
    return exit_codes.DONE


@click.command(cls=ResumeCommand)
@RUN
@endpoint_options("target")
@endpoint_options("reference")
@design_options
@budget_options
@JSON
@FAIL_ON
def resume(run: Path, as_json: bool, fail_on: tuple[str, ...], **options: Any) -> int:
    """Go on with RUN where it stopped; never buys the same sample twice.

    Caps, --completions (upwards), --control, --concurrency and the names of key variables may change;
    any other option must be what the run was started with. A run that is complete is left as it is.
    """
    from blackbox_diff.cli.collecting import collected
    from blackbox_diff.cli.finish import finish
    from blackbox_diff.run.commands import go_on

    return finish(collected(partial(go_on, run, settings(options))), run, as_json, fail_on=fail_on)


@click.command(cls=GroupedCommand)
@RUN
@endpoint_options("reference")
@LOCAL_REFERENCE
@JSON
def score(run: Path, as_json: bool, **options: Any) -> int:
    """Add one more reference to RUN; no call to the target."""
    from blackbox_diff.cli.collecting import collected
    from blackbox_diff.cli.finish import finish
    from blackbox_diff.cli.options import reference_endpoint
    from blackbox_diff.run.commands import add_reference

    endpoint = reference_endpoint(options)
    return finish(collected(partial(add_reference, run, endpoint)), run, as_json, reference=endpoint.name)


@click.command()
@RUN
@endpoint_options("target")
@click.option(
    "--prompts", type=click.IntRange(7, 25), default=20, show_default=True, help="Prompts to ask, twice each."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which of the run's prompts are asked.")
@JSON
def watch(run: Path, prompts: int, seed: int, as_json: bool, **options: Any) -> int:
    """Ask whether the endpoint still serves the model that RUN audited: at most 50 one-token calls.

    The first token's alternatives are compared with those that RUN stored. An unchanged model is called changed
    in at most 1 of 100 times. Ends with exit code 5 where it changed, and 4 where nothing can be compared.
    RUN itself is only read; --target-url and the like say where the model is served today.
    """
    from dataclasses import asdict

    from blackbox_diff.run.watch import watch_run

    changes = {name.removeprefix("target_"): value for name, value in options.items() if value is not None}
    found = asyncio.run(watch_run(run, changes, prompts=prompts, seed=seed))
    click.echo(json.dumps({"schema": 1, "run": str(run), **asdict(found)}) if as_json else found.sentence)
    return {"same": exit_codes.DONE, "changed": exit_codes.FAIL_ON, "unknown": exit_codes.NOT_AUDITABLE}[
        found.outcome
    ]


@click.command()
@RUN
@click.option("--url", required=True, metavar="URL", help="Base URL of an OpenAI-compatible chat endpoint.")
@click.option("--model", required=True, metavar="NAME", help="The reader.")
@click.option("--key-env", metavar="VAR", help="Environment variable that holds the key.")
@click.option("--seeds", type=click.IntRange(min=3), default=3, metavar="N", help="Readings to compare.")
@click.option("--timeout", type=click.FloatRange(min=1), default=120.0, metavar="SECONDS", help="For one reading.")
@click.option("--max-cost", type=float, metavar="USD", help="Hard cap on what the reader may cost.")
@click.option("--price-in", type=float, metavar="USD", help="USD per million input tokens.")
@click.option("--price-out", type=float, metavar="USD", help="USD per million output tokens.")
@BACKGROUND
@JSON
def explain(
    run: Path,
    url: str,
    model: str,
    key_env: str | None,
    seeds: int,
    timeout: float,
    backgrounds: tuple[Path, ...],
    as_json: bool,
    **caps: Any,
) -> None:
    """Let a chat model read RUN's conclusion under a neutral prompt."""
    from blackbox_diff.config.model import parse_budget, parse_endpoint
    from blackbox_diff.explain.ask import explain_run

    def progress(seed: int, total: int) -> None:
        click.echo(f"reading {seed + 1} of {total} by {model}", err=True)

    given = {"url": url, "model": model, "key_env": key_env, "timeout_seconds": timeout}
    endpoint = parse_endpoint(given, "options")
    budget = parse_budget(caps, "options")
    found = explain_run(run, endpoint, seeds, budget, backgrounds=backgrounds, on_reading=progress)
    click.echo(json.dumps(found.as_dict()) if as_json else "\n".join(found.lines()))
