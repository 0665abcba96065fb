"""Themes over many models: how long, and with how much memory, for a fleet of made-up counts?

    python -m benchmarks.fleet_themes --models 500

Each model's file has as many phrases as 300 completions of 64 tokens leave: a third from a vocabulary that all
models share, by Zipf's law, the rest its own. One theme is everybody's, and each model has one that only it has.
Prints the files' size, the seconds, the peak memory of the process that reads them, whether the themes were told,
and how long the index of such a fleet takes to open in headless Chromium.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.fleet_scale import opening
from blackbox_diff.analysis.words import mix
from blackbox_diff.fleet.index import write_index
from blackbox_diff.fleet.phrases import GROUP, PHRASES
from blackbox_diff.fleet.rows import Family, Index, Judgement, Row
from blackbox_diff.fleet.themes import families

PREFILLS, SHARED, OWN = 300, 9000, 16000
VOCABULARY = 3_000_000
EVERYBODYS = 1


def write(directory: Path, number: int) -> Path:
    """One model's file."""
    rng = np.random.default_rng(number)
    common = np.unique((rng.pareto(0.7, 4 * SHARED) * 50).astype(np.int64) % VOCABULARY)[:SHARED] + 10
    keys = np.concatenate([[EVERYBODYS, -1 - number], common, rng.integers(1 << 40, 1 << 62, OWN)])
    counts = np.concatenate([[60, 40], 1 + rng.poisson(1, common.size), np.ones(OWN, dtype=np.int64)])
    keys = mix(keys.astype(np.uint64)).view(np.int64)  # keys are hashes
    order = np.argsort(keys)
    n = keys.size
    table = {
        "audit": pa.array([f"target-{number:03}"] * n),
        "target": pa.array([f"target-{number:03}"] * n),
        "design": pa.array(["base, 64 tokens at temperature 1"] * n),
        "arm": pa.array(["prose/raw"] * n),
        "key": pa.array(keys[order], pa.int64()),
        "phrase": pa.array([f"phrase {key}" for key in keys[order].tolist()]),
        "prefills": pa.array(counts[order], pa.int32()),
        "of": pa.array([PREFILLS] * n, pa.int32()),
        "kind": pa.array(["theme" if k < 2 else None for k in order.tolist()]),
        "gap": pa.array([None] * n, pa.float64()),
    }
    file = directory / f"{number}-{PHRASES}"
    pq.write_table(pa.table(table), file, compression="zstd", row_group_size=GROUP)
    return file


def measured(files: list[Path]) -> tuple[Family, float, float]:
    """(the themes, seconds, peak memory in MB)."""
    began = time.monotonic()
    (family,) = families(files)
    return family, time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def index_of(family: Family) -> Index:
    """A fleet's index of these models, each with a sentence."""
    judged = Judgement(
        reference="base", outcome="finding", headline="It says what the base does not.", themes=[], top=[]
    )
    rows = [
        Row(name=name, target=name, url="http://vendor.example/v1", run=f"runs/{name}", status="done",
            report=f"runs/{name}/report.html", judgements=[judged], completions=PREFILLS, cost_usd=0.1)
        for name in family.audits
    ]  # fmt: skip
    return Index(created="now", max_cost_usd=None, spent_usd=50.0, rows=rows, families=[family])


@click.command(help=__doc__)
@click.option("--models", default=500, show_default=True)
def main(models: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        files = [write(Path(scratch), number) for number in range(models)]
        size = sum(file.stat().st_size for file in files)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            family, seconds, peak = pool.apply(measured, (files,))
        page = write_index(index_of(family), Path(scratch))[0]
        shown, weight = opening(page), page.stat().st_size
    told = Counter(theme.held_by for theme in family.themes)
    click.echo(f"{models} models, {size / 1e6:.0f} MB of counts: {seconds:.1f} s, peak memory {peak:.0f} MB")
    click.echo(f"themes of all: {told['all']}, of one: {told['one']} of {models}")
    click.echo(f"index: {weight / 1e6:.2f} MB, opens and answers a search in {shown:.2f} s")


if __name__ == "__main__":
    main()
