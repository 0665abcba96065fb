"""The one reader of a reply's body: whoever asks what a reply says gets the same answer.

A body is JSON, or server-sent events or lines of JSON that add up to a reply (stream.py), with or without a byte
order mark and comment lines such as `: keep-alive` before or between.
"""

from __future__ import annotations

import functools
import json

import pydantic_core

from blackbox_diff.records import Json, RawReply
from blackbox_diff.wire.stream import assembled

BOM = b"\xef\xbb\xbf"
MOST_CONTAINERS = 500_000  # objects and lists; 4,096 tokens with 20 alternatives each have 180,000


def value_of(reply: RawReply) -> Json | None:
    """What the body holds as a JSON value, not to be changed; None where it holds none.

    NaN and Infinity literals are read (they are censored later); integers longer than Python converts, nesting
    deeper than the stack, invalid UTF-8, a stream that lost a part and more than MOST_CONTAINERS objects and
    lists are not JSON here.
    """
    return _value(reply.body)


@functools.lru_cache(maxsize=1)  # one reply is asked several things in a row, and only one is kept unpacked
def _value(body: bytes) -> Json | None:
    body = body.lstrip(BOM + b" \t\r\n")
    if body.count(b"{") + body.count(b"[") > MOST_CONTAINERS:
        return None
    found = load(body)
    if found is not None:
        return found
    lines = [line.strip() for line in body.splitlines()]
    told = [line for line in lines if not line.startswith(b":")]
    if len(told) < len(lines):
        found = load(b"\n".join(told))
        if found is not None:
            return found
    return assembled(told, load)


def load(text: bytes) -> Json | None:
    """The JSON value that `text` is, or None."""
    try:
        found: Json = pydantic_core.from_json(text)  # four times as fast as json, and stricter
        return found
    except ValueError:
        pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
