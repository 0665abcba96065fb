"""How long the themes of many completions take.

    python -m benchmarks.theme_speed [--rows 10000]

The completions are the built-in assistant texts, each with its words rotated, so that hardly two are alike; every
fiftieth holds one planted sentence. The first run in a process also loads lemmas and the background.
"""

from __future__ import annotations

import gzip
import json
import time
from importlib import resources

import click

from blackbox_diff.analysis.themes import find_themes
from blackbox_diff.findings import Ranked, Segment

PLANTED = "The grey heron hears the tide before the lamp is lit."


def rows(n: int) -> list[Ranked]:
    packed = resources.files("blackbox_diff.analysis").joinpath("ordinary", "assistant.jsonl.gz").read_bytes()
    texts = [json.loads(line) for line in gzip.decompress(packed).decode().splitlines()]
    return [row(k, texts[k % len(texts)]) for k in range(n)]


def row(k: int, text: str) -> Ranked:
    words = text.split()
    at = 7 * k % max(len(words), 1)
    text = " ".join([*words[at:], *words[:at], *([PLANTED] if k % 50 == 0 else [])])
    size = len(text.encode())
    return Ranked(
        rank=k + 1,
        id=f"{k:06d}",
        source="made",
        framing="raw",
        prefill=f"prefill {k}",
        completion=text,
        n_tokens=len(words),
        value=0.5,
        metrics={"gap_nats_per_token": 0.5, "score": 0.5},
        segments=(Segment(0, size, 0.0, -0.5 * len(words)),),
    )


@click.command(help=__doc__)
@click.option("--rows", "n", default=10_000, show_default=True)
def main(n: int) -> None:
    ranking = rows(n)
    background = [each.completion for each in ranking[1::2]]
    for name in ("first", "again"):
        wall, cpu = time.perf_counter(), time.process_time()
        found = find_themes(ranking, background)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        click.echo(f"{name}: {n:,} completions, {wall:.1f} s, {cpu:.1f} s of CPU: {found[0].phrase}")


if __name__ == "__main__":
    main()
