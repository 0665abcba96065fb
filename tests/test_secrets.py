"""An endpoint that repeats the key it is sent, in answers, headers and errors: it ends up nowhere."""

from __future__ import annotations

import itertools
import json
import logging
import sqlite3
import zlib
from pathlib import Path

import httpx2
import pytest

from blackbox_diff.cli import main
from blackbox_diff.runfile.store import Store
from tests.fake_endpoint import FakeEndpoint
from tests.toy_server import serving

KEY = "sk-verysecret/0123456789"


class Parrot(FakeEndpoint):
    """Says the key in every reply, and every third time says no, each time in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = itertools.count()
        self.failing = False

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return super().answer(request)
        turn = next(self.turns)
        self.failing |= turn > 40
        if self.failing and turn % 3 == 0:
            status = (429, 500, 503, 400, 502, 200)[turn // 3 % 6]
            error = {"message": f"Incorrect API key provided: {KEY}", "code": KEY, "param": KEY}
            return httpx2.Response(status, json={"error": error}, headers={"x-request-id": KEY})
        reply = json.loads(super().answer(request).content)
        reply |= {"system_fingerprint": KEY, "model": KEY}
        return httpx2.Response(200, json=reply, headers={"openai-model": KEY})


def cli(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_the_key_is_in_no_file_report_or_message_of_a_whole_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("AUDIT_KEY", KEY)
    run = tmp_path / "run"
    with serving(Parrot()) as url:
        sides = [
            part
            for side in ("target", "reference")
            for part in (f"--{side}-url", url, f"--{side}-model", "m", f"--{side}-key-env", "AUDIT_KEY")
        ]
        assert cli("audit", *sides, "--reference-label", "r", "--completions", "24", "--out", str(run)) in (0, 3)
        assert cli("resume", str(run)) in (0, 3)
    with Store.open(run, read_only=True) as store:
        assert any(call.error for call in store.calls()), "the parrot must have failed some calls"
    assert cli("report", str(run), "--html", str(run / "r.html"), "--markdown", str(run / "r.md")) == 0
    for suffix in ("jsonl", "csv", "md", "parquet"):
        assert cli("export", str(run), str(run / f"rows.{suffix}")) == 0
    for command in (["rank", "--json"], ["themes", "--json"], ["verify"]):
        assert cli(command[0], str(run), *command[1:]) == 0
    shown = capsys.readouterr()
    secrets = (KEY, KEY.replace("/", "\\/"), KEY[3:])
    for text in (shown.out, shown.err, caplog.text):
        assert not any(secret in text for secret in secrets)
    for file in run.iterdir():
        content = file.read_bytes()
        assert not any(secret.encode() in content for secret in secrets), file
    with sqlite3.connect(run / "run.sqlite") as rows:
        replies = [zlib.decompress(row[0]) for row in rows.execute("SELECT reply FROM calls WHERE reply NOT NULL")]
    rows.close()
    assert any(b"[key]" in reply for reply in replies)
    assert not any(secret.encode() in reply for reply in replies for secret in secrets)


@pytest.mark.parametrize("key", ["has space inside", "line\nbreak99", "ключ-ключ-ключ"])
def test_a_key_that_is_no_header_is_refused_without_being_shown(
    key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUDIT_KEY", key)
    target = ["--target-url", "http://127.0.0.1:9/v1", "--target-model", "m", "--target-key-env", "AUDIT_KEY"]
    reference = ["--reference-url", "http://127.0.0.1:9/v1", "--reference-model", "r"]
    assert cli("audit", *target, *reference, "--out", str(tmp_path / "run")) == 2
    shown = capsys.readouterr()
    assert "AUDIT_KEY" in shown.err
    assert key not in shown.out + shown.err
