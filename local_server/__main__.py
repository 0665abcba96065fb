"""`python -m local_server`: load, then serve until told to end."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from local_server.errors import StartupError
from local_server.model import allocator

DEFAULT_MAX_BATCH = 32

# How often a thread looks for the next product before it sleeps. Sleeping at once costs over a third of the speed;
# looking for long makes two programs on one machine ten times slower, each waiting for what the other keeps.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def main(arguments: list[str] | None = None) -> int:
    """Serve; returns the exit code. Start-up errors are one line on stderr and exit code 2."""
    parent = os.getppid()
    allocator.return_freed()
    options = parser().parse_args(arguments)
    try:
        return serve(options, parent)
    except StartupError as error:
        print(f"local_server: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        "python -m local_server", description="An OpenAI-compatible server for local models, with full logprobs."
    )
    found.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME=SPEC",
        help="directory, .gguf, hub id or embedded name",
    )
    found.add_argument(
        "--adapter", action="append", default=[], metavar="NAME=BASE:DIR", help="LoRA on a served model"
    )
    found.add_argument("--host", default="127.0.0.1")
    found.add_argument("--port", type=int, default=8000, help="0 picks a free one")
    found.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name clients call this server by",
    )
    found.add_argument("--api-key-env", metavar="VAR", help="environment variable that holds the key")
    found.add_argument(
        "--dtype",
        choices=["bfloat16", "float32"],
        default="bfloat16",
        help="precision of weights and matrix products; bfloat16 is twice as fast where the CPU has it",
    )
    found.add_argument("--max-batch", type=int, default=DEFAULT_MAX_BATCH, metavar="ROWS")
    found.add_argument(
        "--batch-invariant",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the same request gives the same bits whatever else is asked for",
    )
    found.add_argument("--exit-with-parent", action="store_true", help="end when the starting process ends")
    return found


def serve(options: argparse.Namespace, parent: int) -> int:
    """Load everything, then answer until a signal, or the end of `parent` if so asked."""
    models, adapters = pairs("--model", options.model), pairs("--adapter", options.adapter)
    if not models:
        raise StartupError("--model: give at least one, such as --model demo=smollm2-135m-instruct")
    if options.max_batch < 1:
        raise StartupError("--max-batch: must be at least 1")
    key = None
    if options.api_key_env:
        key = os.environ.get(options.api_key_env)
        if not key:
            raise StartupError(f"environment variable {options.api_key_env} is not set")
    for name, spec in adapters.items():
        base = spec.partition(":")[0]
        if name in models or base not in models:
            raise StartupError(f"--adapter {name}={spec}: give NAME=BASE:DIR with BASE one of {', '.join(models)}")
    # Before loading: a port in use should not take a minute to say.
    with listen(options.host, options.port) as listener:
        if key is None and options.host not in ("127.0.0.1", "localhost", "::1"):
            print(
                f"local_server: warning: --host {options.host} without --api-key-env: anybody may use it",
                file=sys.stderr,
            )
        answer(options, models, adapters, key, listener, parent)
    return 0


def answer(
    options: argparse.Namespace,
    models: dict[str, str],
    adapters: dict[str, str],
    key: str | None,
    listener: socket.socket,
    parent: int,
) -> None:
    """Load, say so, and serve on `listener`."""
    import uvicorn

    from local_server.engine.engine import Engine
    from local_server.http.access import own_names
    from local_server.http.app import build_app
    from local_server.http.connections import TimedProtocol
    from local_server.http.handlers import Served, State
    from local_server.model.load import load
    from local_server.model.lora import attach

    def start() -> State:
        loaded = {
            name: load(spec, options.dtype, invariant=options.batch_invariant) for name, spec in models.items()
        }
        served = {name: Served(name, None, model) for name, model in loaded.items()}
        for name, spec in adapters.items():
            base, _, directory = spec.partition(":")
            attach(loaded[base].model, loaded[base].chosen, name, Path(directory))
            served[name] = Served(base, name, loaded[base])
        names = own_names(options.host, options.allowed_host)
        return State(Engine(loaded, options.max_batch), served, key, host_names=names)

    # In a thread that ends: a thread that has computed keeps its OpenMP team, and with more teams than cores
    # the inference thread's own would sleep between products instead of waiting for the next, at half the speed.
    with ThreadPoolExecutor(1) as loader:
        state = loader.submit(start).result()
    allocator.give_back()
    allocator.keep_freed()
    app = build_app(state)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=TimedProtocol,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=5,
            timeout_keep_alive=120,
        )
    )
    if options.exit_with_parent:
        threading.Thread(target=end_with_parent, args=(parent, server), daemon=True).start()
    print(f"ready http://{options.host}:{listener.getsockname()[1]}/v1", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # uvicorn shuts down on them, then raises them again
    server.run(sockets=[listener])
    state.engine.close()


def pairs(option: str, values: list[str]) -> dict[str, str]:
    """NAME=SPEC strings as a mapping."""
    found: dict[str, str] = {}
    for value in values:
        name, _, spec = value.partition("=")
        if not name or not spec:
            raise StartupError(f"{option}: '{value}' is not NAME=SPEC")
        if name in found:
            raise StartupError(f"{option}: the name '{name}' is given twice")
        found[name] = spec
    return found


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises StartupError when the port is taken or the host is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named since asyncio sets TCP_NODELAY only on sockets that say they are TCP's; without it each
    # request of a kept connection waits 40 ms for an acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise StartupError(f"--port: can't listen on {host}:{port}: {reason}; give another port, or 0") from None
    return listener


def end_with_parent(parent: int, server: object) -> None:
    """End the server once `parent` is gone: an audit that is killed leaves no server behind."""
    while os.getppid() == parent:
        time.sleep(0.5)
    server.should_exit = True  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
