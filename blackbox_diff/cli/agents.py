"""`mcp`: the command that serves the audit's tools to an agent."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import click

from blackbox_diff.cli import exit_codes


@click.command()
@click.option(
    "--config",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.toml",
    help="Targets, references and caps: what no agent can change.",
)
@click.option(
    "--runs", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Folder of the agents' runs."
)
@click.option("--max-cost", type=float, metavar="USD", help="Hard cap on what everything here costs.")
@click.option("--max-calls", type=int, metavar="N", help="Hard cap on all calls.")
@click.option("--max-output-tokens", type=int, metavar="N", help="Hard cap on all tokens bought.")
def mcp(
    config: Path,
    runs: Path | None,
    max_cost: float | None,
    max_calls: int | None,
    max_output_tokens: int | None,
) -> int:
    """Serve the audit's tools to an agent, over stdin and stdout (MCP).

    Options stand over [limits] of FILE.toml. The caps are over all runs in the folder together, those of earlier
    sessions included. stdout carries the protocol alone.
    """
    from importlib.util import find_spec

    from blackbox_diff.agents.limits import read_limits
    from blackbox_diff.errors import ConfigError

    if find_spec("mcp") is None:
        raise ConfigError("the MCP server needs the package mcp: pip install 'blackbox-diff[mcp]'")
    limits = read_limits(
        config,
        runs=None if runs is None else str(runs),
        max_cost=max_cost,
        max_calls=max_calls,
        max_output_tokens=max_output_tokens,
    )
    for endpoint in (*limits.targets.values(), *limits.references.values()):
        endpoint.key()  # a key that is missing is said before a client connects

    from blackbox_diff.agents.mcp import serve

    async def run() -> None:
        until = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, until.set)
        if not await serve(limits, until):
            os._exit(exit_codes.INTERRUPTED)  # the thread that reads stdin would wait for a line for ever

    asyncio.run(run())
    return exit_codes.DONE
