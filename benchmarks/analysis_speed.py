"""How long the analysis of many completions takes with all their alternatives, and how much memory.

    python -m benchmarks.analysis_speed [--completions 60000] [--tokens 64] [--alternatives 20]

A run file is made of synthetic completions with as many alternatives a position on both sides, and read by
`read_run`, as every report reads a run, in a process of its own. Words are Zipf-distributed, one in six takes two
tokens; the target promotes one. `--keep DIR` makes the run there once, and reads it again the next time.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from blackbox_diff.config.model import AuditConfig, EndpointConfig
from blackbox_diff.records import Alternatives, Arm, Completion, ReferenceScore, Sample, Tokens
from blackbox_diff.run import commands
from blackbox_diff.runfile.store import Store

WORDS = 20_000  # of the vocabulary
PIECES = 2_000  # that go on a word that another token began
PROMOTED = 700  # a word of middling rank
REFERENCE = "reference"
AT_ONCE = 1_000
_READ = """
import json, resource, sys, time
from blackbox_diff.run.results import read_run
wall, cpu = time.perf_counter(), time.process_time()
found = read_run(__import__("pathlib").Path(sys.argv[1])).analysis
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu,
                  resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
                  len(found.ranking), [word.word for word in found.promoted if not word.style][:3]]))
"""


def vocabulary() -> tuple[bytes, ...]:
    """Tokens that begin words, each with its space, then pieces without."""
    sounds = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "el", "or")]

    def spelled(k: int) -> str:
        return "".join(sounds[(k // len(sounds) ** place) % len(sounds)] for place in range(3))

    return tuple(f" {spelled(k)}".encode() for k in range(WORDS)) + tuple(
        f"{spelled(7 * k)[:5]}x".encode() for k in range(PIECES)
    )


class Made:
    """Completions of `tokens` tokens, with `listed` alternatives a position."""

    def __init__(self, tokens: int, listed: int) -> None:
        self.tokens, self.listed, self.vocabulary = tokens, listed, vocabulary()
        share = 1 / np.arange(1, WORDS + 1)
        self.cumulative = np.cumsum(share / share.sum())
        falling = 0.4 * 0.7 ** np.arange(listed)
        self.probabilities = falling / (1.1 * falling.sum())
        self.strides = np.arange(listed)

    def completion(self, k: int, origin: str) -> tuple[Sample, Completion, ReferenceScore]:
        rng = np.random.default_rng([k, origin == "target"])
        chosen = np.minimum(np.searchsorted(self.cumulative, rng.random(self.tokens)), WORDS - 1)
        goes_on = np.flatnonzero(rng.random(self.tokens) < 1 / 6)[1:]
        chosen[goes_on] = WORDS + chosen[goes_on] % PIECES
        if origin == "target" and k % 10 == 0:
            chosen[rng.integers(1, self.tokens)] = PROMOTED
        parts = [self.vocabulary[token] for token in chosen.tolist()]
        ends = np.cumsum([len(part) for part in parts])
        starts = ends - [len(part) for part in parts]
        # The written token first, then others of like rank, none twice.
        lists = (chosen[:, None] + 37 * self.strides) % (WORDS + PIECES)
        noise = rng.normal(0, 0.2, (2, self.tokens, self.listed))
        sides = [np.log(self.probabilities * np.exp(each - 0.3)).astype(np.float32) for each in noise]
        if origin == "target":
            sides[1][lists == PROMOTED] -= 2.0
        else:
            sides[1] = sides[0]
        arm = Arm("prose", ("raw", "chat")[k % 2])
        sample = Sample(f"prose.{arm.framing}.{k:06d}", arm, f"prefill {k}", k)
        target, reference = (self._lists(starts, lists, side) for side in sides)
        return (
            sample,
            Completion(
                b"".join(parts).decode(), Tokens(ends, sides[0][:, 0].astype(np.float64)), alternatives=target
            ),
            ReferenceScore(Tokens(ends, sides[1][:, 0].astype(np.float64)), "raw", alternatives=reference),
        )

    def _lists(
        self, starts: NDArray[np.int64], lists: NDArray[np.int64], logprobs: NDArray[np.float32]
    ) -> Alternatives:
        return Alternatives(
            positions=starts,
            offsets=np.arange(self.tokens + 1) * self.listed,
            tokens=lists.ravel().astype(np.int32),
            logprobs=logprobs.ravel(),
            unlisted=logprobs.min(axis=1),
            vocabulary=self.vocabulary,
        )


async def make(store: Store, made: Made, n: int, control: int) -> None:
    for origin, many in (("target", n), (REFERENCE, control)):
        for first in range(0, many, AT_ONCE):
            rows = [made.completion(k, origin) for k in range(first, min(many, first + AT_ONCE))]
            await asyncio.gather(
                *(store.put_completion(sample, origin, written, None) for sample, written, _ in rows),
                *(store.put_score(sample.id, origin, REFERENCE, score, None) for sample, _, score in rows),
            )


@click.command(help=__doc__)
@click.option("--completions", default=60_000, show_default=True)
@click.option("--control", default=2_000, show_default=True)
@click.option("--tokens", default=64, show_default=True)
@click.option("--alternatives", default=20, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Where the run is kept.")
def main(completions: int, control: int, tokens: int, alternatives: int, keep: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = keep or Path(folder) / "run"
        if not (run / "run.sqlite").is_file():
            endpoint = EndpointConfig(url="http://127.0.0.1:9/v1", model="made")
            config = AuditConfig(target=endpoint, completions=completions, control=control, max_tokens=tokens)
            with Store.create(run, commands.manifest(config)) as store:
                asyncio.run(make(store, Made(tokens, alternatives), completions, control))
        size = (run / "run.sqlite").stat().st_size / 1e6
        read = subprocess.run([sys.executable, "-c", _READ, str(run)], capture_output=True, text=True, check=True)
        wall, cpu, memory, ranked, words = json.loads(read.stdout)
        click.echo(f"{completions:,} completions, {size:,.0f} MB: read in {wall:.1f} s ({cpu:.1f} s of CPU)")
        click.echo(f"{memory:.2f} GB at most; {ranked:,} ranked; first promoted: {', '.join(words) or 'none'}")


if __name__ == "__main__":
    main()
