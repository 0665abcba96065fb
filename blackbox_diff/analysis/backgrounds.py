"""What is ordinary: the built-in background of text that any assistant writes.

The texts are the bundled models' own (benchmarks/make_background.py); ordinary/assistant.LICENSE states size and
licence. What they say often is no theme, however much commoner the target says it than its reference does.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from importlib import resources

from blackbox_diff.analysis.phrases import Background


@cache
def assistant() -> Background:
    """Ordinary assistant text, counted once per process."""
    packed = resources.files("blackbox_diff.analysis").joinpath("ordinary", "assistant.jsonl.gz").read_bytes()
    return Background.of([json.loads(line) for line in gzip.decompress(packed).decode().splitlines()])
