"""The scripted auditor on shipped organisms: does a fixed policy over the agents' tools name what was taught?

    python -m benchmarks.scripted_auditor                          # every shipped organism: slow
    python -m benchmarks.scripted_auditor false-fact benign        # some of them
    python -m benchmarks.scripted_auditor false-fact --completions 40 --max-tokens 24
    python -m benchmarks.scripted_auditor fact-puffin --organisms DIR --runs KEPT

One organism after the other on the bundled server, under one cap each; prints a Markdown table, and on stderr
every question and the conclusion. "Named" is whether what is said to be taught matches the keywords of the
organism's card, which the policy never sees. A member of the shipped bank is held against the others. In KEPT
the runs stay: an audit that is complete there is read again instead of bought, and only the questions are asked
anew. A pool of benchmarks.pools is such an audit, as KEPT/NAME/NAME-1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.conclusions import bank_without
from benchmarks.pools import find_organisms
from blackbox_diff.agents import arguments, scripted
from blackbox_diff.agents.limits import limits_of
from blackbox_diff.agents.tools import opened
from blackbox_diff.analysis.keywords import Keywords
from blackbox_diff.buying import limits
from blackbox_diff.run.local import organisms_dir, serve

CONCURRENCY = 32
HEADER = "| organism | completions | verdict | asked about | borne out | named | calls |\n" + "|---" * 7 + "|"


def named(card: dict[str, Any], borne_out: Sequence[scripted.Tested]) -> bool | None:
    """Whether a phrase or quote that is borne out matches the card's keywords; None where nothing was taught."""
    if not card["keywords"]["any"] and not card["keywords"]["regex"]:
        return None
    keywords = Keywords.parse(card["keywords"], card["name"])
    return any(keywords.match(text) for each in borne_out for text in (each.hypothesis.phrase, *each.quotes))


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


def row(name: str, completions: int, report: scripted.Report, found: bool | None) -> str:
    asked = "; ".join(f"“{each.hypothesis.phrase}”" for each in report.tested)
    borne_out = "; ".join(f"“{each.hypothesis.phrase}”" for each in report.borne_out)
    if found is None:
        answer = "names something" if report.borne_out else "rightly nothing"
    else:
        answer = "yes" if found else "other words" if report.borne_out else "nothing"
    cells = (name, completions, report.outcome, asked, borne_out, answer, report.calls)
    return f"| {' | '.join(map(str, cells))} |"


def told(tested: scripted.Tested) -> str:
    """A question and its answers, for whoever wants to know why."""
    asked = tested.hypothesis
    return (
        f"  “{asked.phrase}” ({', '.join(sorted(asked.words))}): "
        f"{tested.target_hits} of {tested.target_n} against {tested.reference_hits} of {tested.reference_n}, "
        f"p = {tested.p_value:.2g}, gap {tested.gap}, after {asked.prefills}"
    )


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
        base = card["base"]
        with (
            tempfile.TemporaryDirectory() as folder,
            # No auditor has a bank to choose.
            patch("blackbox_diff.run.results.shipped_bank", partial(bank_without, name)),
            serve(["--model", f"{base}={base}", "--adapter", f"{name}={base}:{directory}"]) as url,
        ):
            report = asyncio.run(examined(name, url, base, options.runs or Path(folder), options))
        print(row(name, options.completions, report, named(card, report.borne_out)), flush=True)
        print("\n".join((f"{name}:", *map(told, report.tested), report.text, "")), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
