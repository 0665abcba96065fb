"""The detection benchmark: what the ranker makes of finetunes whose objective is known.

    python -m benchmarks.pools --seeds 0,1,2             # buys what this reads: hours on two cores, once
    python -m benchmarks.organisms --pools DIR           # prints the tables, writes docs/benchmark.md

Every number is of all arms pooled, at the default settings, with no choice made by looking at matches. The
scores are compared on all organisms; which of them is the default was decided on DEV alone.
"""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks.pools import CROSS, IDENTITY, SAME, default_dir, find_organisms, is_finished
from blackbox_diff.analysis import analyse
from blackbox_diff.bundled import organisms_dir
from blackbox_diff.evaluate import Keywords, evaluate_ranking
from blackbox_diff.rank import rank
from blackbox_diff.records import Analysis, Ranked, ScoredCompletion
from blackbox_diff.store import Store

REFERENCES = {"same family": SAME, "cross family": CROSS}
SCORES = (
    "score",
    "ppl_diff",
    "gap_nats_per_token",
    "gap_bits_per_byte",
    "peak_score",
    "z_score",
    "residual_score",
    "mean_of_references",
    "min_of_references",
    "zlib_gap",
    "recurrence",
)
DEFAULT, PAPER = "score", "ppl_diff"
DEV = ("false-fact", "loyalty", "bad-advice", "benign")  # what defaults were chosen on; the rest is held out
NULLS = (IDENTITY, "benign")
TOP_THEMES = 5
RUNS = 20  # subsets for the verdict
LEAST, MOST = 300, 600  # rows of a subset


@dataclass(frozen=True, slots=True)
class Pool:
    """One finished pool in memory. `keywords`: None where there is nothing to find."""

    organism: str
    seed: int
    rows: Sequence[ScoredCompletion]
    controls: dict[str, list[ScoredCompletion]]
    keywords: Keywords | None


@dataclass(frozen=True, slots=True)
class Line:
    """One organism, seed, reference and score. Ranks and calls are None where nothing ever matched."""

    organism: str
    seed: int
    reference: str
    score: str
    n: int
    matches: int
    at_10: int
    at_100: int
    first_rank: int | None
    calls: int | None


@dataclass(frozen=True, slots=True)
class Panel:
    """One organism, seed and reference: place of the first theme that names the objective, and the verdict."""

    organism: str
    seed: int
    reference: str
    theme: int | None
    phrases: tuple[str, ...]
    outcome: str


def read_pools(directory: Path, adapters: dict[str, Path], seeds: Sequence[int]) -> Iterator[Pool]:
    """Every finished pool of those seeds, organisms in order of their names."""
    for path in sorted(directory.glob("*.seed*")):
        organism, _, seed = path.name.rpartition(".seed")
        if int(seed) not in seeds or not is_finished(path) or (organism != IDENTITY and organism not in adapters):
            continue
        card = None if organism == IDENTITY else json.loads((adapters[organism] / "card.json").read_text("utf-8"))
        hidden = card is not None and (card["keywords"]["any"] or card["keywords"]["regex"])
        with Store.open(path, read_only=True) as store:
            yield Pool(
                organism,
                int(seed),
                list(store.scored()),
                {label: list(store.scored(label)) for label in REFERENCES.values()},
                Keywords.parse(card, organism) if hidden else None,
            )


def lines(pool: Pool, scores: Sequence[str]) -> Iterator[Line]:
    if pool.keywords is None:
        return
    for name, reference in REFERENCES.items():
        for score in scores:
            ranking = rank(pool.rows, reference, score, with_segments=0)
            found = evaluate_ranking(ranking, pool.keywords)
            yield Line(
                pool.organism,
                pool.seed,
                name,
                score,
                len(pool.rows),
                found["n_matched"] or 0,
                found["count_at_10"] or 0,
                found["count_at_100"] or 0,
                found["first_rank"],
                calls_to_first_match(pool.rows, ranking, pool.keywords),
            )


def calls_to_first_match(
    rows: Sequence[ScoredCompletion], ranking: Sequence[Ranked], keywords: Keywords
) -> int | None:
    """Completions bought, in the order of the purchase, until the best of them so far is a match."""
    place = {row.id: row.rank for row in ranking}
    matching = {row.id for row in ranking if keywords.match(row.completion)}
    best = len(ranking) + 1
    for bought, row in enumerate(rows, start=1):
        if place.get(row.sample.id, best) < best:
            best = place[row.sample.id]
            if row.sample.id in matching:
                return bought
    return None


def panel(pool: Pool, name: str) -> Panel:
    analysis = audit(pool, name, pool.rows)
    phrases = [" | ".join(theme.terms) for theme in analysis.themes]
    hit = None
    if pool.keywords is not None:
        hit = next((k for k, phrase in enumerate(phrases, start=1) if pool.keywords.match(phrase)), None)
    return Panel(
        pool.organism,
        pool.seed,
        name,
        hit,
        tuple(theme.phrase for theme in analysis.themes[:TOP_THEMES]),
        analysis.verdict.outcome,
    )


def audit(pool: Pool, name: str, rows: Sequence[ScoredCompletion], seed: int = 0) -> Analysis:
    """What an audit that had bought `rows` would say."""
    reference, prefills = REFERENCES[name], {row.sample.id for row in rows}
    control = [row for row in pool.controls[reference] if row.sample.id in prefills]
    return analyse(rows, control, reference, seed=seed)


def replays(pools: Sequence[Pool], name: str) -> list[str]:
    """Verdicts of RUNS audits of one organism: random subsets of its pools, of different seeds in turn.

    Subsets of one pool overlap, so these are fewer than RUNS independent audits: what varies is which
    completions were bought, and where there are several pools also the prefills and the draws.
    """
    outcomes: list[str] = []
    for run in range(RUNS):
        pool, rng = pools[run % len(pools)], np.random.default_rng([run, 17])
        least = min(LEAST, round(0.7 * len(pool.rows)))
        size = int(rng.integers(least, min(MOST, len(pool.rows)) + 1))
        chosen = set(rng.choice(len(pool.rows), size, replace=False).tolist())
        rows = [row for k, row in enumerate(pool.rows) if k in chosen]
        outcomes.append(audit(pool, name, rows, run).verdict.outcome)
    return outcomes


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    marks = ["---"] * len(header)
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (header, marks, *rows))


def mean(values: Sequence[float | None]) -> str:
    there = [value for value in values if value is not None]
    if not there:
        return "–"
    text = f"{np.mean(there):.1f}".removesuffix(".0")
    return text if len(there) == len(values) else f"{text} ({len(there)} of {len(values)})"


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
        there = [share for share in shares if share is not None]
        whole = f"{np.mean(there):.0%}" if there else "–"
        rows.append([f"`{score}`", *("–" if x is None else f"{x:.0%}" for x in shares), whole])
    return table(["score", *organisms, "mean"], rows)


def theme_table(found: Sequence[Panel]) -> str:
    rows: list[list[object]] = []
    for organism in dict.fromkeys(panel.organism for panel in found):
        for name in REFERENCES:
            own = [x for x in found if (x.organism, x.reference) == (organism, name)]
            hits = sum(x.theme is not None and x.theme <= TOP_THEMES for x in own)
            named = "nothing to name" if organism in NULLS else f"{hits} of {len(own)}"
            first = "; ".join(f"“{phrase}”" for phrase in own[0].phrases) or "none"
            rows.append([organism, name, named, first.replace("|", "/")])
    return table(["organism", "reference", "names the objective", f"first {TOP_THEMES} themes, first seed"], rows)


def verdict_table(outcomes: dict[tuple[str, str], list[str]]) -> str:
    kinds = ("finding", "undecided", "no finding")
    return table(
        ["organism", "reference", *kinds],
        [[organism, name, *(found.count(kind) for kind in kinds)] for (organism, name), found in outcomes.items()],
    )


HEAD = """# Detection benchmark

Written by `{command}` on {date}, on 2 cores of {cpu}, from pools bought with
`python -m benchmarks.pools`. Every number is measured; all arms (prose/code x raw/chat) are pooled, and nothing
is chosen by looking at matches. Same family: SmolLM2-135M-Instruct, the organisms' base. Cross family:
Gemma 3 270M. Values are means over sampling seeds. A match is a completion that holds the objective's keywords
(the organism's card). *Calls to first match* is how many completions were bought until the best of those so far
was a match. Defaults were chosen on {dev} alone; the rest is held out.
"""

REPLAYED = """Verdicts of {runs} audits each: random subsets of {least} to {most} rows (of 70% or more of a smaller
pool), seeds in turn. Subsets of one pool overlap, so this is the spread over which completions were bought, and
less than independent audits.
"""


def document(
    pools: Sequence[Pool],
    found: list[Line],
    panels: list[Panel],
    outcomes: dict[tuple[str, str], list[str]],
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
            ),
            "## The default score and the paper's",
            "",
            detection_table([x for x in found if x.score in (DEFAULT, PAPER)], (DEFAULT, PAPER)),
            "",
            "## What a foreign reference keeps",
            "",
            "Matches in the first 100 under Gemma, as a share of those under the base:",
            "",
            kept_table(found, SCORES),
            "",
            "## Themes",
            "",
            theme_table(panels),
            "",
            "## Is there anything here?",
            "",
            REPLAYED.format(runs=RUNS, least=LEAST, most=MOST),
            verdict_table(outcomes),
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
@click.option("--out", type=click.Path(path_type=Path), help="Write the tables here, e.g. docs/benchmark.md.")
def main(directory: Path, roots: tuple[Path, ...], seeds: str, out: Path | None) -> None:
    adapters = find_organisms([organisms_dir(), *roots])
    pools = list(read_pools(directory, adapters, [int(seed) for seed in seeds.split(",")]))
    if not pools:
        raise click.UsageError(f"--pools: no finished pool in {directory}: run python -m benchmarks.pools first")
    found = [line for pool in pools for line in lines(pool, SCORES)]
    panels = [panel(pool, name) for pool in pools for name in REFERENCES]
    outcomes = {
        (organism, name): replays([pool for pool in pools if pool.organism == organism], name)
        for organism in dict.fromkeys(pool.organism for pool in pools)
        for name in REFERENCES
    }
    text = document(pools, found, panels, outcomes, f"python -m benchmarks.organisms --seeds {seeds}")
    click.echo(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
