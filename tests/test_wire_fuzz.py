"""Mutated replies give a completion or a refusal: no exception, NaN only as missing, no positive logprob."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blackbox_diff.buying.buyer import settlement
from blackbox_diff.buying.ledger import Ledger
from blackbox_diff.buying.limits import Limiter
from blackbox_diff.buying.prices import Prices
from blackbox_diff.buying.retry import LONGEST_WAIT, Decision, decide
from blackbox_diff.config.model import Budget
from blackbox_diff.records import Call, Completion, RawReply, ReferenceScore, Refusal, Usage
from blackbox_diff.wire import DIALECTS, ScoreItem, error_of, usage
from blackbox_diff.wire.counts import MOST_TOKENS, delivered
from tests.test_wire_requests import able

FIXTURES = Path(__file__).parent.parent / "fixtures" / "wire"
SEEDS = [path.read_bytes() for path in sorted(FIXTURES.glob("*/*.response.*"))]
VALUES: list[Any] = [
    None, True, False, 0, -0.0, 1, -1, 2**70, -9999.0, -100.0, 3.5, 1e308, -3.4e38, -1e-9, 1e-7,
    float("nan"), float("inf"), float("-inf"), "", "x", "\ufffd", "\ud800", "<|im_end|>", "Ġa", "é", "￿", "stop",
    "bytes:\\xe2\\x80", "\\xf0\\x9f", "token_id:7", "token_id:x", "<0xE2>", "length", "9" * 400,
    [], {}, [None], [[1, 2]], [256], [-1], {"a": 1}, [239, 191, 189], [[]], {"content": []},
]  # fmt: skip


ITEMS = (ScoreItem("I", "raw", " ❤️ 🧑‍🚀 "), ScoreItem("東", "raw", "京は"), ScoreItem("Hello", "chat", "!"))


def nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every node of a JSON value."""
    found = [path]
    if isinstance(value, dict):
        for key in value:
            found += nodes(value[key], (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += nodes(item, (*path, index))
    return found


def mutate(value: Any, paths: list[tuple[Any, ...]], rng: random.Random) -> None:
    """One structure-aware change in place: replace, drop, repeat, or swap a node."""
    path = rng.choice(paths)
    if not path:
        return
    parent = value
    try:
        for step in path[:-1]:
            parent = parent[step]
        kind = rng.random()
        if kind < 0.6:
            parent[path[-1]] = deepcopy(rng.choice(VALUES))
        elif kind < 0.75:
            del parent[path[-1]]
        elif isinstance(parent, list):
            parent.insert(rng.randrange(len(parent) + 1), deepcopy(parent[path[-1]]))
        else:
            name = rng.choice(("text", "logprobs", "content", "token", "usage", "choices"))
            parent[name] = deepcopy(parent[path[-1]])
    except (KeyError, IndexError, TypeError):
        return  # an earlier change removed this node


def mutated(rng: random.Random, parsed: list[tuple[str, list[tuple[Any, ...]]]]) -> bytes:
    text, paths = rng.choice(parsed)
    if rng.random() < 0.1:
        data = bytearray(text.encode())
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data[: rng.randrange(1, len(data) + 1)] if rng.random() < 0.3 else data)
    value = json.loads(text)
    for _ in range(rng.randrange(1, 5)):
        mutate(value, paths, rng)
    if isinstance(value, dict) and rng.random() < 0.3:
        value["usage"] = {name: deepcopy(rng.choice(COUNTS)) for name in USAGE if rng.random() < 0.4}
    if rng.random() < 0.1:
        return streamed(value, rng)
    return json.dumps(value).encode()


USAGE = ("prompt_tokens", "completion_tokens", "total_tokens", "reasoning_tokens", "cost", "input_tokens",
         "output_tokens", "completion_tokens_details", "prompt_tokens_details")  # fmt: skip
COUNTS: list[Any] = [
    0, 1, 7, 16, 2**24 - 1, 2**24, 2**40 - 1, 2**70, -1, 2.0, 2.5, 1e300, float("nan"), float("inf"), "16", None,
    True, [], {"cached_tokens": 3}, {"reasoning_tokens": 2**53}, {"reasoning_tokens": 5}, 9_999.0, 1e-12,
]  # fmt: skip


def streamed(value: Any, rng: random.Random) -> bytes:
    """The value as events that were not asked for, among lines of every kind."""
    between = ("\n\n", "\r\n\r\n", "\n: wait\n\n", "\nevent: part\n\n", "\n\nid: 1\n\n", "\noops\n")
    events = [
        "data: " + json.dumps(value) + rng.choice(between[:5] * 3 + between) for _ in range(rng.randrange(1, 4))
    ]
    return "".join([*events, rng.choice(("data: [DONE]\n\n", ""))]).encode()


def check(found: Completion | ReferenceScore | Refusal) -> None:
    if isinstance(found, Refusal):
        assert found.reason.replace("_", "").isalpha()
        return
    values, ends = found.tokens.logprobs, found.tokens.ends
    assert len(values) == len(ends)
    assert (np.diff(ends, prepend=0) > 0).all()
    assert (values[~np.isnan(values)] <= 0).all()
    assert np.isfinite(values[~np.isnan(values)]).all()
    if isinstance(found, Completion):
        assert (int(ends[-1]) if len(ends) else 0) == len(found.text.encode())
        if np.isnan(values).any():
            assert {"missing_logprobs", "merged_characters", "cut_run"} & set(found.notes)


HEADERS = (
    "retry-after", "retry-after-ms", "x-should-retry", "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
)  # fmt: skip
SAID = ("1", "0", "-1", "1e309", "nan", "inf", "6m0s", "1h2m3s", "9" * 400, "", "soon", "true", "\ufffd",
        "Thu, 01 Jan 1970 00:01:40 GMT", "Thu, 99 Foo 9999", "1" * 60_000 + "x", "1741305600000")  # fmt: skip
CALL = Call("/completions", {"prompt": "The capital", "max_tokens": 16})


def headers(rng: random.Random) -> dict[str, str]:
    return {name: rng.choice(SAID) for name in HEADERS if rng.random() < 0.3}


def spend(reply: RawReply, judged: Decision, told: Usage) -> None:
    """The verdict, the ledger and the limiter take any reply; none costs less than it shows at the price."""
    ledger = Ledger(Budget(), Prices(1.0, 2.0))
    worst = ledger.worst(CALL)
    cost, _ = settlement(CALL, reply, judged, worst, ledger)
    assert cost.pico is not None
    assert 0 <= cost.pico < 2**63
    assert cost.pico >= Prices(1.0, 2.0).pico(0, delivered(reply, CALL))
    assert all(count is None or 0 <= count < MOST_TOKENS for count in (told.input_tokens, told.output_tokens))
    now = [0.0]
    limiter = Limiter(8, clock=lambda: now[0])
    limiter.observe(judged, reply.headers)
    assert 1 <= limiter.limit <= 8
    assert judged.after is None or 0 <= judged.after <= LONGEST_WAIT
    assert limiter._paused_until <= LONGEST_WAIT


def fuzz(count: int, seed: int) -> dict[str, int]:
    rng = random.Random(seed)
    parsed = []
    for data in SEEDS:
        try:
            value = json.loads(data)
        except ValueError:
            continue
        parsed.append((data.decode(), nodes(value)))
    speakers = [(speaks, able(speaks)) for speaks in DIALECTS.values()]
    tally = {"completion": 0, "score": 0, "refusal": 0}
    for _ in range(count):
        body = mutated(rng, parsed)
        speaks, profile = rng.choice(speakers)
        reply = RawReply(rng.choice((200, 200, 200, 200, 400, 429, 500)), headers(rng), body, 0.1)
        told = usage(reply)
        error_of(reply)
        judged = decide(reply, 1, now=0.0)
        spend(reply, judged, told)
        prefill = rng.choice(("", "The capital of France is", "東京は"))
        framing = rng.choice(("raw", "chat", "user"))
        sample = speaks.read_sample(reply, call=None, profile=profile, prefill=prefill, framing=framing)  # type: ignore[arg-type]
        check(sample)
        item = rng.choice(ITEMS)
        score = speaks.read_score(reply, call=None, profile=profile, item=item)  # type: ignore[arg-type]
        check(score)
        tally["completion" if isinstance(sample, Completion) else "refusal"] += 1
        tally["score"] += isinstance(score, ReferenceScore)
    return tally


def test_mutated_replies_are_read_or_refused() -> None:
    tally = fuzz(2_000, seed=1)
    assert tally["completion"] > 150, tally
    assert tally["refusal"] > 200, tally
    assert tally["score"] > 5, tally


@pytest.mark.slow
def test_a_hundred_thousand_mutated_replies_are_read_or_refused() -> None:
    assert sum(fuzz(100_000, seed=2).values()) >= 100_000
