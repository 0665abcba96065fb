"""What leaves the program as files: reports and exported rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from blackbox_diff.analysis.rank import DEFAULT
from blackbox_diff.errors import InputError
from blackbox_diff.report import export, inspect_log, markdown
from blackbox_diff.report import html as explorer
from blackbox_diff.report.notes import Notes
from blackbox_diff.run.completions import written
from blackbox_diff.run.results import Results, read_run


def write_reports(
    results: Results, *, html: Path | None = None, markdown_file: Path | None = None, notes: Notes | None = None
) -> None:
    """Write the reports asked for. Raises InputError naming the file that can't be written."""
    if html is not None:
        _write(html, explorer.render(results.analysis, results.summary, results.others, notes))
    if markdown_file is not None:
        _write(markdown_file, markdown.render(results.analysis, results.summary, notes=notes))


def export_run(
    run: Path, file: Path, *, reference: str | None = None, metric: str = DEFAULT, control: bool = False
) -> int:
    """The ranking of `run` in the format of `file`'s suffix, or its control's; returns the number of rows.

    Raises InputError for another suffix, for a format whose package is missing, or a file that can't be written.
    """
    results = read_run(run, reference=reference, metric=metric)
    if control:
        results = replace(
            results, analysis=replace(results.analysis, ranking=results.analysis.controls, controls=())
        )
    if file.suffix.lower() == inspect_log.SUFFIX:
        return inspect_log.write(file, results, written(run, results.analysis.reference, control=control))
    return export.write(file, results.analysis, results.summary)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: can't be written: {error.strerror or error}") from None
