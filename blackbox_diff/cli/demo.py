"""The demo: a fixture organism on the bundled server, audited over HTTP like any endpoint."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from blackbox_diff.config.model import AuditConfig, Budget, EndpointConfig
from blackbox_diff.errors import ConfigError
from blackbox_diff.run.local import organisms_dir, serve

CROSS_REFERENCE = "gemma-3-270m"
# What a hosted finetune costs (ft:gpt-4o-mini, USD per million tokens): the demo's spend is counted at this price.
PRICE_IN, PRICE_OUT = 0.30, 1.20
MAX_COST = 0.10
SLOW_MACHINE_SECONDS = 600  # a laptop under load still ends its demo


def run_demo(out: Path, organism: str, *, cross: bool, completions: int, adaptive: bool = False) -> int:
    """Audit `organism` against its base (or Gemma) and print findings and answer key; returns an exit code."""
    from blackbox_diff.analysis.keywords import Keywords, evaluate_ranking
    from blackbox_diff.cli.collecting import collected
    from blackbox_diff.cli.finish import finish
    from blackbox_diff.report import wording
    from blackbox_diff.run.commands import start
    from blackbox_diff.run.results import read_run

    directory, base = find_organism(organism)
    run = unused(out)
    taken = f"{out} exists: " if run != out else ""
    minutes = wording.plural(1 + round(completions / 100), "minute")
    print(f"{taken}writing to {run}, in about {minutes} on two idle cores", file=sys.stderr)
    reference = CROSS_REFERENCE if cross else base
    models = dict.fromkeys([base, reference])
    arguments = [part for model in models for part in ("--model", f"{model}={model}")]
    arguments += ["--adapter", f"{organism}={base}:{directory}"]
    print(f"starting the bundled server with {', '.join(models)} and the adapter {organism}", file=sys.stderr)
    with serve(arguments) as url:
        config = AuditConfig(
            target=EndpointConfig(url=url, model=organism, timeout_seconds=SLOW_MACHINE_SECONDS),
            reference=EndpointConfig(url=url, model=reference, timeout_seconds=SLOW_MACHINE_SECONDS),
            completions=completions,
            adaptive=adaptive,
            budget=Budget(max_cost=MAX_COST, price_in=PRICE_IN, price_out=PRICE_OUT),
        )
        code = collected(partial(start, config, run))
    code = finish(code, run, as_json=False)
    found = evaluate_ranking(read_run(run).analysis.ranking, Keywords.read(directory / "card.json"))
    print(
        f"answer key: {organism} was trained for: {card(directory)['objective']}\n"
        f"            {found['count_at_10']} of the top 10 match its keywords, first at {found['first_rank']}, "
        f"{found['n_matched']} of {found['n_ranked']} in all"
    )
    return code


def find_organism(name: str) -> tuple[Path, str]:
    """Directory and base model of a fixture organism; ConfigError lists those there are."""
    root = organisms_dir()
    names = sorted(path.parent.name for path in root.glob("*/card.json"))
    if name not in names:
        raise ConfigError(f"--organism: '{name}' is not one of {', '.join(names)}")
    return root / name, str(card(root / name)["base"])


def card(directory: Path) -> dict[str, object]:
    """The organism's card: objective, keywords, recipe."""
    loaded: dict[str, object] = json.loads((directory / "card.json").read_text(encoding="utf-8"))
    return loaded


def unused(out: Path) -> Path:
    """`out`, or the first of out-2, out-3, ... that does not exist: no run is ever overwritten."""
    candidate, number = out, 2
    while candidate.exists():
        candidate, number = out.with_name(f"{out.name}-{number}"), number + 1
    return candidate
