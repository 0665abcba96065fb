"""What leaves the program: report files, exported rows and the object that `--json` prints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from blackbox_diff.analysis.rank import DEFAULT
from blackbox_diff.errors import InputError
from blackbox_diff.findings import Validation
from blackbox_diff.report import export, markdown
from blackbox_diff.report import html as explorer
from blackbox_diff.run.results import Results, read_run


def validation_row(found: Validation) -> dict[str, Any]:
    """One theme's validation as plain data."""
    difference = found.difference
    return {
        "phrase": found.phrase,
        "confirmed": found.confirmed,
        "target": {"hits": found.target[0], "n": found.target[1]},
        "reference": {"hits": found.reference[0], "n": found.reference[1]},
        "difference": None if difference is None else difference.value,
        "interval": None if difference is None else [difference.low, difference.high],
        "level": None if difference is None else difference.level,
        "contexts": list(found.contexts),
    }


def summary_object(results: Results) -> dict[str, Any]:
    """What `audit --json` prints."""
    analysis, summary = results.analysis, results.summary
    return {
        "run": summary.run,
        "calls": summary.calls,
        "completions": summary.completions,
        "output_tokens": summary.output_tokens,
        "cost_usd": summary.cost_usd,
        "stopped_because": summary.stopped_because,
        "verdict": asdict(analysis.verdict),
        "arms": {arm.name: asdict(arm) for arm in analysis.arms},
        "warnings": list(summary.warnings),
        "themes": [export.theme_row(theme) for theme in analysis.themes],
        "validation": [validation_row(found) for found in analysis.validation],
        "rounds": list(summary.rounds),
        "control": None
        if analysis.control is None
        else {
            "name": analysis.control.name,
            "n": analysis.control.n,
            "max_score": analysis.control.max_score,
            "mean_gap": analysis.control.mean_gap,
        },
    }


def write_reports(results: Results, *, html: Path | None = None, markdown_file: Path | None = None) -> None:
    """Write the reports asked for. Raises InputError naming the file that can't be written."""
    if html is not None:
        _write(html, explorer.render(results.analysis, results.summary))
    if markdown_file is not None:
        _write(markdown_file, markdown.render(results.analysis, results.summary))


def export_run(run: Path, file: Path, *, reference: str | None = None, metric: str = DEFAULT) -> int:
    """The ranking of `run` in the format of `file`'s suffix; returns the number of rows."""
    results = read_run(run, reference=reference, metric=metric)
    return export.write(file, results.analysis, results.summary)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: can't be written: {error.strerror or error}") from None
