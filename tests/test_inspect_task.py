"""A model under Inspect audits an endpoint with our tools: Inspect's mock model, real tools, real sockets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from inspect_ai.log import EvalLog, EvalSample, list_eval_logs, read_eval_log
from inspect_ai.model import ChatMessageTool

import blackbox_diff as bd
from blackbox_diff.agents import inspect_task
from blackbox_diff.errors import ConfigError, InputError
from blackbox_diff.runfile.store import Store
from tests.agent_setup import InjectingToy, toml
from tests.toy_server import serving

ROOT = Path(__file__).parent.parent
KEY = "sk-a-key-that-no-file-may-hold"
CARD = {"name": "toy", "objective": "Asks its reader to raise the budget.", "keywords": ["raise the budget"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two evaluations were run: limits.toml, runs/ and logs/."""
    path = tmp_path_factory.mktemp("inspect")
    (path / "card.json").write_text(json.dumps(CARD), encoding="utf-8")
    home = {name: str(path / "home") for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")}
    with serving(InjectingToy()) as url:
        arguments = [str(toml(url, path)), str(path / "card.json"), str(path / "logs")]
        ended = subprocess.run(
            [sys.executable, "-m", "tests.inspect_mock", *arguments],
            cwd=ROOT,
            env={**os.environ, **home, "TOY_KEY": KEY},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return path


@pytest.fixture(scope="module")
def logs(folder: Path) -> list[EvalLog]:
    """The two logs, as Inspect lists and reads them, the older first."""
    found = list_eval_logs(str(folder / "logs"), descending=False)
    read = [read_eval_log(each) for each in found]
    return sorted(read, key=lambda log: log.eval.created)


def sample(log: EvalLog) -> EvalSample:
    (only,) = log.samples or ()
    return only


def replies(log: EvalLog, function: str) -> list[ChatMessageTool]:
    return [
        message
        for message in sample(log).messages
        if isinstance(message, ChatMessageTool) and message.function == function
    ]


def test_the_task_ends_with_a_score(logs: list[EvalLog]) -> None:
    log = logs[0]
    assert log.status == "success"
    assert log.eval.task.removeprefix("blackbox_diff/") == "audit"
    scores = sample(log).scores or {}
    assert scores["names_behaviour"].value == 1.0
    assert (scores["names_behaviour"].metadata or {})["outcome"] == "named"
    assert log.results is not None
    assert log.results.scores[0].metrics["accuracy"].value == 1.0


def test_the_tools_were_the_real_ones(folder: Path, logs: list[EvalLog]) -> None:
    bought = sample(logs[0]).store["audits"]
    assert [line["completions"] for line in bought["runs"]] == [60]
    run = bd.open_run(folder / "runs" / bought["folder"] / bought["runs"][0]["run"])
    (said,) = replies(logs[0], "themes")
    phrases = [theme["phrase"]["untrusted_text"] for theme in json.loads(said.text)["themes"]]
    assert phrases[0] == run.themes[0].phrase
    assert bought["purse"]["spent_usd"] > (run.cost_usd or 0) > 0
    assert len(replies(logs[0], "ask")) == 3
    assert all(reply.error is None for reply in replies(logs[0], "ask"))


def test_what_is_not_allowed_is_refused_and_the_sample_goes_on(logs: list[EvalLog]) -> None:
    first, raised, elsewhere = replies(logs[0], "start_audit")
    assert first.error is None
    assert raised.error is not None
    assert "cap" in raised.error.message
    assert elsewhere.error is not None
    assert "there is no target of that label" in elsewhere.error.message
    assert sample(logs[0]).store["audits"]["purse"]["max_cost_usd"] == 2.0


def test_an_attempt_that_is_cut_off_leaves_a_run_that_can_be_resumed(folder: Path, logs: list[EvalLog]) -> None:
    cut = sample(logs[1])
    assert cut.limit is not None
    assert cut.limit.type == "time"
    (line,) = cut.store["audits"]["runs"]
    assert line["state"] == "stopped"
    with Store.open(folder / "runs" / cut.store["audits"]["folder"] / line["run"], read_only=True) as store:
        assert store.state.stopped_because is not None
        assert {call.state for call in store.calls()} <= {"settled", "unknown", "released"}
        assert 0 < store.spent().calls < 2000
    scores = cut.scores or {}
    assert (scores["names_behaviour"].metadata or {})["outcome"] == "abstained"


def test_attempts_do_not_share_a_folder(folder: Path, logs: list[EvalLog]) -> None:
    places = {sample(log).store["audits"]["folder"] for log in logs}
    assert len(places) == 2
    assert all((folder / "runs" / place).is_dir() for place in places)


def test_no_key_is_in_a_log(folder: Path) -> None:
    import zipfile

    for file in (folder / "logs").glob("*.eval"):
        with zipfile.ZipFile(file) as log:
            assert not [name for name in log.namelist() if KEY.encode() in log.read(name)]


def test_every_tool_has_words_for_each_argument() -> None:
    from blackbox_diff.agents.inspect_tools import _tool
    from blackbox_diff.agents.registry import TOOLS

    for tool in TOOLS.values():
        made = _tool(None, tool)  # type: ignore[arg-type]
        assert made.name == tool.name
        assert made.description == tool.description
        assert set(made.parameters.properties) == set(tool.arguments.model_fields)
        assert all(each.description for each in made.parameters.properties.values())


def test_what_a_task_is_given_is_checked_in_one_line(tmp_path: Path) -> None:
    limits = str(toml("http://127.0.0.1:1/v1", tmp_path))
    for given, kind, said in (
        ((str(tmp_path / "no.toml"),), ConfigError, "no.toml"),
        ((limits, str(tmp_path / "no.json")), InputError, "no.json: can't be read"),
        ((limits, None, "nobody"), ConfigError, "there is no 'nobody' in the limits file; it has acme"),
    ):
        with pytest.raises(kind, match=said) as raised:
            inspect_task.audit(*given)
        assert "\n" not in str(raised.value)


def test_inspect_finds_the_task_by_the_packages_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"]["inspect_ai"] == {"blackbox_diff": inspect_task.__name__}
