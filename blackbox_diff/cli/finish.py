"""What a collecting command shows once it has stopped, for whatever reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from blackbox_diff.cli.exit_codes import INTERRUPTED, NOT_AUDITABLE, STOPPED, error_json
from blackbox_diff.cli.options import failure
from blackbox_diff.report.conclusion import as_json as to_json
from blackbox_diff.report.conclusion import conclude
from blackbox_diff.report.terminal import render
from blackbox_diff.report.write import write_reports
from blackbox_diff.run.results import read_run, unscored


def finish(
    exit_code: int, run: Path, as_json: bool, reference: str | None = None, fail_on: Sequence[str] = ()
) -> int:
    """Write the HTML report, print the findings, and return the command's exit code."""
    again = f"go on with: blackbox-diff resume {run}"
    empty = unscored(run)
    if empty is not None:
        code = exit_code or NOT_AUDITABLE
        if as_json:
            click.echo(error_json(f"{empty}; {again}", code))
        click.echo(f"{empty}; {again}", err=True)
        return code
    results = read_run(run, side_by_side=True)
    html = run / "report.html"
    write_reports(results, html=html)  # with the run's first reference first, whatever was added since
    results = results.under(reference)
    code = exit_code or failure(fail_on, results.analysis.verdict.outcome)
    if as_json:
        click.echo(to_json(conclude(results)))
        return code
    from rich.console import Console

    render(results.analysis, results.summary, Console())
    click.echo(f"report: {html.resolve().as_uri()}")
    if results.summary.digest is not None:
        click.echo(f"digest: {results.summary.digest}  (kept elsewhere, it shows whether the run was made anew)")
    if exit_code in (STOPPED, INTERRUPTED):
        click.echo(f"stopped: {results.summary.stopped_because}; {again}", err=True)
    return code
