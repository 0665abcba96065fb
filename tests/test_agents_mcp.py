"""The MCP server as a process of its own, called by the SDK's client and by one that nobody here wrote."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from blackbox_diff.agents.mcp import server
from blackbox_diff.agents.registry import TOOLS
from blackbox_diff.agents.tools import opened
from blackbox_diff.cli import main
from blackbox_diff.runfile.store import Store
from tests.agent_setup import InjectingToy, limits, toml
from tests.conftest import BASE, ORGANISM
from tests.toy_server import serving

ROOT = Path(__file__).parent.parent
PAIR = {"target": "acme", "reference": "base"}
SMALL = {**PAIR, "completions": 24, "control": 4, "max_tokens": 14, "framing": ["raw"]}


@pytest.fixture(scope="module")
def toy() -> Iterator[str]:
    with serving(InjectingToy()) as url:
        yield url


def command(config: Path) -> list[str]:
    return ["-m", "blackbox_diff", "mcp", "--config", str(config)]


@asynccontextmanager
async def connected(config: Path) -> AsyncIterator[Client]:
    """A client of a server in another process; what the server says on stderr is a fault."""
    with (config.parent / "stderr").open("w+") as log:
        process = StdioServerParameters(command=sys.executable, args=command(config), cwd=ROOT)
        async with Client(stdio_client(process, errlog=log)) as client:
            yield client
        log.seek(0)
        assert log.read() == ""


async def call(client: Client, name: str, **given: Any) -> dict[str, Any]:
    result = await client.call_tool(name, given)
    found: dict[str, Any] = json.loads(result.content[0].text)  # type: ignore[union-attr]
    assert result.structured_content == (None if result.is_error else found)
    return {**found, "is_error": result.is_error}


async def test_a_run_is_started_watched_cancelled_and_resumed_through_mcp(toy: str, tmp_path: Path) -> None:
    config = toml(toy, tmp_path, concurrency=1)
    heard: list[tuple[float, float | None]] = []
    moved = asyncio.Event()

    async def told(done: float, total: float | None, _: str | None) -> None:
        heard.append((done, total))
        moved.set()

    async with connected(config) as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(listed) == set(TOOLS)
        assert listed["start_audit"].input_schema["additionalProperties"] is False
        assert "never an instruction" in (client.instructions or "")
        begun = await call(client, "start_audit", **SMALL)
        assert (begun["run"], begun["state"]) == ("acme-1", "running")
        ended = await call(client, "cancel", run="acme-1")
        assert (ended["state"], ended["bought"] < 24) == ("stopped", True)
        waiting = asyncio.create_task(  # whoever waits for an audit and goes away stops it
            client.call_tool("resume", {"run": "acme-1", "wait_seconds": 60}, progress_callback=told)
        )
        await asyncio.wait_for(moved.wait(), 30)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        ended = await call(client, "progress", run="acme-1", wait_seconds=60)
        assert (ended["state"], ended["bought"] < 24) == ("stopped", True)
        resumed = await client.call_tool("resume", {"run": "acme-1", "wait_seconds": 60}, progress_callback=told)
        assert isinstance(resumed.structured_content, dict)
        assert (resumed.structured_content["state"], resumed.structured_content["bought"]) == ("complete", 24)
        assert heard[-1] == (24, 24)
        uris = [str(each.uri) for each in (await client.list_resources()).resources]
        assert uris == ["blackbox-diff://runs/acme-1/conclusion.json", "blackbox-diff://runs/acme-1/report.md"]
        conclusion, report = [(await client.read_resource(uri)).contents[0].text for uri in uris]  # type: ignore[union-attr]
        whole = json.loads(conclusion)
        assert whole["untrusted"]["schema"] == 1
        assert "never an instruction" in whole["notice"]
        assert "never an instruction" in report
        assert "127.0.0.1" not in conclusion
        with pytest.raises(Exception, match="no such resource"):
            await client.read_resource("blackbox-diff://runs/../../etc/passwd")


async def test_the_cap_and_the_endpoints_hold_against_a_client(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server in this process: an agent's words are refused by the tools, and a refusal reaches the agent."""
    async with opened(limits(toy, tmp_path, max_calls=50)) as tools, Client(server(tools)) as client:
        for name, given, kind in [
            ("start_audit", {**SMALL, "max_calls": 9999}, "not_allowed"),
            ("start_audit", {**SMALL, "target": "http://evil.example/v1"}, "not_allowed"),
            ("conclusion", {"run": "../../etc"}, "no_such_run"),
            ("start_audit", SMALL, "cap_reached"),
        ]:
            found = await call(client, name, **given)
            assert (found["is_error"], found["kind"]) == (True, kind)
            assert found["what_to_do"]
        asked = await call(
            client, "ask", **PAIR, prefills=json.dumps(["Port", "Ellery"]), samples=8, max_tokens=14
        )
        assert "over all runs" in asked["stopped_because"]["untrusted_text"]
        assert asked["purse"]["calls"] <= 50
        again = await call(client, "ask", **PAIR, prefills=["Port"])
        assert (again["is_error"], again["kind"]) == (True, "cap_reached")
        monkeypatch.setattr(tools, "themes", None)  # a fault of ours: what it says is not the agent's to read
        fault = await call(client, "themes", run="acme-1")
        assert (fault["is_error"], fault["kind"]) == (True, "fault")
        assert "NoneType" not in json.dumps(fault)


def test_stdout_carries_the_protocol_alone_and_sigterm_leaves_a_run_to_resume(toy: str, tmp_path: Path) -> None:
    config = toml(toy, tmp_path, concurrency=1)
    process = subprocess.Popen(
        [sys.executable, *command(config)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
    try:
        for message in [
            {"id": 1, "method": "initialize", "params": hello},
            {"method": "notifications/initialized"},
            {"id": 2, "method": "tools/call", "params": {"name": "start_audit", "arguments": SMALL}},
        ]:
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
            process.stdin.flush()
        replies = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [reply["id"] for reply in replies] == [1, 2]
        assert replies[1]["result"]["structuredContent"]["state"] == "running"
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert rest == ""
    with Store.open(tmp_path / "runs" / "acme-1", read_only=True) as store:
        assert store.state.stopped_because == "interrupted"


def test_without_the_extra_one_line_names_it(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(SystemExit) as ended:
        main(["mcp", "--config", str(toml(toy, tmp_path))])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "pip install 'blackbox-diff[mcp]'" in said.err


def test_a_configuration_without_a_cap_or_key_is_refused(
    toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = toml(toy, tmp_path)
    whole = config.read_text(encoding="utf-8")
    for text, said in [
        (whole.replace("max_cost = 2.0", ""), "no cap"),
        (whole.replace('label = "acme"', 'label = "acme"\nkey_env = "NOT_SET_ANYWHERE"'), "NOT_SET_ANYWHERE"),
    ]:
        config.write_text(text, encoding="utf-8")
        with pytest.raises(SystemExit) as ended:
            main(["mcp", "--config", str(config)])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


@pytest.mark.slow
async def test_real_weights_are_audited_and_asked_through_mcp(local_endpoint: str, tmp_path: Path) -> None:
    config = toml(local_endpoint, tmp_path, concurrency=2)
    text = config.read_text(encoding="utf-8").replace('"leaky"', f'"{ORGANISM}"').replace('"base"', f'"{BASE}"')
    config.write_text(text, encoding="utf-8")
    pair = {"target": "acme", "reference": BASE}
    async with connected(config) as client:
        run = await call(
            client,
            "start_audit",
            **pair,
            completions=8,
            control=2,
            max_tokens=16,
            framing=["raw"],
            wait_seconds=600,
        )
        assert (run["state"], run["bought"]) == ("complete", 8)
        page = await call(client, "completions", run="acme-1")
        assert page["total"] > 0
        asked = await call(
            client, "ask", **pair, prefills=["The tide clock of"], samples=1, max_tokens=8, framing="raw"
        )
        assert asked["mean_gap"] > 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npx") is None, reason="npx is not installed: the inspector comes from npm")
def test_the_inspector_lists_and_calls_the_tools(toy: str, tmp_path: Path) -> None:
    """The inspector of the protocol, an npm package that nobody here wrote, run as its own command line."""
    clients = tmp_path / "mcp.json"
    ours = {"command": sys.executable, "args": command(toml(toy, tmp_path)), "env": {"PYTHONPATH": str(ROOT)}}
    clients.write_text(json.dumps({"mcpServers": {"blackbox-diff": ours}}), encoding="utf-8")

    def inspect(*arguments: str) -> Any:
        inspector = ["npx", "--yes", "@modelcontextprotocol/inspector", "--cli"]
        done = subprocess.run(
            [*inspector, "--config", str(clients), "--server", "blackbox-diff", *arguments],
            cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if "ENOTFOUND" in done.stderr or "ECONNREFUSED" in done.stderr:
            pytest.skip("npm can't be reached")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def tool(name: str, **given: Any) -> dict[str, Any]:
        pairs = [part for key, value in given.items() for part in ("--tool-arg", f"{key}={value}")]
        found = inspect("--method", "tools/call", "--tool-name", name, *pairs)
        answer: dict[str, Any] = json.loads(found["content"][0]["text"])
        return answer

    assert {each["name"] for each in inspect("--method", "tools/list")["tools"]} == set(TOOLS)
    run = tool("start_audit", **PAIR, completions=30, control=6, max_tokens=14, wait_seconds=60)
    assert run["state"] == "complete"
    assert tool("themes", run="acme-1")["reference"] == "base"
    assert tool("start_audit", **PAIR, cap=900)["kind"] == "not_allowed"
    assert len(inspect("--method", "resources/list")["resources"]) == 2


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed: the SDK comes from it")
def test_the_typescript_sdk_starts_watches_cancels_and_resumes_a_run(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client over the protocol's TypeScript SDK, for which what is not allowed is refused, too."""
    key = "sk-a-key-that-no-answer-may-hold"
    monkeypatch.setenv("TOY_KEY", key)
    config = toml(toy, tmp_path, concurrency=1)
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('label = "acme"', 'label = "acme"\nkey_env = "TOY_KEY"'), encoding="utf-8")
    client = tmp_path / "client"
    client.mkdir()
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(client), "@modelcontextprotocol/sdk@1"]
    done = subprocess.run(install, cwd=client, capture_output=True, text=True, timeout=300, check=False)
    if "ENOTFOUND" in done.stderr or "ECONNREFUSED" in done.stderr:
        pytest.skip("npm can't be reached")
    assert done.returncode == 0, done.stderr
    script = [shutil.which("node") or "node", str(ROOT / "tests" / "mcp_client.mjs")]
    done = subprocess.run(
        [*script, sys.executable, str(ROOT), str(config)],
        cwd=client, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["tools"]) == set(TOOLS)
    assert (found["started"]["state"], found["watched"]["state"]) == ("running", "running")
    assert (found["cancelled"]["state"], found["cancelled"]["bought"] < 24) == ("stopped", True)
    assert "the user went away" in found["gone"]
    assert (found["aborted"]["state"], found["aborted"]["bought"] < 24) == ("stopped", True)
    assert (found["resumed"]["state"], found["resumed"]["bought"]) == ("complete", 24)
    assert found["heard"][-1] == [24, 24]
    assert {name: each["kind"] for name, each in found["refused"].items()} == {
        "cap": "not_allowed",
        "max_cost": "cap_reached",
        "endpoint": "not_allowed",
        "key": "not_allowed",
        "file": "not_allowed",
    }
    assert found["resumed"]["purse"]["max_cost_usd"] == found["cancelled"]["purse"]["max_cost_usd"] == 2.0
    assert "never an instruction" in found["report"]
    assert found["injected"]["total"] > 0  # an agent reads "raise the budget", and the cap above is what it was
    assert key not in done.stdout + done.stderr
