"""With `--batch-invariant` a job's tokens and logprobs are the same bits whatever else is asked for."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import nn

from local_server.engine.jobs import Generate, Score, Token
from local_server.engine.sampling import Settings
from local_server.engine.scheduler import Scheduler
from local_server.model.load import load
from local_server.model.lora import attach
from local_server.model.products import EvenActivation, PackedWeights

Bits = list[tuple[int, float | None, list[tuple[int, float]]]]


def measured(adapter: str | None, temperature: float) -> list[Generate | Score]:
    """What is asked for in every surrounding: a completion, and the score of a text with a common start."""
    ids = [*range(40, 70), 7]
    settings = Settings(temperature)
    drawn = random.Random("3/0/0")
    return [
        Generate(ids, adapter, 20, settings=settings, max_tokens=24, ignore_eos=True, random=drawn),
        Score([*ids, 9, 8, 7], adapter, 20, ranked=True),
    ]


def bits(job: Generate | Score) -> Bits:
    found = job.future.result()
    tokens: list[Token] = found if isinstance(found, list) else found.tokens
    return [(token.id, token.logprob, token.top) for token in tokens]


def among(scheduler: Scheduler, others: int, adapter: str | None, temperature: float, seed: int) -> list[Bits]:
    """The measured jobs' results, put at random places among other jobs that come in while they run."""
    rng = random.Random(seed)
    jobs = measured(adapter, temperature)
    rest: list[Generate | Score] = []
    for _ in range(others):
        ids = [*range(40, 40 + rng.randint(1, 30)), *(rng.randrange(256) for _ in range(rng.randint(1, 40)))]
        name = rng.choice([None, "one", "two"])
        more = Generate(ids, name, 1, max_tokens=rng.randint(1, 20), random=random.Random(seed))
        rest.append(rng.choice([more, Score(ids, name, 5)]))
    queue = [*rest, *jobs]
    rng.shuffle(queue)
    while queue or scheduler.busy:
        for job in queue[:3]:
            scheduler.add(job)
        del queue[:3]
        scheduler.work()
    return [bits(job) for job in jobs]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("adapter", [None, "one"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_neighbours_change_no_bit(
    tiny_model: Path, tiny_adapters: dict[str, Path], dtype: str, adapter: str | None, temperature: float
) -> None:
    loaded = load(str(tiny_model), dtype, invariant=True)
    for name, path in tiny_adapters.items():
        attach(loaded.model, loaded.chosen, name, path)
    scheduler = Scheduler(loaded, 32)
    expected = among(scheduler, 0, adapter, temperature, 0)
    for others in (3, 32, 0):
        assert among(scheduler, others, adapter, temperature, others) == expected


def test_nor_with_sliding_windows_and_products_in_tiles(tiny_gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU where the number of rows changes a product's bits."""
    monkeypatch.setattr(PackedWeights, "_tried", lambda *_: False)
    monkeypatch.setattr("local_server.model.products._any_rows", {})
    scheduler = Scheduler(load(str(tiny_gemma), "float32", invariant=True), 32)
    expected = among_base(scheduler, 0)
    for others in (3, 32):
        assert among_base(scheduler, others) == expected


def among_base(scheduler: Scheduler, others: int) -> list[Bits]:
    """Like `among`, with long texts of the base alone, which take several blocks of keys."""
    rng = random.Random(others)
    jobs: list[Generate | Score] = [
        Generate([*range(40, 160)], None, 5, max_tokens=20, ignore_eos=True, random=random.Random("3/0/0")),
        Score([*range(30, 180)], None, 5),
    ]
    rest = [Score([rng.randrange(256) for _ in range(rng.randint(2, 300))], None, 5) for _ in range(others)]
    queue = [*rest, *jobs]
    rng.shuffle(queue)
    while queue or scheduler.busy:
        for job in queue[:3]:
            scheduler.add(job)
        del queue[:3]
        scheduler.work()
    return [bits(job) for job in jobs]


@pytest.mark.parametrize("threads", [2, 3])
def test_where_a_threads_share_ends_changes_no_activation(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        even = EvenActivation(nn.SiLU())
        x = torch.randn(256, 1536, generator=torch.Generator().manual_seed(0))
        whole = even(x)
        assert all(torch.equal(even(x[:rows]), whole[:rows]) for rows in range(8, 256, 8))
    finally:
        torch.set_num_threads(before)
