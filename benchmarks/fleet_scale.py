"""A fleet of many targets against a toy endpoint that fails now and then: is every audit accounted for?

    python -m benchmarks.fleet_scale --targets 500 --engine local
    python -m benchmarks.fleet_scale --targets 40 --engine local --engine dask     # the engines' wall times, too

One reply in a hundred is an error 503, one in a hundred of the targets is a model that the endpoint does not have.
Each audit buys a few completions with one shared control. Prints the fleet's counts, the driver's peak memory, the
wall time of each engine, and how long the index takes to open in headless Chromium.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import click
import httpx2

from tests.leaky_toy import LeakyToy
from tests.toy_server import serving

FAULTS = 0.01
PLAN = """
[fleet]
max_cost = 1000.0
parallel = {parallel}

[defaults]
completions = {completions}
max_tokens = 12
control = 8
concurrency = 4
framing = ["raw"]

[defaults.budget]
price_in = 1.0
price_out = 1.0

[[references]]
url = "{url}"
model = "base"
"""


class FaultyToy(LeakyToy):
    """The toy, which answers one request in a hundred with an error."""

    rng = random.Random(0)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if self.rng.random() < FAULTS:
            return httpx2.Response(503, json={"error": {"message": "overloaded"}}, headers={"retry-after": "0"})
        self.calls.clear()  # it is there for long
        return super().answer(request)


def serve(ready: Connection) -> None:
    """The endpoint, until the process is ended."""
    with serving(FaultyToy()) as url:
        ready.send(url)
        time.sleep(24 * 3600)


@contextmanager
def endpoint() -> Iterator[str]:
    """URL of the endpoint in a process of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


def write_plan(file: Path, url: str, targets: int, completions: int, parallel: int) -> Path:
    missing = max(1, round(targets * FAULTS))
    models = ["nobody"] * missing + [("leaky", "base")[k % 2] for k in range(targets - missing)]
    random.Random(0).shuffle(models)
    file.write_text(
        PLAN.format(url=url, completions=completions, parallel=parallel)
        + "".join(
            f'[[targets]]\nurl = "{url}"\nmodel = "{model}"\nlabel = "target-{k:03}"\n'
            for k, model in enumerate(models)
        ),
        encoding="utf-8",
    )
    return file


def fleet(plan: Path, out: Path, engine: str) -> tuple[float, float]:
    """(seconds, the driver's peak memory in MB) of one sitting."""
    began = time.monotonic()
    code = (
        "import resource, sys\n"
        "from blackbox_diff.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
    )
    command = [sys.executable, "-c", code, "fleet", str(plan), "--out", str(out), "--engine", engine]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise click.ClickException(done.stderr[-2000:])
    return time.monotonic() - began, float(done.stdout.rsplit("peak ", 1)[1])


def opening(page: Path) -> float:
    """Seconds until the index has loaded in headless Chromium and its search answers."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        tab = browser.new_page()
        began = time.monotonic()
        tab.goto(page.resolve().as_uri())
        tab.fill("input", "target-001")
        tab.wait_for_function("document.querySelector('output').value.startsWith('1 of')")
        seconds = time.monotonic() - began
        browser.close()
    return seconds


@click.command(help=__doc__)
@click.option("--targets", default=500, show_default=True)
@click.option("--completions", default=4, show_default=True)
@click.option("--parallel", default=4, show_default=True, help="Audits at once.")
@click.option("--engine", "engines", multiple=True, default=("local",), type=click.Choice(["local", "dask"]))
def main(targets: int, completions: int, parallel: int, engines: tuple[str, ...]) -> None:
    with endpoint() as url, tempfile.TemporaryDirectory() as scratch:
        plan = write_plan(Path(scratch) / "fleet.toml", url, targets, completions, parallel)
        for engine in engines:
            out = Path(scratch) / engine
            seconds, peak = fleet(plan, out, engine)
            rows = json.loads((out / "fleet.json").read_text(encoding="utf-8"))["rows"]
            click.echo(
                f"{engine}: {len(rows)} of {targets} accounted for: {dict(Counter(r['status'] for r in rows))}"
            )
            click.echo(f"{engine}: {seconds:.1f} s, driver's peak memory {peak:.0f} MB")
        size = (out / "index.html").stat().st_size
        click.echo(
            f"index: {size / 1e6:.2f} MB, opens and answers a search in {opening(out / 'index.html'):.2f} s"
        )


if __name__ == "__main__":
    main()
