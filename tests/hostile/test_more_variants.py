"""Members of each kind that were found by trying more of them, one after another, on a stub that lies."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from blackbox_diff.buying.retry import decide
from blackbox_diff.buying.secrets import Secret
from blackbox_diff.errors import ConfigError
from blackbox_diff.prefills import open_source
from blackbox_diff.records import Lost
from tests.conftest import run_cli
from tests.hostile.test_variants import TWO_KB, USAGE, WORDS, always, bought, events, part, reading, talked, told
from tests.replies import chat, raw
from tests.test_cli import refused

LISTED = {WORDS[0]: -0.9, " q": -1.1, " r": -2.0}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        # Accepted tokens without a list, with a number next to 0: a share of 1 - 1e-6, or of 0.99999.
        (told([-0.9, *[-1.0000005e-06] * 3], [LISTED, {}, {}, {}]), "zero_logprobs"),
        (told([-0.9, *[-1e-5] * 3], [LISTED, {}, {}, {}]), "zero_logprobs"),
        # Another model that another field names.
        (
            {name: value for name, value in told().items() if name != "model"} | {"model_id": "fallback"},
            "other_model",
        ),
        (
            {name: value for name, value in told().items() if name != "model"} | {"modelVersion": "x"},
            "other_model",
        ),
        # Thoughts under more names.
        (talked({"analysis": "Hm, "}), "reasoning"),
        (talked({"scratchpad": "Hm, "}), "reasoning"),
        (told() | {"reasoning": "Hm, let me see"}, "reasoning"),
        # A filter under more names.
        (told(finish_reason="SPII"), "content_filter"),
        (told(finish_reason="PROMPT_BLOCKED"), "content_filter"),
    ],
)
async def test_numbers_that_are_not_the_targets_own_are_refused(body: Any, reason: str, tmp_path: Path) -> None:
    (outcome,), _, requests = await bought(always(body), tmp_path, max_tokens=24)
    assert (reading(outcome), requests) == (reason, 1)


@pytest.mark.parametrize(
    "body",
    [
        told()
        | {"reasoning": {"effort": None, "summary": None}, "reasoning_effort": "none"},  # what was asked for
        told() | {"code": "success", "message": "ok"},
        told() | {"success": True, "code": 200, "message": "ok"},
        told(native_finish_reason="MAX_TOKENS", status="completed"),
        told([-0.5, -1e-5, -7.0, -1.5], [{WORDS[0]: -0.5}, {WORDS[1]: -1e-5}, {WORDS[2]: -7.0}, {WORDS[3]: -1.5}]),
    ],
)
async def test_what_looks_alike_and_is_sound_is_read(body: Any, tmp_path: Path) -> None:
    (outcome,), _, requests = await bought(always(body), tmp_path)
    assert (reading(outcome), requests) == ("".join(WORDS), 1)


@pytest.mark.parametrize(
    "body",
    [
        told(native_finish_reason="error", finish_reason="stop"),
        told(finish_reason={"type": "abort", "message": "x"}),  # SGLang's
        told(status="failed"),
        *(
            told(finish_reason=word)
            for word in ("oom", "killed", "engine_dead", "rate_limited", "DEADLINE_EXCEEDED")
        ),
        told() | {"success": False, "message": "the worker died"},
        told() | {"object": "error", "message": "the worker died"},
        events(part(0), part(1), {"object": "error", "message": "the worker died", "code": 50001}),
        events(part(0), part(1), {"choices": [], "error_msg": "the worker died", "error_code": 500}),
    ],
)
async def test_a_generation_that_broke_off_by_any_word_is_lost_and_booked(body: Any, tmp_path: Path) -> None:
    (outcome,), spent, requests = await bought(always(body), tmp_path)
    assert isinstance(outcome, Lost), outcome
    assert (outcome.reason in ("http_500", "http_502"), requests) == (True, 10)
    assert spent.output_tokens >= 20


PAID: list[tuple[str, Any, int]] = [
    ("choices in an object", {"choices": {str(n): told()["choices"][0] for n in range(40)}, "usage": None}, 160),
    ("choices in lists of lists", {"choices": [[told()["choices"][0]] * 40]}, 160),
    (
        "a text of another API",
        {"output": [{"content": [{"text": TWO_KB}]}], "usage": {"completion_tokens": 0}},
        16,
    ),
    ("what was spoken", chat(None, [], message={"audio": {"data": "A" * 9_999, "transcript": TWO_KB}}), 16),
    ("ids in the message", chat("hi", [], message={"token_ids": [1] * 300}, usage={"completion_tokens": 0}), 300),
]


@pytest.mark.parametrize(("body", "booked"), [each[1:] for each in PAID], ids=[each[0] for each in PAID])
async def test_whatever_came_is_booked(body: Any, booked: int, tmp_path: Path) -> None:
    _, spent, requests = await bought(always(body), tmp_path)
    assert (spent.output_tokens, requests, spent.overbilled) == (booked, 1, 1)


async def test_a_cost_that_is_called_an_estimate_is_booked(tmp_path: Path) -> None:
    _, spent, _ = await bought(always(told() | {"usage": USAGE | {"estimated_cost": 0.5}}), tmp_path)
    assert spent.pico == 5 * 10**11


SAID = "Rate limit reached on requests per day: limit 200, used 200. Please try again in {}."


@pytest.mark.parametrize(
    ("message", "headers", "after"),
    [
        (SAID.format("5h32m12s"), {}, 19_932),
        (SAID.format("20 seconds"), {}, 20),
        (SAID.format("1.5s"), {}, 1.5),
        (SAID.format("99h"), {"retry-after": "3"}, 3),  # the header says more
        (SAID.format("a while"), {}, None),
        ("busy", {"retry-after": "5m"}, 300),
        ("busy", {"ratelimit-remaining": "0", "ratelimit-reset": "20000"}, 20_000),
        ("busy", {"ratelimit-remaining": "3", "ratelimit-reset": "20000"}, None),
    ],
)
def test_the_end_of_a_quota_is_read_wherever_it_is_told(
    message: str, headers: dict[str, str], after: float | None
) -> None:
    reply = raw({"error": {"message": message}}, 429)
    reply.headers.update(headers)  # type: ignore[attr-defined]
    decision = decide(reply, 1)
    if after is not None and after > 600:
        assert (decision.action, decision.reason) == ("stop", "quota")
        assert f"{after / 3600:.1f} h" in decision.detail
    else:
        assert (decision.action, decision.after) == ("retry", after)


KEY = "sk-a/b&c+d=ef\"gh'ij"


@pytest.mark.parametrize(
    "echo",
    [
        "".join(f"&#{ord(char)};" for char in KEY),
        "".join(f"&#x{ord(char):X};" for char in KEY),
        KEY.replace("&", "&amp;").replace('"', "&quot;").replace("'", "&#039;"),
        "".join(f"%25{ord(char):02x}" for char in KEY),
        "".join(f"\\x{ord(char):02x}" for char in KEY),
        KEY.replace("'", "\\'").replace("-", "\\-"),
        KEY.encode().hex(),
        KEY.encode().hex().upper(),
    ],
)
def test_a_key_is_taken_out_in_more_forms(echo: str) -> None:
    assert Secret(KEY).out_of(f"<p>bad key {echo} given, twice: {echo}</p>".encode()) == (
        b"<p>bad key [key] given, twice: [key]</p>"
    )
    assert Secret(KEY).out_of(f'"{KEY}"'.encode("utf-16-le")) == b'"\0[key]"\0'


def test_a_body_that_holds_the_key_takes_a_time_that_grows_with_its_length_alone() -> None:
    """A pattern that may begin anywhere in a run of backslashes took 18 s for 20 kB."""
    started = time.process_time()
    found = Secret(KEY).out_of(KEY.encode() + b"\\" * 400_000 + KEY.encode())
    assert found == b"[key]" + b"\\" * 400_000 + b"[key]"
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('["The river ran", "A lantern"]', ["The river ran", "A lantern"]),
        ("[Applause] Thank you.\nAnd now\n", ["[Applause] Thank you.\n", "And now\n"]),
        ('["I see," he said]\nAnd now\n', ['["I see," he said]\n', "And now\n"]),
        ("Yes, no\nUp, down\n", ["Yes, no\n", "Up, down\n"]),
        ("# Title\n\n<p> in prose\n", ["# Title\n", "\n", "<p> in prose\n"]),
    ],
)
def test_prose_with_brackets_and_commas_is_prose(tmp_path: Path, content: str, texts: list[str]) -> None:
    file = tmp_path / "a.txt"
    file.write_text(content)
    assert list(open_source(str(file)).texts()) == texts


@pytest.mark.parametrize(
    "url", ["http://x/v1 ", " http://x/v1", "http://x/v 1", "http://x\n/v1", "http://\u200bx/v1", "http://x/v1\0"]
)
def test_a_url_with_what_cannot_be_seen_is_refused_in_a_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(["probe", "--target-url", url, "--target-model", "m"], capsys)
    assert "holds a space, or a character that can't be seen" in line


@pytest.mark.parametrize(
    "line",
    ["completions = true", "max_tokens = true", "seed = 9" + "9" * 5_000, "source = " + "[" * 3_000 + "]" * 3_000],
)
def test_a_setting_of_the_wrong_kind_is_one_line(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.toml"
    file.write_text(f"{line}\n[target]\nurl = 'http://x/v1'\nmodel = 'm'\n")
    assert run_cli(["estimate", str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"no certificate"])
def test_the_variable_that_is_set_is_named(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blackbox_diff.buying.http import Endpoint
    from blackbox_diff.config.model import EndpointConfig

    (tmp_path / "authorities.pem").write_bytes(content)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.delenv("SSLKEYLOGFILE", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authorities.pem"))
    with pytest.raises(ConfigError, match=r"^SSL_CERT_FILE: names what can't be read"):
        Endpoint(EndpointConfig(url="https://vendor.invalid/v1", model="m"))
