"""Real processes that tests talk to: the bundled server and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent


@contextmanager
def running(arguments: Sequence[str], **environment: str) -> Iterator[str]:
    """`python -m local_server ARGUMENTS` on a free port; yields its base URL and ends it with SIGTERM."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "local_server",
            *arguments,
            "--port",
            "0",
            "--exit-with-parent",
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("ready http://127.0.0.1:"), f"the server did not start: {line!r}"
        yield line.removeprefix("ready ").strip()
    finally:
        process.terminate()
        code = process.wait(timeout=30)
        process.stdout.close()
    assert code == 0
