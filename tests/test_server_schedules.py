"""Whatever else was in its passes, a completion's logprobs are those of its text alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from local_server.engine.jobs import Generate, Score
from local_server.engine.scheduler import Scheduler
from local_server.model.load import LoadedModel, load
from local_server.model.lora import attach

NATS = 2e-3


def texts(rng: random.Random) -> list[list[int]]:
    """Three starts that prompts share, as a chat template is."""
    return [[rng.randrange(256) for _ in range(rng.randint(16, 40))] for _ in range(3)]


def prompt(rng: random.Random, starts: list[list[int]]) -> list[int]:
    start = rng.choice(starts) if rng.random() < 0.6 else []
    return start + [rng.randrange(256) for _ in range(rng.randint(1, rng.choice([5, 30, 100])))]


def writes(rng: random.Random, ids: list[int], adapter: str | None, most: int) -> Generate:
    seeded = random.Random(rng.random())
    return Generate(ids, adapter, 0, max_tokens=rng.randint(1, most), ignore_eos=True, random=seeded)


def schedule(loaded: LoadedModel, adapters: list[str | None], seed: int) -> list[Generate]:
    """Completions of a run in which jobs of every kind come in bursts, and some are cancelled."""
    rng = random.Random(seed)
    scheduler = Scheduler(loaded, rng.choice([4, 9, 32]))
    if rng.random() < 0.3:
        scheduler.cache.budget = rng.choice([50_000, 200_000])
    starts = texts(rng)
    written: list[Generate] = []
    asked: list[Generate | Score] = []
    for _ in range(rng.randint(20, 100)):
        for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 5, 12])):
            ids, adapter = prompt(rng, starts), rng.choice(adapters)
            if rng.random() < 0.6:
                written.append(writes(rng, ids, adapter, 70))
                asked.append(written[-1])
            else:
                writer = writes(rng, ids, adapter, 1) if rng.random() < 0.3 else None
                written += [writer] if writer else []
                asked.append(Score(ids, adapter, rng.choice([0, 3]), writer=writer))
            scheduler.add(asked[-1])
        if asked and rng.random() < 0.1:
            rng.choice(asked).future.cancel()
        scheduler.work()
    while scheduler.busy:
        scheduler.work()
    return [job for job in written if not job.future.cancelled() and job.tokens]


def check(loaded: LoadedModel, adapters: list[str | None], seed: int) -> None:
    alone = Scheduler(loaded, 1)
    for job in schedule(loaded, adapters, seed):
        score = Score(job.prompt + [token.id for token in job.tokens], job.adapter, 0)
        alone.add(score)
        while alone.busy:
            alone.work()
        expected = [token.logprob for token in score.future.result()][len(job.prompt) :]
        assert [token.logprob for token in job.tokens] == pytest.approx(expected, abs=NATS)


@pytest.fixture(scope="module")
def llama(tiny_model: Path, tiny_adapters: dict[str, Path]) -> LoadedModel:
    loaded = load(str(tiny_model), "float32")
    for name, path in tiny_adapters.items():
        attach(loaded.model, loaded.chosen, name, path)
    return loaded


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_of_everything_changes_no_completion(llama: LoadedModel, seed: int) -> None:
    check(llama, [None, "one", "two"], seed)


@pytest.mark.parametrize("seed", range(2))
def test_nor_with_sliding_windows(tiny_gemma: Path, seed: int) -> None:
    check(load(str(tiny_gemma), "float32"), [None], seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 125))
def test_nor_in_many_schedules(llama: LoadedModel, seed: int) -> None:
    check(llama, [None, "one", "two"], seed)
