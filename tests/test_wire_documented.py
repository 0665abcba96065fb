"""Replies in the shapes that vendors document, of hosts that nobody here called, read as their files say.

Each file has the question (as in the golden requests), the reply or its events, and what should be read from it.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from blackbox_diff.records import Call, Completion, RawReply, ReferenceScore, Refusal
from blackbox_diff.wire import DIALECTS, ScoreItem, usage
from blackbox_diff.wire.asked import reply_bytes
from blackbox_diff.wire.counts import delivered
from tests.test_wire_fuzz import check, mutate, nodes
from tests.test_wire_requests import ITEMS, able, call_for

FIXTURES = Path(__file__).parent.parent / "fixtures" / "wire"
DOCUMENTED = sorted(FIXTURES.glob("*/*.documented.json"))
HOSTS = {  # none of these loses its replies; a new host brings its own
    "bedrock", "watsonx", "lmi", "lmdeploy", "tensorrt_llm", "lorax", "cohere", "deepinfra", "nebius", "baseten",
}  # fmt: skip


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def body_of(document: Any) -> bytes:
    if "reply" in document:
        return json.dumps(document["reply"]).encode()
    events = [f"data: {json.dumps(event)}\n\n" for event in document["events"]]
    return "".join(events).encode()


def read(name: str, asked: str, status: int, body: bytes) -> tuple[Call, Completion | ReferenceScore | Refusal]:
    speaks = DIALECTS[name]
    profile, call, reply = able(speaks), call_for(speaks, asked), RawReply(status, {}, body, 0.1)
    if asked in ITEMS:
        item = ScoreItem("A wet", ITEMS[asked].framing, " day")
        return call, speaks.read_score(reply, call=call, profile=profile, item=item)
    framing: Any = asked.removeprefix("sample ")
    return call, speaks.read_sample(reply, call=call, profile=profile, prefill="A wet", framing=framing)


def tokens(found: Completion | ReferenceScore, text: str) -> list[list[Any]]:
    """[token text, logprob or None]; bytes of a part of a character are spelled as \\xHH."""
    data, start, rows = text.encode(), 0, []
    for end, value in zip(found.tokens.ends, found.tokens.logprobs, strict=True):
        token = data[start:end].decode("utf-8", "backslashreplace")
        rows.append([token, None if math.isnan(value) else pytest.approx(float(value))])
        start = int(end)
    assert start == len(data)
    return rows


@pytest.mark.parametrize("path", DOCUMENTED, ids=lambda path: f"{path.parent.name}/{path.name.split('.')[0]}")
def test_a_documented_reply_reads_as_is_written_beside_it(path: Path) -> None:
    document = load(path)
    expected, body = document["expected"], body_of(document)
    call, found = read(path.parent.name, document["asked"], document["status"], body)
    assert len(body) <= reply_bytes(call)
    if "usage" in expected:
        told = usage(RawReply(200, {}, body, 0.1))
        assert [told.input_tokens, told.output_tokens] == expected["usage"]
    if "refusal" in expected:
        assert isinstance(found, Refusal), found
        assert found.reason == expected["refusal"]
        return
    assert not isinstance(found, Refusal), found
    assert delivered(RawReply(200, {}, body, 0.1), call) >= 1 or isinstance(found, ReferenceScore)
    assert tokens(found, expected.get("text", " day")) == expected["tokens"]
    if isinstance(found, Completion):
        assert found.text == expected["text"]
        assert [[side.text, side.kind] for side in found.side] == expected.get("side", [])
        if "ids" in expected:
            assert (None if found.ids is None else list(found.ids)) == expected["ids"]


def test_every_host_that_was_only_read_about_has_a_documented_reply() -> None:
    assert {path.parent.name for path in DOCUMENTED} >= HOSTS


def test_the_advice_for_ids_without_strings_says_how_to_get_strings() -> None:
    document = load(FIXTURES / "bedrock" / "ids_only.documented.json")
    _, found = read("bedrock", "sample raw", 200, body_of(document))
    assert isinstance(found, Refusal)
    assert "import this one again" in found.advice


def test_mutated_documented_replies_are_read_or_refused_by_their_own_dialect() -> None:
    rng = random.Random(3)
    documents = [(path.parent.name, load(path)) for path in DOCUMENTED]
    read_well = 0
    for _ in range(3_000):
        name, document = rng.choice(documents)
        changed = json.loads(json.dumps(document))
        part = "reply" if "reply" in changed else "events"
        for _ in range(rng.randrange(1, 5)):
            mutate(changed[part], nodes(document[part]), rng)
        body = body_of(changed) if isinstance(changed[part], (dict, list)) else b"null"
        call, found = read(name, document["asked"], rng.choice((200, 200, 200, 400)), body)
        check(found)
        delivered(RawReply(200, {}, body, 0.1), call)
        usage(RawReply(200, {}, body, 0.1))
        read_well += not isinstance(found, Refusal)
    assert read_well > 300
