"""Commands that read a run and spend nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from blackbox_diff.cli import exit_codes
from blackbox_diff.cli.options import BACKGROUND, FAIL_ON, JSON, RUN, failure, renamed

METRICS = (  # kept here too, so that --help needs no numpy; a test compares
    "score", "gap_nats_per_token", "gap_bits_per_byte", "gap_total_nats", "peak_score", "ppl_target",
    "ppl_reference", "ppl_diff", "coverage", "pooled_score", "z_score", "residual_score", "mean_of_references",
    "min_of_references", "zlib_gap", "recurrence",
)  # fmt: skip
F = TypeVar("F", bound=Callable[..., Any])


def ranking_options(command: F) -> F:
    for option in (
        click.option("--reference", metavar="NAME", help="The reference model; the run's first by default."),
        click.option(
            "--metric", default="pooled_score", metavar="NAME", help=f"What to rank by: {', '.join(METRICS)}."
        ),
    ):
        command = option(command)
    return command


@click.command()
@RUN
@ranking_options
@click.option("--top", type=click.IntRange(min=1), default=20, metavar="N", help="How many rows.")
@click.option(
    "--json", "as_json", is_flag=True, help="One object a line, the whole ranking unless --top is given."
)
@click.pass_context
def rank(ctx: click.Context, run: Path, reference: str | None, metric: str, top: int, as_json: bool) -> None:
    """The ranking of RUN."""
    from blackbox_diff.report.export import rank_row
    from blackbox_diff.report.terminal import ranking_lines
    from blackbox_diff.run.results import read_run

    rows = read_run(run, reference=reference, metric=metric, promoted=False).analysis.ranking
    given = ctx.get_parameter_source("top") is click.core.ParameterSource.COMMANDLINE
    if as_json:
        for row in rows[:top] if given else rows:
            click.echo(json.dumps(rank_row(row), ensure_ascii=True, allow_nan=False))
        return
    for line in ranking_lines(rows[:top], metric=metric):
        click.echo(line)


@click.command()
@RUN
@ranking_options
@BACKGROUND
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
@click.pass_context
def themes(
    ctx: click.Context, run: Path, reference: str | None, metric: str, backgrounds: tuple[Path, ...], as_json: bool
) -> None:
    """What recurs in RUN, written or nearly written, and is rare in the reference's own completions.

    Where RUN is a fleet's directory: what its models share, and what only one of them has.
    """
    from blackbox_diff.fleet import themes as of_fleets
    from blackbox_diff.fleet.index import is_fleet, read_index

    if is_fleet(run):
        options = ("reference", "metric", "backgrounds")
        if any(ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE for name in options):
            raise click.UsageError(
                f"{run} is a fleet: --reference, --metric and --background are for one run of it"
            )
        families = of_fleets.themes_of(run, read_index(run).rows)
        for line in [each.model_dump_json() for each in families] if as_json else of_fleets.lines(families):
            click.echo(line)
        return
    from blackbox_diff.report.conclusion import entry_part
    from blackbox_diff.report.terminal import entry_lines
    from blackbox_diff.report.wording import recurring, weak_signals
    from blackbox_diff.run.results import read_run

    analysis = read_run(run, reference=reference, metric=metric, backgrounds=backgrounds).analysis
    found, weak = recurring(analysis)
    for line in [entry_part(entry).model_dump_json() for entry in found] if as_json else entry_lines(found):
        click.echo(line)
    if weak and not as_json:
        click.echo(weak_signals(weak, 10))


@click.command()
@RUN
@ranking_options
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write the explorer here.")
@click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), help="Also write a Markdown summary.")
@click.option(
    "--control-run",
    "benign",
    type=click.Path(path_type=Path),
    metavar="RUN2",
    help="A run of a model with nothing to find, as a second control.",
)
@renamed("--control", "--control-run", metavar="RUN2")
@click.option(
    "--bank",
    "bank_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Harmless models to compare with, made by `calibrate`; the shipped ones by default.",
)
@click.option(
    "--notes",
    "notes_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Notes that the page exported: they are in the files that this command writes.",
)
@BACKGROUND
@JSON
@FAIL_ON
def report(
    run: Path,
    reference: str | None,
    metric: str,
    html: Path | None,
    markdown: Path | None,
    benign: Path | None,
    bank_file: Path | None,
    notes_file: Path | None,
    backgrounds: tuple[Path, ...],
    as_json: bool,
    fail_on: tuple[str, ...],
) -> int:
    """Terminal summary of RUN; --html writes a self-contained explorer."""
    from blackbox_diff.report.write import write_reports
    from blackbox_diff.run.bank import read_bank
    from blackbox_diff.run.results import read_run

    read = partial(
        read_run,
        run,
        reference=reference,
        metric=metric,
        benign=benign,
        backgrounds=backgrounds,
        bank="shipped" if bank_file is None else read_bank(bank_file),
    )
    results = read(side_by_side=html is not None)
    notes = None
    if notes_file is not None:
        from blackbox_diff.report.notes import read_notes

        summary = results.summary
        notes = read_notes(notes_file, run=str(run), created=summary.created, known=results.analysis.order)
        if html is None and markdown is None:
            html = run / "report.html"
            results = read(side_by_side=True)
    write_reports(results, html=html, markdown_file=markdown, notes=notes)
    if as_json:
        from blackbox_diff.report.conclusion import as_json as to_json
        from blackbox_diff.report.conclusion import conclude

        click.echo(to_json(conclude(results)))
        return failure(fail_on, results.analysis.verdict.outcome)
    from rich.console import Console

    from blackbox_diff.report.terminal import render

    render(results.analysis, results.summary, Console())
    for path in (html, markdown):
        if path is not None:
            click.echo(f"wrote {path}")
    return failure(fail_on, results.analysis.verdict.outcome)


@click.command()
@RUN
@ranking_options
@click.option(
    "--keywords",
    "keyword_file",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSON: a list of words, or groups and patterns (docs/exports.md); or .txt, a word a line.",
)
@click.option("--json", "as_json", is_flag=True)
def evaluate(run: Path, reference: str | None, metric: str, keyword_file: Path, as_json: bool) -> None:
    """count@10, count@100 and first rank of RUN against known keywords."""
    from blackbox_diff.analysis.keywords import Keywords, evaluate_ranking
    from blackbox_diff.run.results import read_run

    keywords = Keywords.read(keyword_file)
    found = evaluate_ranking(
        read_run(run, reference=reference, metric=metric, promoted=False).analysis.ranking, keywords
    )
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in found.items():
        click.echo(f"{name:<14}{'none' if value is None else value}")


@click.command()
@RUN
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@ranking_options
@click.option(
    "--written-by",
    type=click.Choice(["target", "control"]),
    default="target",
    help="Whose completions: the target's, or the reference's own, which are the control.",
)
@renamed("--control", "--written-by control", is_flag=True)
def export(run: Path, file: Path, reference: str | None, metric: str, written_by: str) -> None:
    """Write RUN to FILE as .jsonl, .csv, .parquet (every row), .md (the summary) or .eval (a log of Inspect)."""
    from blackbox_diff.report.write import export_run

    written = export_run(run, file, reference=reference, metric=metric, control=written_by == "control")
    rows = "the summary" if file.suffix.lower() == ".md" else f"{written} rows"
    click.echo(f"wrote {rows} to {file}")


@click.command()
@RUN
@click.option("--digest", metavar="HEX", help="A digest of RUN that was kept elsewhere, which it must have had.")
def verify(run: Path, digest: str | None) -> int:
    """Check RUN by its digests, and derive every stored value again from the raw replies and calls."""
    from blackbox_diff.run.verify import verify_run

    checked = verify_run(run, digest)
    for line in (*checked.problems, *checked.notes):
        click.echo(line, err=True)
    click.echo(checked.sentence())
    if checked.digest is not None:
        click.echo(f"digest: {checked.digest}")
    return exit_codes.FAIL_ON if checked.problems else exit_codes.DONE


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--reference", metavar="NAME", help="Which reference's scores; the first run's first by default.")
@click.option("--base", metavar="NAME", help="What the models were finetuned from; the reference by default.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The bank's file.")
def calibrate(runs: tuple[Path, ...], reference: str | None, base: str | None, out: Path) -> None:
    """Make a bank of the harmless models that RUNS audited, for `report RUN --bank FILE` to compare with."""
    from blackbox_diff.run.bank import written
    from blackbox_diff.run.calibrate import bank_of

    bank = bank_of(runs, reference=reference, base=base)
    try:
        out.write_text(written(bank), encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"--out: {out}: {error.strerror or error}") from None
    least = 1 / (len(bank.members) + 1)
    click.echo(f"wrote {out}: {len(bank.members)} harmless models, so that p can be {least:.3f} at the least")
