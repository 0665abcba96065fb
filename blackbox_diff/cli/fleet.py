"""Many audits: two runs compared, and a fleet under one budget."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from blackbox_diff.cli import exit_codes
from blackbox_diff.cli.options import JSON, failure


@click.command()
@click.argument("plan", metavar="FLEET.toml", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--out", required=True, metavar="DIR", help="A directory, or a URL such as s3://bucket/audits.")
@click.option(
    "--engine",
    type=click.Choice(["local", "dask"]),
    default="local",
    show_default=True,
    help="Where the audits run: in this process, or on Dask's workers.",
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="A Dask scheduler's address; by default workers of this machine."
)
@click.option("--workers", type=click.IntRange(1, 256), default=2, show_default=True, help="Dask workers here.")
@click.option(
    "--since",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="OLD",
    help="An earlier fleet's DIR: its models are watched first, and only those that changed are audited anew.",
)
@click.option(
    "--fail-on",
    multiple=True,
    type=click.Choice(["finding", "changed", "failed"]),
    help=f"End with exit code {exit_codes.FAIL_ON} where a model has it; may be given more than once.",
)
@JSON
def fleet(
    plan: Path,
    out: str,
    engine: str,
    scheduler: str | None,
    workers: int,
    since: Path | None,
    fail_on: tuple[str, ...],
    as_json: bool,
) -> int:
    """Audit every target of FLEET.toml under one cap; what is done already is not bought again.

    Writes DIR/index.html, DIR/fleet.json and each audit's run and report below DIR/runs. One audit that fails
    fails its row only. Ends with 3 where a cap or an interruption left something to be resumed, whatever else
    there is to tell.
    """
    from blackbox_diff.fleet.engines import DaskEngine, Engine, LocalEngine
    from blackbox_diff.fleet.index import PAGE, lines
    from blackbox_diff.fleet.place import place_of
    from blackbox_diff.fleet.plan import read_fleet
    from blackbox_diff.fleet.rows import Index
    from blackbox_diff.fleet.schedule import run_fleet

    wanted, place = read_fleet(plan), place_of(out)
    if place.home is not None and since is not None:
        raise click.UsageError("--since: takes a fleet's directory, and --out is a URL")
    chosen: Engine = LocalEngine() if engine == "local" else DaskEngine(scheduler, workers)
    total = len(wanted.audits)

    def told(index: Index) -> None:
        place.publish(index)
        last = len(index.rows)
        click.echo(f"{last} of {total}: {lines(index)[-1]}", err=True)

    index = asyncio.run(run_fleet(wanted, place, chosen, told, since=since))
    place.publish(index)
    if as_json:
        click.echo(index.model_dump_json())
    else:
        for line in lines(index):
            click.echo(line)
        click.echo(f"index: {place.home}/{PAGE}" if place.home else f"index: {(place.out / PAGE).as_uri()}")
    unfinished = any(row.status in ("stopped", "not bought") for row in index.rows)
    if unfinished:
        return exit_codes.STOPPED
    told_of = {"changed" for row in index.rows if row.changed}
    told_of |= {said for row in index.rows for said in (row.outcome, row.status)}
    return exit_codes.FAIL_ON if told_of & set(fail_on) else exit_codes.DONE


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--reference", metavar="NAME", help="Whose scores to compare; the first that both have.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write a page of both here.")
@click.option(
    "--fail-on",
    multiple=True,
    type=click.Choice(["changed"]),
    help=f"End with exit code {exit_codes.FAIL_ON} on a change.",
)
@JSON
def compare(
    old: Path, new: Path, reference: str | None, html: Path | None, fail_on: tuple[str, ...], as_json: bool
) -> int:
    """What changed from run OLD to run NEW, and whether both audited the same model."""
    from blackbox_diff.fleet.compare import compare_runs, lines
    from blackbox_diff.fleet.compare_page import write_page

    found = compare_runs(old, new, reference=reference)
    if html is not None:
        write_page(found, html)
    for line in [found.model_dump_json(by_alias=True)] if as_json else lines(found):
        click.echo(line)
    return failure(fail_on, found.outcome)
