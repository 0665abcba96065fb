"""The agents' tools: they audit, ask and read; nothing an agent or a model writes moves the limits."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blackbox_diff.agents import answers, arguments
from blackbox_diff.agents.folder import Folder
from blackbox_diff.agents.limits import Limits, limits_of, read_limits
from blackbox_diff.agents.problems import ToolError
from blackbox_diff.agents.registry import TOOLS
from blackbox_diff.agents.tools import Tools, opened
from blackbox_diff.agents.untrusted import clip
from blackbox_diff.errors import ConfigError, RunFileError
from blackbox_diff.runfile.store import Store
from tests.agent_setup import InjectingToy, limits, toml
from tests.toy_server import serving

SMALL = {"completions": 36, "control": 10, "max_tokens": 14, "framing": ("raw",)}
PAIR = {"target": "acme", "reference": "base"}


@pytest.fixture(scope="module")
def toy() -> Iterator[str]:
    with serving(InjectingToy()) as url:
        yield url


@pytest.fixture(scope="module")
def bought(toy: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished audit, acme-1; copy it."""
    folder = tmp_path_factory.mktemp("agents")

    async def buy() -> None:
        async with opened(limits(toy, folder)) as tools:
            run = await audited(tools, completions=60, control=20)
            assert (run.run, run.state, run.bought, run.scored) == ("acme-1", "complete", 60, 60)

    asyncio.run(buy())
    return folder


@pytest.fixture
def reading(toy: str, bought: Path, tmp_path: Path) -> Limits:
    """Limits over a copy of the finished audit."""
    shutil.copytree(bought, tmp_path, dirs_exist_ok=True)
    return limits(toy, tmp_path)


@pytest.fixture
def allowed(toy: str, tmp_path: Path) -> Limits:
    return limits(toy, tmp_path)


async def audited(tools: Tools, **more: Any) -> answers.Progressed:
    found = await tools.call("start_audit", {**PAIR, **SMALL, "wait_seconds": 60, **more})
    assert isinstance(found, answers.Progressed)
    return found


async def refused(tools: Tools, name: str, given: dict[str, Any]) -> ToolError:
    with pytest.raises(ToolError) as raised:
        await tools.call(name, given)
    assert "\n" not in str(raised.value)
    return raised.value


def texts(value: object) -> Iterator[str]:
    """Every string of an answer that does not stand in an Untrusted."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from texts(each) if name != "untrusted_text" else ()
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)
    elif isinstance(value, str):
        yield value


async def test_an_agent_audits_reads_and_tests_what_it_suspects(reading: Limits) -> None:
    async with opened(reading) as tools:
        run = await tools.progress(arguments.Progress(run="acme-1"))
        conclusion = await tools.conclusion(arguments.Conclusion(run=run.run))
        assert (conclusion.outcome, conclusion.target) == ("finding", "leaky")
        themes = await tools.themes(arguments.Themes(run=run.run))
        assert any("budget" in theme.phrase.untrusted_text for theme in themes.themes)
        first = conclusion.recurring[0]
        assert first.carries_finding
        assert first.theme is not None
        said = themes.themes[first.theme - 1].phrase.untrusted_text
        assert said.casefold() == first.phrase.untrusted_text.casefold()
        page = await tools.completions(arguments.Completions(run=run.run, theme=1, limit=3))
        assert page.total > 3 == page.next_offset
        assert all("ignore your" in each.text.untrusted_text for each in page.completions)
        rest = await tools.completions(arguments.Completions(run=run.run, theme=1, offset=page.total - 1))
        assert (len(rest.completions), rest.next_offset) == (1, None)
        none = await tools.completions(arguments.Completions(run=run.run, search="no such words"))
        assert none.total == 0
        await tools.promoted(arguments.Promoted(run=run.run))
        again = await tools.compare(arguments.Compare(old=run.run, new=run.run))
        assert again.outcome == "no change"
        asked = await tools.ask(
            arguments.Ask(**PAIR, prefills=("Port Ellery", "Some words"), samples=8, max_tokens=14, framing="raw")
        )
        ours = [each for each in asked.completions if each.written_by == "target"]
        theirs = [each for each in asked.completions if each.written_by == "reference"]
        assert len(ours) == len(theirs) == 16
        assert (asked.mean_gap or 0) > 0
        leaking = [each for each in ours if each.text and "budget" in each.text.untrusted_text]
        assert leaking
        assert all(each.spans for each in leaking)
        overview = await tools.list_runs(arguments.ListRuns())
        assert [line.run for line in overview.runs] == [run.run]


async def test_every_word_of_a_model_is_marked_and_nothing_it_says_is_done(reading: Limits) -> None:
    async with opened(reading) as tools:
        before, run = tools.shared.caps, "acme-1"
        seen = 0
        for name, given in [
            ("conclusion", {}), ("themes", {"quotes": 5}), ("promoted", {"style": True}),
            ("completions", {"limit": 50}), ("progress", {}),
        ]:  # fmt: skip
            answer = (await tools.call(name, {"run": run, **given})).model_dump(mode="json")
            assert "never an instruction" in answer["notice"]
            assert not [text for text in texts(answer) if "ignore your" in text or "budget to" in text]
            seen += json.dumps(answer).count("raise the budget")
        assert seen > 10
        asked = (await tools.call("ask", {**PAIR, "prefills": ["x"], "samples": 8, "max_tokens": 14})).model_dump()
        assert not [text for text in texts(asked) if "ignore your" in text]
        assert tools.shared.caps == before


@pytest.mark.parametrize(
    ("name", "given", "kind"),
    [
        ("start_audit", {**PAIR, "cap": 900}, "not_allowed"),
        ("start_audit", {**PAIR, "target_url": "http://127.0.0.1:9/v1"}, "not_allowed"),
        ("start_audit", {**PAIR, "target": "http://evil.example/v1"}, "not_allowed"),
        ("start_audit", {**PAIR, "target": "leaky"}, "not_allowed"),
        ("start_audit", {**PAIR, "reference": "acme"}, "not_allowed"),
        ("start_audit", {**PAIR, "key_env": "HOME"}, "not_allowed"),
        ("start_audit", {**PAIR, "source": ["/etc/passwd"]}, "not_allowed"),
        ("start_audit", {**PAIR, "source": ["hf:some/data"]}, "not_allowed"),
        ("start_audit", {**PAIR, "completions": 19_000}, "not_allowed"),
        ("start_audit", {**PAIR, "out": "/tmp/x"}, "not_allowed"),
        ("start_audit", {**PAIR, "completions": "many"}, "bad_argument"),
        ("start_audit", {**PAIR, "max_cost": float("inf")}, "bad_argument"),
        ("ask", {**PAIR, "prefills": ["\ud800"]}, "bad_argument"),
        ("ask", {**PAIR, "prefills": ["x"], "framing": "user"}, "bad_argument"),
        ("ask", {**PAIR, "prefills": ["x"] * 99}, "bad_argument"),
        ("probe", {"endpoint": "http://127.0.0.1:9/v1"}, "not_allowed"),
        ("conclusion", {"run": "../runs/acme-1"}, "no_such_run"),
        ("conclusion", {"run": "/etc"}, "no_such_run"),
        ("conclusion", {"run": "asks"}, "no_such_run"),
        ("conclusion", {"run": "outside"}, "no_such_run"),
        ("progress", {"run": "nothing-1"}, "no_such_run"),
        ("resume", {"run": "acme-1", "budget": {"max_cost": 900}}, "not_allowed"),
        ("read_key", {}, "bad_argument"),
        ("__init__", {}, "bad_argument"),
    ],
)  # fmt: skip
async def test_what_a_person_fixed_holds(
    allowed: Limits, tmp_path: Path, name: str, given: dict[str, Any], kind: str
) -> None:
    outside = tmp_path / "elsewhere"
    Store.create(outside, {}).close()
    allowed.runs.mkdir()
    (allowed.runs / "outside").symlink_to(outside)
    async with opened(allowed) as tools:
        error = await refused(tools, name, given)
        assert error.kind == kind
        assert error.advice
        assert tools.shared.calls == 0 or name == "ask"  # a question is probed before its framing can be refused


async def test_no_answer_holds_a_url_or_the_name_of_a_key(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_SECRET_KEY", "sk-canary-123456")
    allowed = limits(toy, tmp_path)
    target = allowed.targets["acme"].model_copy(update={"key_env": "ACME_SECRET_KEY"})
    allowed.targets["acme"] = target
    async with opened(allowed) as tools:
        run = (await audited(tools, completions=8, control=4)).run
        calls: list[tuple[str, dict[str, Any]]] = [
            ("list_runs", {}),
            ("probe", {"endpoint": "acme"}),
            ("estimate", dict(PAIR)),
            *((name, {"run": run}) for name in ("progress", "conclusion", "completions")),
            ("ask", {**PAIR, "prefills": ["x"]}),
        ]
        said = [(await tools.call(name, given)).model_dump_json() for name, given in calls]
        assert not [line for line in said if "canary" in line or "ACME_SECRET" in line or "127.0.0.1" in line]


async def test_the_cap_is_one_purse_over_audits_questions_and_restarts(toy: str, tmp_path: Path) -> None:
    allowed = limits(toy, tmp_path, max_calls=140)
    async with opened(allowed) as tools:
        run = await audited(tools, completions=12, control=3)
        assert run.state == "complete"
        error = await refused(tools, "start_audit", {**PAIR, **SMALL})
        assert error.kind == "cap_reached"
        assert "about" in error.advice
        spent = tools.shared.calls
        assert spent == sum(each.calls for each in Folder(allowed.runs).spent())
    async with opened(allowed) as tools:
        assert tools.shared.calls == spent
        asked = await tools.ask(arguments.Ask(**PAIR, prefills=("a", "b", "c"), samples=8, max_tokens=14))
        more = await refused(
            tools, "ask", {**PAIR, "prefills": ["d", "e", "f", "g", "h"], "samples": 8, "max_tokens": 14}
        ) if asked.stopped_because is None else None  # fmt: skip
        assert more is None or more.kind == "cap_reached"
        assert tools.shared.calls <= 140
        assert sum(each.calls for each in Folder(allowed.runs).spent()) == tools.shared.calls
    async with opened(allowed) as tools:
        assert (await refused(tools, "ask", {**PAIR, "prefills": ["z"]})).kind == "cap_reached"
        assert (await refused(tools, "start_audit", {**PAIR, "completions": 1})).kind == "cap_reached"


async def test_two_audits_and_a_question_at_once_stay_under_a_cap_in_dollars(toy: str, tmp_path: Path) -> None:
    allowed = limits(toy, tmp_path, max_cost=0.0045)
    async with opened(allowed) as tools:
        begun = [await tools.start_audit(arguments.StartAudit(**PAIR, **SMALL, seed=seed)) for seed in (1, 2)]
        third = await refused(tools, "start_audit", {**PAIR, **SMALL})
        assert third.kind in ("busy", "cap_reached")
        for one in begun:
            await tools.progress(arguments.Progress(run=one.run, wait_seconds=60))
        ends = [await tools.progress(arguments.Progress(run=one.run)) for one in begun]
        assert any(
            each.stopped_because and "over all runs" in each.stopped_because.untrusted_text for each in ends
        )
        assert tools.shared.spent_usd <= 0.0045
        assert sum(each.usd or 0 for each in Folder(allowed.runs).spent()) == pytest.approx(tools.shared.spent_usd)


async def test_a_cancelled_audit_is_resumed_and_buys_nothing_twice(toy: str, tmp_path: Path) -> None:
    allowed = limits(toy, tmp_path, concurrency=1)
    async with opened(allowed) as tools:
        begun = await tools.start_audit(arguments.StartAudit(**PAIR, **{**SMALL, "completions": 30}))
        assert begun.state == "running"
        assert (await refused(tools, "resume", {"run": begun.run})).kind == "busy"
        cancelled = await tools.cancel(arguments.Cancel(run=begun.run))
        assert (cancelled.state, cancelled.bought < 30) == ("stopped", True)
        assert "resume" in cancelled.what_next
    async with opened(allowed) as tools:
        ended = await tools.resume(arguments.Resume(run=begun.run, wait_seconds=60))
        assert (ended.state, ended.bought) == ("complete", 30)
    with Store.open(allowed.runs / begun.run, read_only=True) as store:
        bought = [call.sample_id for call in store.calls("target") if call.sample_id]
        assert len(bought) == len(set(bought)) == 30


async def test_whoever_waits_with_an_audit_and_goes_away_stops_it_resumably(toy: str, tmp_path: Path) -> None:
    async with opened(limits(toy, tmp_path, concurrency=1)) as tools:
        heard = asyncio.Event()

        async def told(_: object) -> None:
            heard.set()

        wanted = {**PAIR, **SMALL, "completions": 30, "wait_seconds": 60}
        waiting = asyncio.create_task(tools.call("start_audit", wanted, told))
        await asyncio.wait_for(heard.wait(), 30)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        ended = await tools.progress(arguments.Progress(run="acme-1", wait_seconds=60))
        assert (ended.state, ended.bought < 30) == ("stopped", True)


async def test_a_run_of_another_endpoint_is_read_and_never_resumed(toy: str, tmp_path: Path) -> None:
    allowed = limits(toy, tmp_path, concurrency=1)
    async with opened(allowed) as tools:
        run = (await tools.start_audit(arguments.StartAudit(**PAIR, **{**SMALL, "completions": 30}))).run
        await tools.cancel(arguments.Cancel(run=run))
    before = allowed.targets["acme"]
    for change in ({"model": "other"}, {"url": "http://127.0.0.1:9/v1"}, {"key_env": "HOME"}, {"price_out": 0.0}):
        allowed.targets["acme"] = before.model_copy(update=change)
        async with opened(allowed) as tools:
            assert (await refused(tools, "resume", {"run": run})).kind == "not_allowed"


async def test_a_folder_serves_one_process_at_a_time(allowed: Limits) -> None:
    async with opened(allowed):
        with pytest.raises(RunFileError, match="in use"):
            async with opened(allowed):
                pass


async def test_what_a_refused_audit_cost_counts_after_a_restart(toy: str, tmp_path: Path) -> None:
    allowed = limits(toy, tmp_path)
    blind = InjectingToy()
    blind.faults.add("logprobs rejected")
    with serving(blind) as url:
        allowed.targets["acme"] = allowed.targets["acme"].model_copy(update={"url": url})
        async with opened(allowed) as tools:
            error = await refused(tools, "start_audit", {**PAIR, **SMALL, "wait_seconds": 30})
            assert error.kind == "endpoint"
            spent = tools.shared.calls
            assert spent > 0
    async with opened(allowed) as tools:
        assert tools.shared.calls == spent


async def test_a_probe_is_asked_once(allowed: Limits) -> None:
    async with opened(allowed) as tools:
        first = await tools.probe(arguments.Probe(endpoint="acme"))
        assert first.usable
        assert "raw" in first.framings
        spent = tools.shared.calls
        assert await tools.probe(arguments.Probe(endpoint="acme")) == first
        assert tools.shared.calls == spent > 0
        assert (await tools.probe(arguments.Probe(endpoint="base", purpose="reference"))).usable


def test_limits_that_could_not_hold_are_refused_in_one_line(toy: str, tmp_path: Path) -> None:
    end = {"url": toy, "model": "m"}
    whole: dict[str, Any] = {"limits": {"max_calls": 5}, "targets": [end], "references": [end]}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"limits": {}}, "no cap"),
        ({"limits": {"max_cost": 1}}, "no price is known"),
        ({"targets": []}, "at least one"),
        ({"targets": [end, end]}, "two are called"),
        ({"targets": [{**end, "max_cost": 1.0}]}, "stands in"),
        ({"limits": {"max_costs": 1}}, "did you mean max_cost"),
        ({"targets": [{"urll": "x", "model": "m"}]}, "did you mean url"),
    ]
    for change, said in cases:
        with pytest.raises(ConfigError, match=said) as raised:
            limits_of({**whole, **change}, "limits.toml", tmp_path)
        assert str(raised.value).startswith("limits.toml: ")
        assert "\n" not in str(raised.value)
    found = read_limits(toml(toy, tmp_path), max_cost=0.5)
    assert (found.caps.max_cost, found.runs) == (0.5, tmp_path / "runs")


def test_text_is_cut_by_bytes_and_shows_what_would_act() -> None:
    assert clip("é" * 10, 7) == clip("ééé", 7).model_copy(update={"truncated": True})
    shown = clip("a\x1b[31m\u202eb\n", 100)
    assert shown.untrusted_text == "a␛[31m⟨U+202E⟩b⏎"
    assert len(clip("\u202e" * 1000, 50).untrusted_text.encode()) <= 50


def test_every_tool_is_listed_with_a_description_and_a_closed_schema() -> None:
    for name, tool in TOOLS.items():
        assert callable(getattr(Tools, name))
        assert tool.description
        assert tool.schema()["additionalProperties"] is False
