"""What a collecting command shows once it has stopped, for whatever reason."""

from __future__ import annotations

import json
from pathlib import Path

import click

from blackbox_diff.errors import NotAuditableError
from blackbox_diff.report.terminal import render
from blackbox_diff.report.write import summary_object, write_reports
from blackbox_diff.run.results import read_run, unscored


def finish(exit_code: int, run: Path, as_json: bool, reference: str | None = None) -> int:
    """Write the HTML report, print the findings, and return the command's exit code."""
    again = f"go on with: blackbox-diff resume {run}"
    empty = unscored(run)
    if empty is not None:
        click.echo(f"{empty}; {again}", err=True)
        return exit_code or NotAuditableError.exit_code
    results = read_run(run, reference=reference)
    html = run / "report.html"
    write_reports(results, html=html)
    if as_json:
        click.echo(json.dumps(summary_object(results), allow_nan=False))
        return exit_code
    from rich.console import Console

    render(results.analysis, results.summary, Console())
    click.echo(f"report: {html.resolve().as_uri()}")
    if exit_code in (3, 130):
        click.echo(f"stopped: {results.summary.stopped_because}; {again}", err=True)
    return exit_code
