"""The bundled local server as a child process: for `--reference local:SPEC` and the demo.

The only seam to it is its command line, the URL it prints and HTTP; nothing of it is imported.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import IO

from blackbox_diff.errors import ConfigError

INSTALL_HINT = "pip install 'blackbox-diff[local]'"
READY = "ready "
ALWAYS = ("--port", "0", "--exit-with-parent")


def missing_parts() -> list[str]:
    """The modules that the bundled server needs and that are not installed."""
    return [name for name in ("local_server", "torch", "transformers") if importlib.util.find_spec(name) is None]


@contextmanager
def serve(arguments: Sequence[str], *, ready_within_seconds: float = 300.0) -> Iterator[str]:
    """Run `python -m local_server ARGUMENTS` and yield its base URL; the server ends with the block.

    The first start converts embedded weights, hence the long default. Raises ConfigError with the
    server's own last line when it does not come up.
    """
    missing = missing_parts()
    if missing:
        raise ConfigError(f"the bundled server needs {', '.join(missing)}: {INSTALL_HINT}")
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "local_server", *arguments, *ALWAYS],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C is for the audit, which still needs the server to finish its calls
        )
        try:
            yield _ready_url(process, ready_within_seconds, log)
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _ready_url(process: subprocess.Popen[str], within_seconds: float, log: IO[str]) -> str:
    alarm = Timer(within_seconds, process.kill)
    alarm.start()
    try:
        for line in process.stdout or ():
            if line.startswith(READY):
                return line.removeprefix(READY).strip()
    finally:
        alarm.cancel()
    process.wait()
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    reason = lines[-1] if lines else f"it ended with code {process.returncode}"
    raise ConfigError(f"the bundled server did not start: {reason}")


def organisms_dir() -> Path:
    """Where the fixture organisms lie: inside an installed package, or in a checkout."""
    package = Path(__file__).parent.parent
    for candidate in (package / "organisms", package.parent / "fixtures" / "organisms"):
        if candidate.is_dir():
            return candidate
    raise ConfigError("the fixture organisms are not installed: run from a checkout of blackbox-diff")
