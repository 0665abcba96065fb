"""Every captured reply reads as the hand-written expectation beside it says, by one rule for all files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from blackbox_diff.records import Completion, EndpointProfile, RawReply, ReferenceScore, Refusal
from blackbox_diff.wire import DIALECTS, ScoreItem

FIXTURES = Path(__file__).parent.parent / "fixtures" / "wire"
CAPTURES = sorted(path for path in FIXTURES.glob("*/*.expected.json"))


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read(path: Path) -> Completion | ReferenceScore | Refusal:
    """The capture read as what its request asked for: a completion, or the score of an echoed text."""
    name = path.name.removesuffix(".expected.json")
    request = load(path.with_name(f"{name}.request.json"))
    response = next(path.parent.glob(f"{name}.response.*"))
    expected = load(path)
    status = 200 if "choices" in (body := response.read_text(encoding="utf-8")) else 400
    reply = RawReply(status, {}, body.encode(), 0.1)
    dialect = DIALECTS[path.parent.name]
    chat = "messages" in request
    profile = EndpointProfile(
        base_url="http://server/v1", model="m", dialect=dialect.name, scores_template=chat, scoring="echo"
    )
    given = request["messages"][-1] if chat else {"role": "assistant", "content": request["prompt"]}
    sent = given["content"] if given["role"] == "assistant" and isinstance(given["content"], str) else ""
    if request.get("echo"):
        prefill = expected.get("prefill", sent[:1])
        item = ScoreItem(prefill, "chat" if chat else "raw", sent.removeprefix(prefill))
        return dialect.read_score(reply, call=dialect.score(profile, item), profile=profile, item=item)
    framing = "chat" if chat else "raw"
    return dialect.read_sample(reply, call=None, profile=profile, prefill=sent, framing=framing)  # type: ignore[arg-type]


def tokens(read_as: Completion | ReferenceScore, text: str) -> list[list[Any]]:
    """[token text, logprob or None] as the expectation spells them."""
    data, start, found = text.encode(), 0, []
    for end, value in zip(read_as.tokens.ends, read_as.tokens.logprobs, strict=True):
        piece = data[start:end].decode("utf-8", "backslashreplace")  # a token may be a part of a character
        found.append([piece, None if math.isnan(value) else pytest.approx(value, abs=1e-9)])
        start = int(end)
    assert start == len(data)
    return found


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: f"{path.parent.name}/{path.name.split('.')[0]}")
def test_a_capture_reads_as_its_expectation_says(path: Path) -> None:
    expected, found = load(path), read(path)
    if "refusal" in expected:
        assert isinstance(found, Refusal), found
        assert found.reason == expected["refusal"]
        return
    assert not isinstance(found, Refusal), found
    assert tokens(found, expected["text"]) == expected["tokens"]
    if isinstance(found, Completion):
        assert found.text == expected["text"]
        assert [[side.text, side.kind] for side in found.side] == expected.get("side", [])


def test_there_are_captures_of_three_servers_nobody_here_wrote() -> None:
    assert {path.parent.name for path in CAPTURES} >= {"vllm", "llamacpp", "llamacpp_python"}
    assert len(CAPTURES) > 80


def test_ids_that_litellms_proxy_moved_are_found() -> None:
    """Captured from LiteLLM 1.108.7 before the bundled server: chat ids are under provider_specific_fields."""
    body = (FIXTURES / "generic" / "litellm_chat.response.json").read_bytes()
    profile = EndpointProfile(base_url="http://server/v1", model="chat-openai", dialect="generic")
    found = DIALECTS["generic"].read_sample(
        RawReply(200, {}, body, 0.1),
        call=None,
        profile=profile,
        prefill="The emoji ❤️",
        framing="chat",  # type: ignore[arg-type]
    )
    assert isinstance(found, Completion)
    assert found.text == "🌟"
    assert found.ids == (10813, 230, 249)
    assert found.prompt_ids is not None
    assert found.tokens.ends.tolist() == [2, 3, 4]
