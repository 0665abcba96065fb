"""Prefills: short random openings that completions start from.

A prefill is the first three tokens' worth of a line of general text. Which tokens is nobody's business
here (target and reference have their own), so `opening` counts pieces instead: a word with its inner
apostrophes and hyphens, or a run of punctuation, each with the white space before it.

Sources: `prose` and `code` (built in), `file:PATH[:FIELD]` or a path (text, JSONL, JSON, CSV, TSV, gzip of these),
`hf:ID_OR_DIR[:COLUMN]`; and `writer`, whose openings are longer and written by a chat model (`written`).
"""

from __future__ import annotations

from blackbox_diff.prefills.opening import opening
from blackbox_diff.prefills.sampling import draw
from blackbox_diff.prefills.sources import BUILT_IN, Source, open_source

__all__ = ["BUILT_IN", "Source", "draw", "open_source", "opening"]
