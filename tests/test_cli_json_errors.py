"""With --json a failure is one object on stdout, and the line on stderr and the exit code stay as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

import blackbox_diff.cli as command_line
from blackbox_diff.cli import exit_codes
from tests.conftest import run_cli
from tests.leaky_toy import LeakyToy
from tests.toy_server import serving

NOWHERE = "http://127.0.0.1:1/v1"
ENDS = [
    "--target-url", NOWHERE, "--target-model", "m", "--reference-url", NOWHERE, "--reference-model", "b"
]  # fmt: skip
WITH_JSON = [
    name
    for name in command_line.COMMANDS
    for command in [command_line.cli.get_command(click.Context(command_line.cli), name)]
    if command is not None and any("--json" in parameter.opts for parameter in command.params)
]


def ends(url: str) -> list[str]:
    """The toy's models, served at `url`."""
    return [{NOWHERE: url, "m": "leaky", "b": "base"}.get(each, each) for each in ENDS]


def failed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The error object of a command that fails; its line on stderr and the exit code say the same."""
    code = run_cli(arguments)
    said = capsys.readouterr()
    assert said.out.isascii()
    found: dict[str, Any] = json.loads(said.out)
    assert found["schema"] == 1
    assert set(found) == {"schema", "error"}
    error: dict[str, Any] = found["error"]
    assert set(error) == {"kind", "message", "exit_code"}
    assert error["exit_code"] == code
    assert error["message"] in said.err
    return error


@pytest.mark.parametrize(
    ("arguments", "kind", "code", "words"),
    [
        (["rank", "nowhere"], "run_file", 2, "no such directory"),
        (["themes", "nowhere"], "run_file", 2, "no such directory"),
        (["report", "nowhere"], "run_file", 2, "no such directory"),
        (["watch", "nowhere"], "run_file", 2, "no such directory"),
        (["compare", "nowhere", "elsewhere"], "run_file", 2, "no such directory"),
        (["evaluate", "nowhere", "--keywords", "no.json"], "input", 2, "no.json: can't be read"),
        (["evaluate", "nowhere"], "usage", 2, "--keywords"),
        (["estimate", *ENDS, "--completions", "0"], "config", 2, "--completions: must be at least 1"),
        (["audit", *ENDS, "--out", "run", "--source", "poetry"], "input", 2, "unknown source 'poetry'"),
        (["audit", *ENDS, "--out", "run", "--target-key-env", "NO_SUCH_KEY"], "missing_key", 2, "NO_SUCH_KEY"),
        (["audit", *ENDS, "--out", "run"], "endpoint", 2, "can't connect"),
        (["probe", *ENDS[:4]], "endpoint", 2, "can't connect"),
        (["fleet", "no.toml", "--out", "fleet"], "config", 2, "no.toml"),
        (["adit"], "usage", 2, "did you mean audit"),
    ],
)
def test_a_failure_is_one_object(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    kind: str,
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    error = failed([*arguments, "--json"], capsys)
    assert (error["kind"], error["exit_code"]) == (kind, code)
    assert words in error["message"]


@pytest.mark.parametrize("name", WITH_JSON)
def test_every_command_that_takes_json_fails_in_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert failed([name, "--json", "--no-such-option"], capsys)["kind"] == "usage"


def test_the_commands_that_take_json_are_found() -> None:
    assert set(WITH_JSON) >= {
        "audit",
        "resume",
        "report",
        "probe",
        "estimate",
        "rank",
        "themes",
        "compare",
        "fleet",
    }


def test_a_cap_that_the_probe_reaches_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(LeakyToy()) as url:
        small = ["--completions", "5", "--max-tokens", "8", "--max-output-tokens", "20", "--json"]
        error = failed(["audit", *ends(url), "--out", str(tmp_path / "run"), *small], capsys)
    assert error["exit_code"] == 3
    assert "--max-output-tokens 20" in error["message"]


def test_an_endpoint_that_cannot_be_audited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy = LeakyToy()
    toy.faults.add("no logprobs")
    with serving(toy) as url:
        error = failed(["audit", *ends(url), "--out", str(tmp_path / "run"), "--json"], capsys)
    assert (error["kind"], error["exit_code"]) == ("not_auditable", 4)


def test_an_interruption(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line.cli, "main", interrupted)
    error = failed(["rank", "run", "--json"], capsys)
    assert (error["kind"], error["exit_code"]) == ("interrupted", exit_codes.INTERRUPTED)


def test_without_json_nothing_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["rank", "nowhere"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("blackbox-diff: nowhere: no such directory")


def test_a_hostile_message_is_escaped() -> None:
    line = exit_codes.error_json("\x1b[2J\u202ebad\n<script>", 2)
    assert line.isascii()
    assert "\x1b" not in line
    assert "\n" not in line
    assert json.loads(line)["error"]["message"] == "\x1b[2J\u202ebad\n<script>"
