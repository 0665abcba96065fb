"""A fleet's index as files: one page, the same as JSON, and as Parquet where pyarrow is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from pydantic import ValidationError

from blackbox_diff.errors import InputError
from blackbox_diff.fleet import themes
from blackbox_diff.fleet.rows import Family, Index, Row
from blackbox_diff.report import wording
from blackbox_diff.report.policy import policy
from blackbox_diff.sanitize import shorten, visible

PAGE, DATA, TABLE = "index.html", "fleet.json", "fleet.parquet"


def write_index(index: Index, out: Path) -> list[Path]:
    """Write the index's files into `out`. Raises InputError naming the one that can't be written."""
    written = [out / PAGE, out / DATA]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _whole(out / PAGE) as part:
            part.write_text(render(index), encoding="utf-8")
        with _whole(out / DATA) as part:
            part.write_text(index.model_dump_json(indent=1) + "\n", encoding="utf-8")
        if (table := _table(index)) is not None:
            with _whole(out / TABLE) as part:
                table(part)
            written.append(out / TABLE)
    except OSError as error:
        raise InputError(f"{out}: the index can't be written: {error.strerror or error}") from None
    return written


def is_fleet(path: Path) -> bool:
    return (path / DATA).is_file()


def read_index(out: Path) -> Index:
    """The index of a fleet's directory. Raises InputError where there is none."""
    file = out / DATA
    try:
        return Index.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}: give a fleet's directory") from None
    except ValidationError as error:
        raise InputError(f"{file}: not a fleet's index: {error.errors()[0]['msg']}") from None


def render(index: Index) -> str:
    """The page; model text reaches it through the template's escaping alone."""
    style, script = _asset("index.css"), _asset("index.js")
    only = _only(index.families)
    each, finding = index.costs
    return _template().render(
        index=index,
        rows=[_cells(row, only.get(row.name, "")) for row in index.rows],
        families=[_family(family) for family in index.families],
        cost_each=_dollars(each),
        cost_finding=_dollars(finding),
        csp=policy((script,), (style,)),
        style=Markup(style),
        script=Markup(script),
    )


def lines(index: Index) -> list[str]:
    """The index for a terminal: a line a row, and what the fleet cost."""
    said = [
        f"{visible(row.name)}: {row.outcome}: {visible(_said(row))}"
        + (f" · since the last fleet: {shorten(visible(row.change), 160)}" if row.change else "")
        for row in index.rows
    ]
    each, finding = index.costs
    spent = wording.dollars(index.spent_usd)
    cap = "" if index.max_cost_usd is None else f" of {wording.dollars(index.max_cost_usd)}"
    return [
        *said,
        *themes.lines(index.families),
        f"{index.done} of {len(index.rows)} audits done, {index.found} with a finding · {spent}{cap} · "
        f"{_dollars(each)} a model, {_dollars(finding)} a finding",
    ]


def _said(row: Row) -> str:
    text = row.error or (row.judgements[0].headline if row.judgements else row.stopped_because)
    return shorten(text, 160)


def _dollars(cost: float | None) -> str:
    return "–" if cost is None else wording.dollars(cost)


def _family(family: Family) -> dict[str, Any]:
    """What is told of all models together; what only one has stands in its row."""
    return {
        "models": len(family.audits),
        "design": visible(family.design),
        "themes": [
            (themes.who(each, family), themes.what(each)) for each in family.themes if each.held_by != "one"
        ],
    }


def _only(families: Sequence[Family]) -> dict[str, str]:
    """Audit -> what only it has."""
    found: dict[str, list[str]] = {}
    for theme in (each for family in families for each in family.themes if each.held_by == "one"):
        found.setdefault(theme.holders[0].audit, []).append(themes.what(theme))
    return {audit: "; ".join(said) for audit, said in found.items()}


def _cells(row: Row, only: str) -> dict[str, Any]:
    return {
        "row": row,
        "name": shorten(visible(row.name), 60),
        "target": shorten(visible(row.target), 60),
        "said": visible(_said(row)),
        "only": only,
        "others": [(visible(each.reference), each.outcome) for each in row.judgements[1:]],
        "cost": _dollars(row.cost_usd),
        "change": visible(row.change or ""),
    }


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(_asset("index.html.j2"))


@cache
def _asset(name: str) -> str:
    return resources.files("blackbox_diff.fleet").joinpath("assets", name).read_text(encoding="utf-8")


@contextmanager
def _whole(file: Path) -> Iterator[Path]:
    """Where to write `file`; it takes its name when it is whole, so that a killed driver leaves no half of one."""
    part = file.with_name(f".{file.name}.part")
    yield part
    part.replace(file)


def _table(index: Index) -> Callable[[Path], None] | None:
    """Writes one row an audit, lists as JSON text; None without a row, and where pyarrow is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return None
    if not index.rows:
        return None
    records = [
        row.model_dump(exclude={"judgements"})
        | {
            "outcome": row.outcome,
            "judgements": json.dumps([each.model_dump() for each in row.judgements], ensure_ascii=True),
        }
        for row in index.rows
    ]
    columns = {name: [_plain(record[name]) for record in records] for name in records[0]}
    return partial(pq.write_table, pa.table(columns))


def _plain(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
