"""Themes over many models: what do all finetunes of one base share, what do some, and what has only one?

A model has a phrase where its own analysis lists it, beside the reference's completions: as a theme, a part of
one, a promoted word, or inside one of these. That only one model has it is said where it is commoner there than in
the other models of its design (analysis/counts.py), at a false discovery rate of 5% (Benjamini & Hochberg 1995)
over all pairs of a model and a phrase that recurs: also those that nobody lists, since what is listed was chosen
among them.

The counts are one Parquet file an audit, read by Arrow's engine in parts of the phrases, so that memory grows with
what is listed and not with what was written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from blackbox_diff.analysis.counts import commoner_p
from blackbox_diff.analysis.phrases import LEAST_PREFILLS
from blackbox_diff.analysis.promoted import FDR, benjamini_hochberg
from blackbox_diff.design.validation import same
from blackbox_diff.errors import BlackboxDiffError, InputError
from blackbox_diff.fleet.phrases import EXTRA, PHRASES, write_phrases
from blackbox_diff.fleet.rows import Family, FamilyTheme, Holder, Row
from blackbox_diff.run.results import read_run
from blackbox_diff.runfile.files import FILE
from blackbox_diff.sanitize import shorten, visible

AT_ONCE = 2_000_000  # rows of counts that are summed in one part
THRIFTY = {"fragment_readahead": 1, "batch_readahead": 2}  # files and batches that are held beside the current
MOST = 40  # themes that are told of all, and of some; and of one model a tenth of it


def themes_of(out: Path, rows: Sequence[Row]) -> list[Family]:
    """The themes of a fleet's audits, a family for each design that two of them share.

    out: what the rows' paths are relative to. What an earlier version audited is counted first. Raises InputError
    without pyarrow.
    """
    files = [file for row in rows if row.judgements for file in (_counted(out / row.run, row.name),) if file]
    if len(files) < 2:
        return []
    return families(files)


def _counted(run: Path, audit: str) -> Path | None:
    """The audit's file, made where it is missing or older than the run; None where there is nothing to count."""
    file = run / PHRASES
    try:
        if not file.is_file() or file.stat().st_mtime < (run / FILE).stat().st_mtime:
            write_phrases(read_run(run), audit, run)
    except (BlackboxDiffError, OSError):
        pass  # a run that was moved away, or can't be written to: what is there is read
    return file if file.is_file() else None


@dataclass(slots=True)
class _Listed:
    """One phrase of a design, by key: how it is written, and which audits list it how often, by arm."""

    phrase: str
    shown: bool = False  # whether one lists it as itself, and not inside something longer
    holders: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(slots=True)
class _Design:
    """Audits that can be compared.

    sizes: audit -> arm -> prefills. pooled: key -> arm -> prefills of all audits that hold it. recurring: phrases.
    """

    sizes: dict[str, dict[str, int]] = field(default_factory=dict)
    listed: dict[int, _Listed] = field(default_factory=dict)
    pooled: dict[int, dict[str, int]] = field(default_factory=dict)
    recurring: int = 0

    def table(self, audit: str, key: int) -> list[tuple[int, int, int, int]]:
        """What `commoner_p` takes."""
        held = self.listed[key].holders[audit]
        return [
            (held.get(arm, 0), ours, self.pooled.get(key, {}).get(arm, 0), self.total(arm))
            for arm, ours in self.sizes[audit].items()
        ]

    def total(self, arm: str) -> int:
        return sum(each.get(arm, 0) for each in self.sizes.values())


def families(files: Sequence[Path | str], filesystem: Any = None) -> list[Family]:
    """The themes of audits by their files. Raises InputError without pyarrow, and for what is no such file.

    filesystem: fsspec's, where the files are not on a disk.
    """
    try:
        import pyarrow as pa
        import pyarrow.dataset as ds
    except ImportError:
        raise InputError(f"themes over many models need pyarrow: {EXTRA}") from None
    try:
        designs: dict[str, list[str]] = {}
        for file in map(str, files):
            whole = ds.dataset(file, format="parquet", filesystem=filesystem)
            designs.setdefault(whole.head(1, columns=["design"])["design"][0].as_py(), []).append(file)
        read = {
            name: _read(ds.dataset(those, format="parquet", filesystem=filesystem))
            for name, those in designs.items()
            if len(those) > 1
        }
    except (pa.ArrowException, OSError, KeyError, IndexError) as error:
        raise InputError(f"phrases can't be read: {str(error).splitlines()[0]}") from None
    return [_family(name, each) for name, each in read.items()]


def _read(data: Any) -> _Design:
    import pyarrow.compute as pc

    found = _Design()
    for fragment in data.get_fragments():
        sizes = fragment.to_table(columns=["audit", "arm", "of"]).group_by(["audit", "arm", "of"]).aggregate([])
        for row in sizes.to_pylist():
            found.sizes.setdefault(row["audit"], {})[row["arm"]] = row["of"]
    columns = ["audit", "arm", "key", "phrase", "prefills", "kind"]
    listed = data.to_table(columns=columns, filter=pc.field("kind").is_valid(), **THRIFTY)
    for row in listed.to_pylist():
        one = found.listed.setdefault(row["key"], _Listed(row["phrase"]))
        if row["kind"] != "inside" and not one.shown:
            one.shown, one.phrase = True, row["phrase"]
        one.holders.setdefault(row["audit"], {})[row["arm"]] = row["prefills"]
    wanted = pc.field("key").isin(pc.unique(listed["key"]))
    for row in _summed(data, ["key", "arm"], wanted).to_pylist():
        found.pooled.setdefault(row["key"], {})[row["arm"]] = row["prefills_sum"]
    for part in _parts(data.count_rows()):
        sums = _summed(data, ["key"], part)["prefills_sum"]
        found.recurring += pc.sum(pc.greater_equal(sums, LEAST_PREFILLS)).as_py() or 0
    return found


def _summed(data: Any, by: list[str], wanted: Any) -> Any:
    table = data.to_table(columns=[*by, "prefills"], filter=wanted, **THRIFTY)
    return table.group_by(by).aggregate([("prefills", "sum")])


def _parts(rows: int) -> Iterator[Any]:
    """Conditions that split the keys, which are hashes, evenly."""
    import pyarrow.compute as pc

    edges = np.linspace(-(2.0**63), 2.0**63, 2 + rows // AT_ONCE)[1:-1].astype(np.int64).tolist()
    key = pc.field("key")
    for low, high in pairwise([None, *edges, None]):
        above = key.is_valid() if low is None else key >= low
        yield above if high is None else above & (key < high)


def _family(name: str, design: _Design) -> Family:
    pairs = [(key, audit) for key, one in design.listed.items() if one.shown for audit in one.holders]
    p = np.asarray([commoner_p(design.table(audit, key)) for key, audit in pairs])
    tests = design.recurring * len(design.sizes)
    q = dict(zip(pairs, benjamini_hochberg(p, tests).tolist(), strict=True))
    every = [_theme(key, design, q) for key, one in design.listed.items() if one.shown]
    told = [each for each in every if each.held_by != "one" or _q(each) <= FDR]
    return Family(
        design=name,
        audits=sorted(design.sizes),
        tests=tests,
        undecided=len(every) - len(told),
        themes=_distinct(sorted(told, key=_order)),
    )


def _theme(key: int, design: _Design, q: Mapping[tuple[int, str], float]) -> FamilyTheme:
    one = design.listed[key]
    holders = [
        Holder(
            audit=audit,
            prefills=sum(held.values()),
            of=sum(design.sizes[audit].values()),
            q_value=q[key, audit],
        )
        for audit, held in sorted(one.holders.items())
    ]
    everything = sum(map(sum, (each.values() for each in design.sizes.values())))
    return FamilyTheme(
        phrase=one.phrase,
        held_by="all" if len(holders) == len(design.sizes) else "one" if len(holders) == 1 else "some",
        holders=sorted(holders, key=lambda each: (-each.prefills / each.of, each.audit)),
        others=sum(design.pooled.get(key, {}).values()) - sum(each.prefills for each in holders),
        others_of=everything - sum(each.of for each in holders),
    )


def _q(theme: FamilyTheme) -> float:
    return min(each.q_value for each in theme.holders)


def _order(theme: FamilyTheme) -> tuple[float, ...]:
    """Those of most models first; among equals the surest, then the commonest, then the longest."""
    rate = max(each.prefills / each.of for each in theme.holders)
    return (-len(theme.holders), _q(theme), -rate, -len(theme.phrase))


def _distinct(themes: Sequence[FamilyTheme]) -> list[FamilyTheme]:
    """What says the same of the same models once, and no more of each than is read."""
    kept: list[FamilyTheme] = []
    by_holders: dict[tuple[str, ...], list[FamilyTheme]] = {}
    for theme in themes:
        group = by_holders.setdefault(tuple(sorted(each.audit for each in theme.holders)), [])
        most = MOST // 10 if theme.held_by == "one" else MOST
        if len(group) < most and not any(same(theme.phrase, other.phrase) for other in group):
            group.append(theme)
            kept.append(theme)
    return kept


def lines(found: Sequence[Family]) -> list[str]:
    """The families for a terminal."""
    said = []
    for family in found:
        said.append(f"{len(family.audits)} models beside {visible(family.design)}:")
        said.extend(f"  {who(theme, family)}: {what(theme)}" for theme in family.themes)
        if not family.themes:
            said.append("  nothing that all share, and nothing that tells one from the others")
        if family.undecided:
            said.append(
                f"  {family.undecided} more in one model's list each, which are too few to tell it from the others"
            )
    return said


def who(theme: FamilyTheme, family: Family) -> str:
    """ "all 8", "3 of 8 (a, b, c)", "only a"."""
    names = [visible(each.audit) for each in theme.holders]
    if theme.held_by == "all":
        return f"all {len(family.audits)}"
    if theme.held_by == "one":
        return f"only {shorten(names[0], 60)}"
    return f"{len(names)} of {len(family.audits)} ({shorten(', '.join(names), 100)})"


def what(theme: FamilyTheme) -> str:
    """The phrase with its counts in those who have it and in the others."""
    rates = [each.prefills / each.of for each in theme.holders if each.of]
    span = f"{min(rates):.0%}" if len(rates) == 1 else f"{min(rates):.0%} to {max(rates):.0%}"
    others = f", {theme.others} of {theme.others_of:,} in the others" if theme.others_of else ""
    sure = f", q = {_q(theme):.1g}" if theme.held_by == "one" else ""
    return f"“{shorten(visible(theme.phrase), 80)}” after {span} of prefills{others}{sure}"
