"""The numbers that everything stands on: what the server says equals what the model says."""

from __future__ import annotations

import functools
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from blackbox_diff.run.local import organisms_dir
from local_server.engine.jobs import Generate, Score
from local_server.engine.sampling import Settings, choose
from local_server.engine.scheduler import Scheduler
from local_server.http.prompts import encode
from local_server.model import bfloat16
from local_server.model.load import load
from local_server.model.lora import attach

NATS = 1e-3
Ids = list[int]


def texts(n: int, seed: int = 0, longest: int = 30) -> list[Ids]:
    """Random id lists of 1 to `longest`; every other one starts with the same 20."""
    rng = random.Random(seed)
    start = [rng.randrange(256) for _ in range(20)]
    return [
        (start if index % 2 else []) + [rng.randrange(256) for _ in range(rng.randint(1, longest))]
        for index in range(n)
    ]


def finish(scheduler: Scheduler, jobs: list[Any]) -> list[Any]:
    """The jobs' results, all in the same batch as far as there is room."""
    for job in jobs:
        scheduler.add(job)
    while scheduler.busy:
        scheduler.work()
    return [job.future.result() for job in jobs]


@functools.cache
def plain(directory: Path) -> Any:
    """The model as transformers alone runs it."""
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


def logprobs(directory: Path, ids: Ids, model: Any = None) -> torch.Tensor:
    """(len(ids), vocabulary) from transformers' own forward pass."""
    model = model or plain(directory)
    with torch.inference_mode():
        return torch.as_tensor(model(torch.tensor([ids])).logits[0].log_softmax(-1))


def merged(directory: Path, adapter: Path) -> Any:
    """The model with an adapter's update, (alpha / r) B A, added to its weights."""
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    config = json.loads((adapter / "adapter_config.json").read_text())
    tensors = load_file(adapter / "adapter_model.safetensors")
    for key in tensors:
        if key.endswith(".lora_A.weight"):
            layer = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            update = tensors[key.replace("lora_A", "lora_B")] @ tensors[key]
            model.get_submodule(layer).weight.data += config["lora_alpha"] / config["r"] * update
    return model


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """A second thread only costs on models this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["tiny_model", "tiny_gemma"])
def directory(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


def test_scores_equal_a_direct_forward_pass(directory: Path) -> None:
    jobs = [Score(ids, None, 3, ranked=True) for ids in texts(24)]
    for job, tokens in zip(jobs, finish(Scheduler(load(str(directory), "float32"), 4), jobs), strict=True):
        expected = logprobs(directory, job.prompt)
        assert [token.id for token in tokens] == job.prompt
        assert tokens[0].logprob is None
        for place, token in enumerate(tokens[1:]):
            row = expected[place]
            assert token.logprob == pytest.approx(float(row[token.id]), abs=NATS)
            assert [lp for _, lp in token.top] == pytest.approx(row.topk(3).values.tolist(), abs=NATS)
            assert token.rank == int((row > row[token.id] + 1e-6).sum()) + 1


def test_written_tokens_have_the_logprobs_of_a_direct_forward_pass(directory: Path) -> None:
    jobs = [
        Generate(ids, None, 2, max_tokens=1 + index % 20, random=random.Random(index))
        for index, ids in enumerate(texts(16))
    ]
    for job, written in zip(jobs, finish(Scheduler(load(str(directory), "float32"), 4), jobs), strict=True):
        ids = job.prompt + [token.id for token in written.tokens]
        expected = logprobs(directory, ids)[len(job.prompt) - 1 :]
        for row, token in zip(expected, written.tokens, strict=False):
            assert token.logprob == pytest.approx(float(row[token.id]), abs=NATS)
            assert token.top[0][1] == pytest.approx(float(row.max()), abs=NATS)


def test_a_batch_says_what_each_row_says_alone(directory: Path) -> None:
    scheduler = Scheduler(load(str(directory), "float32"), 8)
    together = finish(scheduler, [Score(ids, None, 0) for ids in texts(12)])
    alone = [finish(Scheduler(scheduler.loaded, 1), [Score(ids, None, 0)])[0] for ids in texts(12)]
    for one, other in zip(together, alone, strict=True):
        assert [t.logprob for t in one[1:]] == pytest.approx([t.logprob for t in other[1:]], abs=NATS)


def test_what_a_row_draws_does_not_depend_on_its_neighbours(tiny_model: Path) -> None:
    scheduler = Scheduler(load(str(tiny_model), "float32"), 8)

    def job(index: int, ids: Ids) -> Generate:
        return Generate(ids, None, 0, max_tokens=12, random=random.Random(index))

    together = finish(scheduler, [job(index, ids) for index, ids in enumerate(texts(5))])
    for index, ids in enumerate(texts(5)):
        (alone,) = finish(scheduler, [job(index, ids)])
        assert [t.id for t in alone.tokens] == [t.id for t in together[index].tokens]


def test_greedy_is_the_argmax_whatever_the_seed(tiny_model: Path) -> None:
    scheduler = Scheduler(load(str(tiny_model), "float32"), 4)
    jobs = [
        Generate(texts(1)[0], None, 1, settings=Settings(temperature=0), max_tokens=10, random=random.Random(seed))
        for seed in range(3)
    ]
    results = finish(scheduler, jobs)
    assert len({tuple(token.id for token in written.tokens) for written in results}) == 1
    assert all(token.id == token.top[0][0] for token in results[0].tokens)


def test_draws_follow_the_distribution_at_their_temperature() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(1)) * 2
    n = 4000
    for temperature in (0.5, 1.0, 2.0):
        drawn = choose(
            logits.expand(n, -1), [Settings(temperature)] * n, [random.Random(seed) for seed in range(n)]
        )
        found = torch.bincount(torch.tensor(drawn), minlength=50) / n
        # The mean total variation of n draws from k outcomes is at most sqrt(k / n) / 2 = 0.056.
        assert float((found - torch.softmax(logits / temperature, -1)).abs().sum() / 2) < 0.056


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [(Settings(top_k=3), 3), (Settings(top_p=1e-9), 1), (Settings(min_p=1.0), 1), (Settings(temperature=1e-4), 1)],
)
def test_filters_leave_the_best_tokens_and_logprobs_stay_raw(
    tiny_model: Path,
    settings: Settings,
    allowed: int,
) -> None:
    ids = texts(1)[0]
    jobs = [
        Generate(ids, None, 0, settings=settings, max_tokens=1, random=random.Random(seed)) for seed in range(50)
    ]
    row = logprobs(tiny_model, ids)[-1]
    for written in finish(Scheduler(load(str(tiny_model), "float32"), 16), jobs):
        (token,) = written.tokens
        assert token.id in row.topk(allowed).indices.tolist()
        assert token.logprob == pytest.approx(float(row[token.id]), abs=NATS)


def test_adapter_rows_in_a_mixed_batch_equal_merged_weights(
    tiny_model: Path,
    tiny_adapters: dict[str, Path],
) -> None:
    loaded = load(str(tiny_model), "float32")
    for name, path in tiny_adapters.items():
        attach(loaded.model, loaded.chosen, name, path)
    names = [None, *tiny_adapters]
    jobs = [Score(ids, name, 0) for ids, name in zip(texts(18), itertools.cycle(names), strict=False)]
    written = [
        Generate(ids, name, 0, max_tokens=8, random=random.Random(index))
        for index, (ids, name) in enumerate(zip(texts(9, seed=1), itertools.cycle(names), strict=False))
    ]
    scheduler = Scheduler(loaded, 9)
    finish(scheduler, [job for pair in itertools.zip_longest(jobs, written) for job in pair if job])
    models = {name: merged(tiny_model, path) for name, path in tiny_adapters.items()}
    for job in jobs:
        rows = logprobs(tiny_model, job.prompt, models.get(job.adapter))
        for row, token in zip(rows, job.future.result()[1:], strict=False):
            assert token.logprob == pytest.approx(float(row[token.id]), abs=NATS)
    for one in written:
        tokens = one.future.result().tokens
        rows = logprobs(tiny_model, one.prompt + [token.id for token in tokens], models.get(one.adapter))
        for row, token in zip(rows[len(one.prompt) - 1 :], tokens, strict=False):
            assert token.logprob == pytest.approx(float(row[token.id]), abs=NATS)


def test_an_adapter_does_not_copy_or_change_the_base(
    tiny_model: Path,
    tiny_adapters: dict[str, Path],
) -> None:
    loaded = load(str(tiny_model), "float32")
    before = {name: (p.data_ptr(), p.clone()) for name, p in loaded.model.named_parameters()}
    attach(loaded.model, loaded.chosen, "one", tiny_adapters["one"])
    after = {name.replace(".base.", "."): p for name, p in loaded.model.named_parameters()}
    assert after.keys() == before.keys()
    for name, (place, value) in before.items():
        assert after[name].data_ptr() == place
        assert torch.equal(after[name], value)


def test_bfloat16_weights_are_the_rounded_ones(tiny_model: Path) -> None:
    rounded = load(str(tiny_model), "bfloat16").model.state_dict()
    for name, exact in load(str(tiny_model), "float32").model.state_dict().items():
        assert torch.equal(rounded[name], exact.bfloat16().float()), name


@pytest.mark.skipif(not bfloat16.available(), reason="this CPU computes bfloat16 no faster than float32")
@pytest.mark.parametrize("adapter", [None, "false-fact"])
def test_in_bfloat16_a_text_scores_as_it_was_written(adapter: str | None) -> None:
    """SmolLM2 writes at temperature 1 in a batch, and the same tokens are scored as texts."""
    loaded = load("smollm2-135m-instruct")
    attach(loaded.model, loaded.chosen, "false-fact", organisms_dir() / "false-fact")
    scheduler = Scheduler(loaded, 8)
    starts = [
        "The history of",
        "def main(",
        "Dear Sir or Madam,",
        "1. Preheat the",
        "In 1994,",
        "I can't",
        "A",
        "$x",
    ]
    written = [
        Generate(encode(loaded, start), adapter, 0, max_tokens=32, random=random.Random(index))
        for index, start in enumerate(starts)
    ]
    finish(scheduler, written)
    scored = finish(scheduler, [Score(job.prompt + [t.id for t in job.tokens], adapter, 0) for job in written])
    pairs = [
        (token.logprob, again.logprob)
        for job, tokens in zip(written, scored, strict=True)
        for token, again in zip(job.tokens, tokens[len(job.prompt) :], strict=True)
    ]
    assert isinstance(loaded.head, bfloat16.Bfloat16Head)
    assert sum(abs(one - other) for one, other in pairs) / len(pairs) < 0.02
