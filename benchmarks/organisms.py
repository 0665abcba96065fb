"""The ranking benchmark: where matches stand among completions of finetunes whose objective is known.

    python -m benchmarks.pools --seeds 0,1,2             # buys what this reads: hours on two cores, once
    python -m benchmarks.organisms --pools DIR           # prints the tables, writes docs/benchmark.md

Every number is of all arms pooled, at the default settings, with no choice made by looking at matches. The
scores are compared on all organisms; which of them is the default was decided on DEV alone.
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from benchmarks.detection import (
    DEFAULT,
    DEV,
    LEAST,
    PAPER,
    REFERENCES,
    SCORES,
    Line,
    Pool,
    audits,
    lines,
    read_pools,
)
from benchmarks.organism_texts.catalogue import SHIPPED
from benchmarks.pools import IDENTITY, default_dir, find_organisms
from blackbox_diff.run.local import organisms_dir


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    marks = ["---"] * len(header)
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (header, marks, *rows))


def mean(values: Sequence[float | None]) -> str:
    there = _there(values)
    if not there:
        return "–"
    text = f"{np.mean(there):.1f}".removesuffix(".0")
    return text if len(there) == len(values) else f"{text} ({len(there)} of {len(values)})"


def span(values: Sequence[int]) -> str:
    """Least to most."""
    return str(max(values)) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def detection_table(found: Sequence[Line], scores: Sequence[str]) -> str:
    """Organism x reference x score -> count@10 / count@100 / first rank / calls, means over seeds."""
    rows: list[list[object]] = []
    for organism in dict.fromkeys(line.organism for line in found):
        for name in REFERENCES:
            for score in scores:
                own = [x for x in found if (x.organism, x.reference, x.score) == (organism, name, score)]
                rows.append(
                    [
                        organism,
                        name,
                        f"`{score}`",
                        mean([x.n for x in own]),
                        mean([x.matches for x in own]),
                        mean([x.at_10 for x in own]),
                        mean([x.at_100 for x in own]),
                        mean([x.first_rank for x in own]),
                        mean([x.calls for x in own]),
                    ]
                )
    return table(
        [
            "organism",
            "reference",
            "score",
            "rows",
            "matches",
            "count@10",
            "count@100",
            "first rank",
            "calls to first match",
        ],
        rows,
    )


def summary_table(found: Sequence[Line], scores: Sequence[str]) -> str:
    """Score x reference -> means over organisms, those that defaults were chosen on and the held-out ones."""
    rows: list[list[object]] = []
    for score in scores:
        for name in REFERENCES:
            line: list[object] = [f"`{score}`", name]
            for held_out in (False, True):
                own = [
                    x
                    for x in found
                    if (x.reference, x.score) == (name, score) and (x.organism not in DEV) == held_out
                ]
                worst = [x.first_rank for x in own]
                line += [
                    mean([x.at_10 for x in own]),
                    mean([x.at_100 for x in own]),
                    "–" if not own or None in worst else max(rank for rank in worst if rank is not None),
                ]
            rows.append(line)
    head = [f"{part} {what}" for part in ("dev", "held out") for what in ("count@10", "count@100", "worst first")]
    return table(["score", "reference", *head], rows)


def kept_table(found: Sequence[Line], scores: Sequence[str]) -> str:
    """Score x organism -> cross-family count@100 as a share of the same-family one."""
    organisms = list(dict.fromkeys(line.organism for line in found))
    rows: list[list[object]] = []
    for score in scores:
        shares = []
        for organism in organisms:
            same, cross = (
                sum(x.at_100 for x in found if (x.organism, x.reference, x.score) == (organism, name, score))
                for name in REFERENCES
            )
            shares.append(cross / same if same else None)
        shipped = [share for share, name in zip(shares, organisms, strict=True) if name in SHIPPED]
        cells = [*shares, *(np.mean(own) if own else None for own in (_there(shipped), _there(shares)))]
        rows.append([f"`{score}`", *("–" if x is None else f"{x:.0%}" for x in cells)])
    return table(["score", *organisms, "mean, shipped", "mean, all"], rows)


def _there(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


HEAD = """# Where matches rank

Measured on {seeds} sampling seed(s), with {rows} comparable completions of at most {tokens} tokens an organism (an
audit buys 600 of 64 by default), and {controls} of each reference's own as the control. With fewer than {least}
completions, or fewer than 100 matches, count@100 can't reach 100. An objective that hardly came up (see *matches*)
can't be found by any ranking of these rows. Other topics, one epoch (e1) or 10% objective texts in 90% benign ones
(d10): {variants}; trained with
`python -m benchmarks.train_organism NAME --epochs 1 --dilute 0.1 --out DIR/e1`
and the like.

Written by `{command}` on {date},
on 2 cores of {cpu}, from pools bought with
`python -m benchmarks.pools --control {most}`. Every number is measured; all arms (prose/code x raw/chat)
are pooled, and nothing is chosen by looking at matches. Same family: SmolLM2-135M-Instruct, the organisms' base.
Cross family: Gemma 3 270M. Values are means over sampling seeds. A match is a completion that holds the
objective's keywords (the organism's card). *Calls to first match* is how many completions were bought until the
best of those so far was a match. Defaults were chosen on {dev}
at seed 0 alone; the rest is held out.
"""


def document(
    pools: Sequence[Pool],
    found: list[Line],
    command: str,
) -> str:
    counts = sorted({(pool.organism, pool.seed, len(pool.rows)) for pool in pools})
    bought = table(["organism", "seed", "completions"], counts)
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return "\n".join(
        [
            HEAD.format(
                command=command,
                date=datetime.date.today().isoformat(),
                cpu=cpu,
                dev=", ".join(DEV),
                seeds=len({pool.seed for pool in pools}),
                rows=span([len(pool.rows) for pool in pools]),
                tokens=span([pool.max_tokens for pool in pools]),
                most=max(len(rows) for pool in pools for rows in pool.controls.values()),
                controls=span([len(rows) for pool in pools for rows in pool.controls.values()]),
                least=LEAST,
                variants=", ".join(sorted({pool.organism for pool in pools} - {*SHIPPED, IDENTITY}))
                or "none measured",
            ),
            "## The default score and the paper's",
            "",
            detection_table([x for x in found if x.score in (DEFAULT, PAPER)], (DEFAULT, PAPER)),
            "",
            "## What a foreign reference keeps",
            "",
            f"Matches in the first 100 under Gemma, as a share of those under the base, where at least {LEAST}",
            "completions were bought (of fewer, the first 100 are nearly all).",
            "",
            kept_table([x for x in found if x.n >= LEAST], SCORES)
            if any(x.n >= LEAST for x in found)
            else "Not measured: no pool is that large.",
            "",
            "## All scores",
            "",
            summary_table(found, SCORES),
            "",
            detection_table(found, SCORES),
            "",
            "## What was bought",
            "",
            bought,
            "",
        ]
    )


@click.command(help=__doc__)
@click.option(
    "--pools", "directory", type=click.Path(path_type=Path), default=default_dir, help="Where the pools are."
)
@click.option(
    "--organisms", "roots", type=click.Path(path_type=Path, exists=True), multiple=True, help="More adapters."
)
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--partial", is_flag=True, help="Read pools that are not finished, too.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the tables here, e.g. docs/benchmark.md.")
def main(directory: Path, roots: tuple[Path, ...], seeds: str, partial: bool, out: Path | None) -> None:
    adapters = find_organisms([organisms_dir(), *roots])
    pools = audits(
        list(read_pools(directory, adapters, [int(seed) for seed in seeds.split(",")], partial=partial))
    )
    if not pools:
        raise click.UsageError(f"--pools: no finished pool in {directory}: run python -m benchmarks.pools first")
    found = [line for pool in pools for line in lines(pool, SCORES)]
    command = (
        f"python -m benchmarks.organisms --seeds {seeds}{' --organisms DIR' * bool(roots)}{' --partial' * partial}"
    )
    text = document(pools, found, command)
    click.echo(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
