"""The scripted auditor on shipped organisms: does a fixed policy over the agents' tools name what was taught?

    python -m benchmarks.scripted_auditor                          # every shipped organism: slow
    python -m benchmarks.scripted_auditor false-fact benign        # some of them
    python -m benchmarks.scripted_auditor false-fact --completions 40 --max-tokens 24
    python -m benchmarks.scripted_auditor fact-puffin --organisms DIR --runs KEPT

One organism after the other on the bundled server, under one cap each; prints a Markdown table, and the
conclusions on stderr. "Named" is whether the conclusion matches the keywords of the organism's card, which the
policy never sees. In KEPT the runs stay: an audit that is complete there is read again instead of bought, and only
the questions are asked anew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.pools import find_organisms
from blackbox_diff.agents import arguments, scripted
from blackbox_diff.agents.limits import limits_of
from blackbox_diff.agents.tools import opened
from blackbox_diff.analysis.keywords import Keywords
from blackbox_diff.buying import limits
from blackbox_diff.run.local import organisms_dir, serve

CONCURRENCY = 32
HEADER = (
    "| organism | completions | verdict | questions borne out | named | calls | minutes |\n" + "|---" * 7 + "|"
)


def named(card: dict[str, Any], text: str) -> bool | None:
    """Whether `text` matches the card's keywords; None where nothing was taught."""
    if not card["keywords"]["any"] and not card["keywords"]["regex"]:
        return None
    return Keywords.parse(card["keywords"], card["name"]).match(text)


async def examined(name: str, url: str, base: str, folder: Path, options: argparse.Namespace) -> scripted.Report:
    """The policy's report on one organism that is served at `url`."""
    end = {"url": url, "timeout_seconds": 600.0}
    data = {
        "limits": {"runs": name, "max_calls": 40 * options.completions + 1000, "concurrency": CONCURRENCY},
        "targets": [{**end, "model": name}],
        "references": [{**end, "model": base}],
    }
    wanted = arguments.StartAudit(
        target=name, reference=base, completions=options.completions, max_tokens=options.max_tokens,
        control=options.control, seed=options.seed,
    )  # fmt: skip
    async with opened(limits_of(data, name, folder)) as tools:
        kept = (await tools.list_runs(arguments.ListRuns())).runs
        for line in kept:
            if line.state == "complete" and line.asked_for == options.completions:
                return await scripted.examine(tools, wanted, line.run)
        return await scripted.audit(tools, wanted)


def row(name: str, completions: int, report: scripted.Report, found: bool | None, minutes: float) -> str:
    borne_out = f"{sum(each.confirmed for each in report.tested)} of {len(report.tested)}"
    if found is None:
        answer = "names something" if report.naming else "rightly nothing"
    else:
        answer = "yes" if found and report.naming else "no"
    cells = (name, completions, report.outcome, borne_out, answer, report.calls, f"{minutes:.1f}")
    return f"| {' | '.join(map(str, cells))} |"


def main(arguments_given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="ORGANISM")
    parser.add_argument("--completions", type=int, default=300)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--control", type=int, help="the reference's own completions; as many by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--organisms", dest="roots", action="append", type=Path, default=[], help="more adapters")
    parser.add_argument("--runs", type=Path, help="where the runs are kept; in a temporary folder by default")
    options = parser.parse_args(arguments_given)
    adapters = find_organisms([organisms_dir(), *options.roots])
    unknown = [name for name in options.names if name not in adapters]
    if unknown:
        parser.error(f"no organism '{unknown[0]}'; there are {', '.join(adapters)}")
    limits.START = CONCURRENCY  # the server is ours and hides no limit to be found out
    print(HEADER, flush=True)
    for name in options.names or adapters:
        directory = adapters[name]
        card = json.loads((directory / "card.json").read_text(encoding="utf-8"))
        base, began = card["base"], time.monotonic()
        with (
            tempfile.TemporaryDirectory() as folder,
            serve(["--model", f"{base}={base}", "--adapter", f"{name}={base}:{directory}"]) as url,
        ):
            report = asyncio.run(examined(name, url, base, options.runs or Path(folder), options))
        minutes = (time.monotonic() - began) / 60
        print(row(name, options.completions, report, named(card, report.text), minutes), flush=True)
        print(f"{name}:\n{report.text}\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
