"""Pools: ordinary audit runs that the benchmarks are computed from, one per (organism, sampling seed).

    python -m benchmarks.pools --pools DIR --seeds 0,1,2 base false-fact backdoor ...

A pool is a run directory, bought by the package's own pipeline from one bundled server that holds the base,
every adapter and the foreign reference: completions over the four arms prose/code x raw/chat at temperature 1,
each scored under both references (with --no-foreign under the base alone, which takes two thirds of the time; the
other's scores can be added later), and each reference's own completions of the same prefills, which are the
control. The pool `base` is the organisms' base audited in place of an organism: what there is to see where
nothing was trained. It comes first for every seed, because the control depends on the reference, the seed
and the prefills, and not on the organism: it is bought once, in that pool, and copied into the others of the
same seed (as rows without a call). Nothing is bought twice: a pool that is finished is passed over, one that
was interrupted goes on where it stopped, and one with fewer completions than asked for grows. The path of
each finished pool is printed.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import click

from blackbox_diff.buying import limits
from blackbox_diff.config.model import AuditConfig, EndpointConfig
from blackbox_diff.records import DEFAULT_ALTERNATIVES
from blackbox_diff.run import commands, pipeline
from blackbox_diff.run.controls import copy_controls
from blackbox_diff.run.local import organisms_dir, serve
from blackbox_diff.runfile.store import Store

_Found = TypeVar("_Found")
SAME, CROSS = "smollm2-135m-instruct", "gemma-3-270m"  # the organisms' base, and a model of another family
IDENTITY = "base"
PATIENCE = 900.0  # seconds for one call to a busy machine


@dataclass(frozen=True, slots=True)
class Design:
    """What every pool buys. `control`: completions of each reference. `foreign`: the other family's scores too."""

    completions: int = 600
    control: int = 600
    max_tokens: int = 64
    concurrency: int = 32
    alternatives: int = DEFAULT_ALTERNATIVES
    foreign: bool = True


def default_dir() -> Path:
    """Where pools are kept: beside the cached weights, outside of the checkout."""
    return Path(os.environ.get("BLACKBOX_DIFF_CACHE") or Path.home() / ".cache" / "blackbox-diff") / "pools"


def pool_path(pools: Path, organism: str, seed: int) -> Path:
    return pools / f"{organism}.seed{seed}"


def is_finished(run: Path, completions: int = 1, *, foreign: bool = False) -> bool:
    """Whether everything in the pool is bought and scored, and that many completions were asked for.

    With `foreign`, only where the other family's reference was asked for, too.
    """
    if not (run / "run.sqlite").is_file():
        return False
    with Store.open(run, read_only=True) as store:
        enough = store.config.completions >= completions
        asked = not foreign or bool(store.state.references)
        return enough and asked and store.state.stopped_because == pipeline.FINISHED


def find_organisms(roots: Sequence[Path]) -> dict[str, Path]:
    """Name -> adapter's directory, for every card below `roots`; a nested one is named by its whole path."""
    return {
        "-".join(card.parent.relative_to(root).parts): card.parent
        for root in roots
        for card in sorted(root.glob("**/card.json"))
    }


def adapter_arguments(names: Iterable[str], adapters: Mapping[str, Path]) -> list[str]:
    """What the bundled server is given to serve these organisms, each once."""
    found = [f"{name}={SAME}:{adapters[name]}" for name in dict.fromkeys(names) if name != IDENTITY]
    return [part for each in found for part in ("--adapter", each)]


def pool_config(url: str, model: str, seed: int, design: Design) -> AuditConfig:
    def endpoint(name: str) -> EndpointConfig:
        return EndpointConfig(url=url, model=name, timeout_seconds=PATIENCE)

    return AuditConfig(
        target=endpoint(model),
        reference=endpoint(SAME),
        source=("prose", "code"),
        framing=("raw", "chat"),
        completions=design.completions,
        control=design.control,
        max_tokens=design.max_tokens,
        top_logprobs=design.alternatives,
        concurrency=design.concurrency,
        seed=seed,
    )


def buy(run: Path, config: AuditConfig, control: Path | None, *, foreign: bool = True) -> bool:
    """Take `run` to its end, with the controls of `control` where that is given; False where it stopped early.

    `foreign`: score under the other family's reference, too.
    """
    if not (run / "run.sqlite").is_file():
        Store.create(run, commands.manifest(config)).close()
    other = config.target.model_copy(update={"model": CROSS})
    with Store.open(run) as store:
        state = store.state
        # What was asked for once is asked for again; the server's port is new each time.
        references = (other,) if foreign or state.references else ()
        # Not complete: copied controls hold the scores of a reference that is new to the target's completions.
        store.set_state(replace(state, config=config, stopped_because=None, complete=None, references=references))
        if control is not None:
            asyncio.run(copy_controls(control, store))
    limits.START = config.concurrency  # the server is ours and hides no limit to be found out
    asyncio.run(commands.go_on(run, {}))
    return is_finished(run)


@contextmanager
def held(lock: Path | None) -> Iterator[None]:
    """Hold the file lock of a shared machine for the block."""
    if lock is None:
        yield
        return
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def missing_pools(
    pools: Path, names: Sequence[str], seeds: Sequence[int], design: Design
) -> list[tuple[str, int]]:
    """What is left to buy, in order: seed by seed, the base first where the others copy its controls."""
    others = [name for name in names if name != IDENTITY]
    ordered = [IDENTITY, *others] if design.control or len(others) < len(names) else others
    return [
        (name, seed)
        for seed in seeds
        for name in ordered
        if not is_finished(pool_path(pools, name, seed), design.completions, foreign=design.foreign)
    ]


def buy_all(
    pools: Path,
    adapters: Mapping[str, Path],
    todo: Sequence[tuple[str, int]],
    design: Design,
    *,
    lock: Path | None = None,
    server_options: Sequence[str] = (),
    server: str | None = None,
) -> Iterator[Path]:
    """Buy each of `todo`, yielding the path of each that is finished; one server serves them all."""
    arguments = [part for model in (SAME, CROSS) for part in ("--model", f"{model}={model}")]
    arguments += adapter_arguments((name for name, _ in todo), adapters)
    with nullcontext(server) if server else serve([*arguments, *server_options]) as url:
        for name, seed in todo:
            run, shared = pool_path(pools, name, seed), pool_path(pools, IDENTITY, seed)
            config = pool_config(url, SAME if name == IDENTITY else name, seed, design)
            with held(lock):
                donor = shared if name != IDENTITY and design.control else None
                if buy(run, config, donor, foreign=design.foreign):
                    yield run


@click.command(help=__doc__)
@click.argument("names", nargs=-1)
@click.option("--pools", type=click.Path(path_type=Path), default=default_dir, help="Where the pools are kept.")
@click.option(
    "--organisms", "roots", type=click.Path(path_type=Path, exists=True), multiple=True, help="More adapters."
)
@click.option("--seeds", default="0", show_default=True, help="Sampling seeds, with commas.")
@click.option("--completions", default=Design().completions, show_default=True)
@click.option("--control", default=Design().control, show_default=True, help="Completions of each reference.")
@click.option("--max-tokens", default=Design().max_tokens, show_default=True)
@click.option("--concurrency", default=Design().concurrency, show_default=True)
@click.option("--alternatives", default=Design().alternatives, show_default=True, help="Listed per position.")
@click.option("--foreign/--no-foreign", default=True, help="Score under the other family's reference, too.")
@click.option("--lock", type=click.Path(path_type=Path), help="A file to lock while a pool is bought.")
@click.option("--server", help="URL of a running server that holds the models and adapters.")
@click.option("--server-option", multiple=True, help="Passed to the bundled server, e.g. --dtype=bfloat16.")
def main(
    names: tuple[str, ...],
    pools: Path,
    roots: tuple[Path, ...],
    seeds: str,
    completions: int,
    control: int,
    max_tokens: int,
    concurrency: int,
    alternatives: int,
    foreign: bool,
    lock: Path | None,
    server_option: tuple[str, ...],
    server: str | None,
) -> None:
    adapters = find_organisms([organisms_dir(), *roots])
    wanted = names or tuple(adapters)
    unknown = [name for name in wanted if name != IDENTITY and name not in adapters]
    if unknown:
        raise click.UsageError(f"no organism '{unknown[0]}'; there are {IDENTITY}, {', '.join(adapters)}")
    design = Design(completions, control, max_tokens, concurrency, alternatives, foreign)
    todo = missing_pools(pools, wanted, [int(seed) for seed in seeds.split(",")], design)
    if not todo:
        print("every pool is there", file=sys.stderr)
        return
    for run in buy_all(pools, adapters, todo, design, lock=lock, server_options=server_option, server=server):
        print(run, flush=True)


if __name__ == "__main__":
    main()
