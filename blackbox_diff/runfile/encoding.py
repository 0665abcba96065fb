"""Values to columns and back: numbers as little-endian BLOBs, text as UTF-8 that survives lone surrogates."""

from __future__ import annotations

import functools
import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np

from blackbox_diff.records import (
    Arm,
    Call,
    Completion,
    Json,
    Lost,
    RawReply,
    ReferenceScore,
    Refusal,
    Sample,
    SideToken,
    Tokens,
    Usage,
)

COMPLETION_COLUMNS = (
    "sample_id, origin, source, framing, prefill, seed, outcome, call_id, reason, advice, "
    "text, ends, logprobs, ids, prompt_ids, extra"
)
SCORE_COLUMNS = "sample_id, origin, reference, outcome, call_id, reason, advice, ends, logprobs, context, notes"

Row = tuple[Any, ...]
P = ParamSpec("P")
R = TypeVar("R")


class DamagedError(Exception):
    """A stored value that can't be read back; the rows add the run's name."""


_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, zlib.error)


def decoder(what: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decoder of one row that names the kind of row when it can't read it."""

    def decorate(decode: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(decode)
        def read(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return decode(*args, **kwargs)
            except _UNREADABLE as error:
                told = isinstance(error, ValueError | zlib.error)  # the others' words are about this program
                reason = str(error) if told else "a field is missing, or of another name or kind"
                reason = " ".join(reason.split())[:200]  # pydantic's are several lines long
                raise DamagedError(f"a {what} can't be read ({reason})") from None

        return read

    return decorate


@decoder("setting")
def loads(text: str) -> Json:
    found: Json = json.loads(text)
    return found


@dataclass(frozen=True, slots=True)
class StoredCall:
    """One row of the ledger with its request and, where there is one, its raw reply."""

    id: int
    role: str
    sample_id: str
    attempt: int
    state: str
    accepted: bool
    reserved: tuple[int, int, int | None]  # input tokens, output tokens, picodollars
    settled: tuple[int, int, int | None]
    flag: str | None
    digest: str
    call: Call
    reply: RawReply | None
    error: str | None


def dumps(value: Json) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def pack_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def unpack_text(blob: bytes) -> str:
    return blob.decode("utf-8", "surrogatepass")


def pack_tokens(tokens: Tokens) -> tuple[bytes, bytes]:
    return tokens.ends.astype("<i8").tobytes(), tokens.logprobs.astype("<f8").tobytes()


def unpack_tokens(ends: bytes, logprobs: bytes) -> Tokens:
    """Raises ValueError where these can't be the ends and numbers of the tokens of one text."""
    found = Tokens(np.frombuffer(ends, "<i8").astype(np.int64), np.frombuffer(logprobs, "<f8").astype(np.float64))
    rising = found.ends[1:] >= found.ends[:-1]
    if len(found.ends) != len(found.logprobs) or (found.ends[:1] < 0).any() or not rising.all():
        raise ValueError("its tokens do not follow each other")
    return found


def pack_ids(ids: Iterable[int] | None) -> bytes | None:
    return None if ids is None else np.asarray(tuple(ids), dtype="<i8").tobytes()


def unpack_ids(blob: bytes | None) -> tuple[int, ...] | None:
    return None if blob is None else tuple(np.frombuffer(blob, "<i8").tolist())


def pack_reply(reply: RawReply) -> tuple[int, str, bytes, float]:
    """Columns status, headers, reply, seconds."""
    return reply.status, dumps(dict(reply.headers)), zlib.compress(reply.body, 1), reply.seconds


@decoder("reply")
def unpack_reply(row: sqlite3.Row) -> RawReply:
    return RawReply(row["status"], json.loads(row["headers"]), zlib.decompress(row["reply"]), row["seconds"])


@decoder("request")
def unpack_call(row: sqlite3.Row) -> Call:
    body = json.loads(row["body"])
    if not isinstance(body, dict):
        raise TypeError("its body is no object")
    return Call(row["path"], body, row["url"])


def stored_call(row: sqlite3.Row) -> StoredCall:
    """A row of `calls`."""
    return StoredCall(
        id=row["id"],
        role=row["role"],
        sample_id=row["sample_id"],
        attempt=row["attempt"],
        state=row["state"],
        accepted=bool(row["accepted"]),
        reserved=(row["reserved_input"], row["reserved_output"], row["reserved_pico"]),
        settled=(row["input"], row["output"], row["pico"]),
        flag=row["flag"],
        digest=row["digest"],
        call=unpack_call(row),
        reply=unpack_reply(row) if row["reply"] is not None else None,
        error=row["error"],
    )


def completion_row(sample: Sample, origin: str, outcome: Completion | Refusal | Lost, call_id: int | None) -> Row:
    """A row of `completions`, in the order of COMPLETION_COLUMNS."""
    head = (sample.id, origin, sample.arm.source, sample.arm.framing, pack_text(sample.prefill), sample.seed)
    if isinstance(outcome, Completion):
        extra = {
            "side": [asdict(token) for token in outcome.side],
            "finish_reason": outcome.finish_reason,
            "usage": asdict(outcome.usage),
            "model": outcome.model,
            "fingerprint": outcome.fingerprint,
            "decode": outcome.decode,
            "notes": outcome.notes,
        }
        return (
            *head, "completed", call_id, None, None,
            pack_text(outcome.text), *pack_tokens(outcome.tokens),
            pack_ids(outcome.ids), pack_ids(outcome.prompt_ids), dumps(extra),
        )  # fmt: skip
    return (*head, *_not_used(outcome, call_id), None, None, None, None, None, None)


def score_row(
    sample_id: str, origin: str, reference: str, score: ReferenceScore | Refusal | Lost, call_id: int | None
) -> Row:
    """A row of `scores`, in the order of SCORE_COLUMNS."""
    head = (sample_id, origin, reference)
    if isinstance(score, ReferenceScore):
        return (
            *head, "scored", call_id, None, None, *pack_tokens(score.tokens), score.context, dumps(score.notes)
        )  # fmt: skip
    return (*head, *_not_used(score, call_id), None, None, None, None)


def _not_used(outcome: Refusal | Lost, call_id: int | None) -> Row:
    if isinstance(outcome, Refusal):
        return ("refused", call_id, outcome.reason, outcome.advice)
    return ("failed", call_id, outcome.reason, outcome.detail)


@decoder("sample")
def sample_of(row: sqlite3.Row) -> Sample:
    return Sample(row["sample_id"], Arm(row["source"], row["framing"]), unpack_text(row["prefill"]), row["seed"])


@decoder("completion")
def outcome_of(row: sqlite3.Row) -> Completion | Refusal | Lost:
    """The outcome in a row of `completions`."""
    if row["outcome"] == "refused":
        return Refusal(row["reason"], row["advice"])
    if row["outcome"] != "completed":
        return Lost(row["reason"], row["advice"])
    extra = json.loads(row["extra"])
    return Completion(
        text=unpack_text(row["text"]),
        tokens=unpack_tokens(row["ends"], row["logprobs"]),
        ids=unpack_ids(row["ids"]),
        prompt_ids=unpack_ids(row["prompt_ids"]),
        side=tuple(SideToken(**token) for token in extra["side"]),
        finish_reason=extra["finish_reason"],
        usage=Usage(**extra["usage"]),
        model=extra["model"],
        fingerprint=extra["fingerprint"],
        decode=extra["decode"],
        notes=tuple(extra["notes"]),
    )


@decoder("score")
def score_of(row: sqlite3.Row) -> ReferenceScore | Refusal | Lost:
    """The score in a row of `scores`."""
    if row["outcome"] == "refused":
        return Refusal(row["reason"], row["advice"])
    if row["outcome"] != "scored":
        return Lost(row["reason"], row["advice"])
    return ReferenceScore(
        unpack_tokens(row["ends"], row["logprobs"]), row["context"], tuple(json.loads(row["notes"]))
    )
