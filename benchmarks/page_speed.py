"""How smoothly the report's page scrolls with 10,000 completions beside 300, in headless Chromium.

    python -m benchmarks.page_speed

Synthetic completions of 64 tokens. The list is scrolled by 400 px a frame; a frame's time is
that of two animation frames, and its work is what the page itself computes and lays out in them. Both pages are
scrolled in turns, so that a busy machine slows both. Prints the file's size, the seconds until the page is ready,
and the median and 95th percentile of both times.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from playwright.sync_api import Page, sync_playwright

from blackbox_diff.report import html
from tests.report_data import analysis_of, summary_of

MEASURED = """
  const ask = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (told) => ask((time) => {
    const began = performance.now();
    told(time);
    window.work = (window.work ?? 0) + performance.now() - began;
  });
"""
SCROLL = """async (frames) => {
  const times = [];
  document.getElementById('list').scrollIntoView({ block: 'start', behavior: 'instant' });
  await new Promise(requestAnimationFrame);
  let before = await new Promise(requestAnimationFrame);
  for (let k = 0; k < frames; k++) {
    window.scrollBy({ top: 400, behavior: 'instant' });
    window.work = 0;
    await new Promise(requestAnimationFrame);
    const now = await new Promise(requestAnimationFrame);
    times.push([now - before, window.work]);
    before = now;
  }
  return times;
}"""


def write(directory: Path, rows: int) -> Path:
    analysis = analysis_of(rows)
    path = directory / f"{rows}.html"
    path.write_text(html.render(analysis, summary_of(analysis)), encoding="utf-8")
    return path


def opened(page: Page, path: Path) -> float:
    """Seconds until the page is ready and its list shows rows."""
    began = time.monotonic()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]")
    page.locator("#search").scroll_into_view_if_needed()
    page.wait_for_selector(".row")
    return time.monotonic() - began


@click.command(help=__doc__)
@click.option("--rows", multiple=True, default=(300, 10_000), show_default=True, type=int)
@click.option("--rounds", default=5, show_default=True)
@click.option("--frames", default=40, show_default=True, help="A round and a page.")
def main(rows: tuple[int, ...], rounds: int, frames: int) -> None:
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        files = {n: write(Path(scratch), n) for n in rows}
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        sizes = {n: path.stat().st_size / 1e6 for n, path in files.items()}
        pages = {n: browser.new_page(viewport={"width": 1280, "height": 900}) for n in rows}
        for page in pages.values():
            page.add_init_script(MEASURED)
        ready = {n: opened(pages[n], files[n]) for n in rows}
        times: dict[int, list[tuple[float, float]]] = {n: [] for n in rows}
        for _ in range(rounds):
            for n, page in pages.items():
                page.bring_to_front()
                times[n] += page.evaluate(SCROLL, frames)
        browser.close()
    click.echo("| completions | file, MB | ready, s | frame, ms: median, p95 | work, ms: median, p95 |")
    click.echo("|---|---|---|---|---|")
    for n, found in times.items():
        frame, work = (np.quantile(each, (0.5, 0.95)) for each in zip(*found, strict=True))
        click.echo(
            f"| {n:,} | {sizes[n]:.1f} | {ready[n]:.2f} | {frame[0]:.1f}, {frame[1]:.1f} "
            f"| {work[0]:.1f}, {work[1]:.1f} |"
        )


if __name__ == "__main__":
    main()
