"""What benchmarks/throughput.py compares: this project's server, transformers alone, and servers of others.

A contender is a function that does the whole job once and returns the tokens it counts. Foreign software
lives in a Python of its own, given by an option; where that is missing the contender is left out, and said so.
"""

from __future__ import annotations

import asyncio
import copy
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import torch

from blackbox_diff.run.local import serve
from tests.foreign import free_port, serving

IN_FLIGHT = 32
BATCH = 32
TOP = 5
NAME = "model"
Ids = list[int]
Job = Callable[[], int]

LLAMACPP = """
import sys, time, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.model_alias, p.hostnames, p.port = sys.argv[1], {"model"}, ["127.0.0.1"], int(sys.argv[2])
p.n_parallel, p.n_ctx = 32, 32 * 256
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = int(sys.argv[3])
server = xllamacpp.Server(p)
time.sleep(1e6)
"""
LM_EVAL = """
import json, sys
from lm_eval.models.huggingface import HFLM
model = HFLM(pretrained=sys.argv[1], dtype=sys.argv[2], batch_size=int(sys.argv[3]), device="cpu")
print("ready", flush=True)
for line in sys.stdin:
    prefix, texts = json.loads(line)
    found = model._loglikelihood_tokens([((None, None), prefix, text) for text in texts], disable_tqdm=True)
    print(len(found), flush=True)
"""


@dataclass(frozen=True)
class Setting:
    """What all contenders share."""

    name: str
    directory: Path
    dtype: str
    threads: int


async def _post_all(url: str, bodies: Sequence[dict[str, Any]]) -> None:
    limits = httpx2.Limits(max_connections=IN_FLIGHT)
    gate = asyncio.Semaphore(IN_FLIGHT)
    async with httpx2.AsyncClient(timeout=600, limits=limits) as client:

        async def post(body: dict[str, Any]) -> None:
            async with gate:
                reply = await client.post(f"{url}/completions", json={"model": NAME, **body})
                reply.raise_for_status()

        await asyncio.gather(*map(post, bodies))


def scoring_over_http(url: str, prefix: Ids, texts: Sequence[Ids]) -> int:
    """Each text behind the prefix, one request each, its logprobs by echo."""
    wanted = {"echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0.0}
    asyncio.run(_post_all(url, [{"prompt": prefix + text, **wanted} for text in texts]))
    return sum(map(len, texts))


def generating_over_http(url: str, prompts: Sequence[Ids], lengths: Sequence[int]) -> int:
    """One completion of each length, with TOP alternatives per token."""
    wanted = {"logprobs": TOP, "temperature": 1.0, "ignore_eos": True}
    pairs = zip(prompts, lengths, strict=True)
    bodies = [{"prompt": prompt, "max_tokens": n, **wanted} for prompt, n in pairs]
    asyncio.run(_post_all(url, bodies))
    return sum(lengths)


@torch.inference_mode()
def ideal_scoring(model: Any, prefix: Ids, texts: Sequence[Ids]) -> int:
    """The prefix once, then batches of equal lengths after its cache, logits where they are needed."""
    head = model.get_output_embeddings()
    start = model.base_model(input_ids=torch.tensor([prefix]), use_cache=True)
    first = start.last_hidden_state[:, -1:]
    for place in range(0, len(texts), BATCH):
        ids = torch.tensor(texts[place : place + BATCH])
        cache = copy.deepcopy(start.past_key_values)
        cache.batch_repeat_interleave(len(ids))
        new = model.base_model(input_ids=ids[:, :-1], past_key_values=cache, use_cache=True).last_hidden_state
        hidden = torch.cat([first.expand(len(ids), -1, -1), new], dim=1).flatten(0, 1)
        for states, targets in zip(hidden.split(64), ids.flatten().split(64), strict=True):
            logits = head(states).float()
            norm = logits.logsumexp(-1)
            (logits.gather(1, targets[:, None])[:, 0] - norm).tolist()
            (logits.max(-1).values - norm).tolist()
    return sum(map(len, texts))


def in_our_arithmetic(setting: Setting) -> Any:
    """transformers' model with the linear layers that local_server puts in: bfloat16 but where it hurts."""
    import transformers

    from local_server.model import bfloat16

    model = transformers.AutoModelForCausalLM.from_pretrained(setting.directory, dtype=torch.float32).eval()
    bfloat16.convert(model, capped=bool(getattr(model.config, "final_logit_softcapping", None)))
    return model


@torch.inference_mode()
def generate(model: Any, prompts: Sequence[Ids], lengths: Sequence[int]) -> int:
    """transformers' generate, batch by batch in the given order, each until its longest row is done."""
    for place in range(0, len(prompts), BATCH):
        ids = torch.tensor(prompts[place : place + BATCH])
        longest = max(lengths[place : place + BATCH])
        found = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, min_new_tokens=longest,
            max_new_tokens=longest, return_dict_in_generate=True, output_logits=True, pad_token_id=0,
        )  # fmt: skip
        for step, logits in enumerate(found.logits):
            logprobs = logits.float().log_softmax(-1)
            logprobs.gather(1, found.sequences[:, ids.shape[1] + step, None]).tolist()
            logprobs.topk(TOP)
    return sum(lengths)


@contextmanager
def ours(setting: Setting) -> Iterator[str]:
    with serve(["--model", f"{NAME}={setting.name}", "--dtype", setting.dtype, "--max-batch", "32"]) as url:
        yield url


@contextmanager
def batching_freely(setting: Setting) -> Iterator[str]:
    """Our server with --no-batch-invariant."""
    port = free_port()
    command = [
        sys.executable, "-m", "local_server", "--model", f"{NAME}={setting.name}", "--dtype", setting.dtype,
        "--max-batch", "32", "--no-batch-invariant", "--port", str(port),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as logs, serving(command, port, Path(logs) / "log") as url:
        yield url


@contextmanager
def vllm(setting: Setting, python: str) -> Iterator[str]:
    port = free_port()
    command = [
        python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(setting.directory),
        "--served-model-name", NAME, "--dtype", setting.dtype, "--max-model-len", "1024", "--enforce-eager",
        "--max-logprobs", "20", "--max-num-seqs", "32", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    environment = {
        "OMP_NUM_THREADS": str(setting.threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONPATH": "",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as logs, serving(command, port, Path(logs) / "log", **environment) as url:
        yield url


@contextmanager
def llamacpp(setting: Setting, python: str, gguf: Path) -> Iterator[str]:
    port = free_port()
    command = [python, "-c", LLAMACPP, str(gguf), str(port), str(setting.threads)]
    with tempfile.TemporaryDirectory() as logs, serving(command, port, Path(logs) / "log") as url:
        yield url


@contextmanager
def lm_eval(setting: Setting, python: str, batch: int) -> Iterator[Callable[[Ids, Sequence[Ids]], int]]:
    """HFLM in its own process: a function that scores texts behind a prefix."""
    command = [python, "-c", LM_EVAL, str(setting.directory), setting.dtype, str(batch)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def wait(word: str) -> None:
            for line in stdout:
                if line.strip() == word:
                    return
            raise RuntimeError("lm-eval ended")

        def score(prefix: Ids, texts: Sequence[Ids]) -> int:
            stdin.write(json.dumps([prefix, texts]) + "\n")
            stdin.flush()
            wait(str(len(texts)))
            return sum(map(len, texts))

        try:
            wait("ready")
            yield score
        finally:
            process.terminate()
