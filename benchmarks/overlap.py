"""A whole audit beside its sampling alone and its scoring alone: are the two overlapped?

    python -m benchmarks.overlap --completions 200

Target and reference are bundled servers of their own, one core each. The audit is timed from start to end, its
probe and its reports included. Then the requests that it stored are posted again by a bare httpx2 loop: those to
the target, then those to the reference. Prints a Markdown table.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import httpx2

from blackbox_diff.run.local import organisms_dir, serve

BASE = "smollm2-135m-instruct"
IN_FLIGHT = 32


@contextmanager
def on_core(core: int, arguments: Sequence[str]) -> Iterator[str]:
    """A bundled server that may use one core only."""
    everything = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})  # a child starts with its parent's cores
    with ExitStack() as stack:
        try:
            url = stack.enter_context(serve([*arguments, "--max-batch", str(IN_FLIGHT)]))
        finally:
            os.sched_setaffinity(0, everything)
        yield url


Calls = list[tuple[str, bytes]]


def stored(run: Path, target: str, reference: str) -> tuple[Calls, Calls]:
    """(url, body) of the calls to the target, which sampled, and to the reference, which scored."""
    with sqlite3.connect(f"file:{run / 'run.sqlite'}?mode=ro", uri=True) as database:
        calls = database.execute(
            "SELECT role, path, body FROM calls WHERE state = 'settled' AND status = 200 ORDER BY id"
        ).fetchall()
    sampling = [(target + path, body.encode()) for role, path, body in calls if role == "target"]
    scoring = [(reference + path, body.encode()) for role, path, body in calls if role != "target"]
    return sampling, scoring


def post_all(calls: Sequence[tuple[str, bytes]]) -> float:
    """Seconds to post them all, IN_FLIGHT at once."""

    async def run() -> None:
        gate = asyncio.Semaphore(IN_FLIGHT)
        limits = httpx2.Limits(max_connections=IN_FLIGHT)
        async with httpx2.AsyncClient(timeout=600, limits=limits) as client:

            async def post(url: str, body: bytes) -> None:
                async with gate:
                    reply = await client.post(url, content=body, headers={"Content-Type": "application/json"})
                    reply.raise_for_status()

            await asyncio.gather(*(post(url, body) for url, body in calls))

    clock = time.perf_counter()
    asyncio.run(run())
    return time.perf_counter() - clock


@click.command(help=__doc__)
@click.option("--completions", default=200, show_default=True)
@click.option("--organism", default="false-fact", show_default=True)
def main(completions: int, organism: str) -> None:
    adapter = ["--adapter", f"{organism}={BASE}:{organisms_dir() / organism}"]
    with (
        tempfile.TemporaryDirectory() as directory,
        on_core(0, ["--model", f"{BASE}={BASE}", *adapter]) as target,
        on_core(1, ["--model", f"{BASE}={BASE}"]) as reference,
    ):
        run = Path(directory) / "run"
        command = [
            sys.executable, "-m", "blackbox_diff", "audit", "--target-url", target, "--target-model", organism,
            "--reference-url", reference, "--reference-model", BASE, "--completions", str(completions),
            "--control", "0", "--concurrency", str(IN_FLIGHT), "--out", str(run),
        ]  # fmt: skip
        clock = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        whole = time.perf_counter() - clock
        sampling, scoring = stored(run, target, reference)
        alone = post_all(sampling), post_all(scoring)
    print("| | calls | seconds | the audit is |\n|---|---|---|---|")
    print(f"| whole audit | {len(sampling) + len(scoring)} | {whole:.1f} | |")
    for name, calls, seconds in (("sampling", sampling, alone[0]), ("scoring", scoring, alone[1])):
        print(f"| {name} alone | {len(calls)} | {seconds:.1f} | {whole / seconds:.2f}x |")


if __name__ == "__main__":
    main()
