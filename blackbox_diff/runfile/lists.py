"""Lists of alternatives in the run file: numbers as one BLOB per text, the bytes of every token once per run."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.records import Alternatives
from blackbox_diff.runfile.encoding import decoder
from blackbox_diff.runfile.writer import Statement

PUT = "INSERT OR IGNORE INTO alternatives (sample_id, origin, reference, lists) VALUES (?, ?, ?, ?)"
PUT_TOKEN = "INSERT INTO tokens (number, bytes) VALUES (?, ?)"
OWN = ""  # stands as the reference of what the completion's own model listed
_HEAD = struct.Struct("<II")  # positions, entries


class Numbering:
    """The run's number of each token. Used by the writer's thread alone, which stores new ones as they come."""

    def __init__(self, tokens: Iterable[bytes]) -> None:
        self._numbers = {token: number for number, token in enumerate(tokens)}

    def statements(
        self, sample_id: str, origin: str, reference: str, lists: Alternatives | None
    ) -> list[Statement]:
        """What stores `lists`; nothing where there are none."""
        if lists is None:
            return []
        used, where = np.unique(lists.tokens, return_inverse=True)
        new: list[Statement] = []
        numbers = []
        for place in used.tolist():
            token = lists.vocabulary[place]
            number = self._numbers.get(token)
            if number is None:
                number = self._numbers[token] = len(self._numbers)
                new.append((PUT_TOKEN, (number, token)))
            numbers.append(number)
        blob = pack(lists, np.asarray(numbers, dtype=np.uint32)[where])
        return [*new, (PUT, (sample_id, origin, reference, blob))]


def pack(lists: Alternatives, numbers: NDArray[np.uint32]) -> bytes:
    """The BLOB of `lists`, whose entries are the tokens with these numbers."""
    parts = (
        _HEAD.pack(len(lists), len(lists.tokens)),
        lists.positions.astype("<u4").tobytes(),
        np.diff(lists.offsets).astype("<u2").tobytes(),
        lists.unlisted.astype("<f4").tobytes(),
        numbers.astype("<u4").tobytes(),
        lists.logprobs.astype("<f4").tobytes(),
    )
    return zlib.compress(b"".join(parts), 1)


@decoder("list of alternatives")
def unpack(blob: bytes, vocabulary: Callable[[int], Sequence[bytes]]) -> Alternatives:
    """The lists in a BLOB; `vocabulary` gives the run's tokens, at least as many as it is asked for."""
    data = zlib.decompress(blob)
    p, a = _HEAD.unpack_from(data)
    at = _HEAD.size
    positions = np.frombuffer(data, "<u4", p, at)
    counts = np.frombuffer(data, "<u2", p, at + 4 * p)
    unlisted = np.frombuffer(data, "<f4", p, at + 6 * p)
    tokens = np.frombuffer(data, "<u4", a, at + 10 * p)
    logprobs = np.frombuffer(data, "<f4", a, at + 10 * p + 4 * a)
    offsets = np.zeros(p + 1, dtype=np.int64)
    np.cumsum(counts, dtype=np.int64, out=offsets[1:])
    least = int(tokens.max()) + 1 if a else 0
    known = vocabulary(least)
    if offsets[-1] != a or len(known) < least:
        raise ValueError("its parts do not fit each other")
    return Alternatives(
        positions.astype(np.int64),
        offsets,
        tokens.astype(np.int32),
        logprobs.astype(np.float32),
        unlisted.astype(np.float32),
        known,
    )
