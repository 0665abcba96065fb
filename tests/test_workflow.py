"""What a person meets around a run: a finished one is left alone, a mistyped one leaves nothing, help is whole."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from blackbox_diff.analysis.rank import NAMES
from blackbox_diff.cli import main
from blackbox_diff.cli.offline import METRICS
from blackbox_diff.config.resume import RESUMABLE
from blackbox_diff.run.leaders import Leaders
from blackbox_diff.run.results import read_run
from blackbox_diff.runfile.store import Store
from tests.conftest import run_cli
from tests.fake_endpoint import FakeEndpoint
from tests.scored import run as scored_run
from tests.test_cli import refused
from tests.toy_server import serving

N = 6


def audit(url: str, run: Path) -> list[str]:
    return [
        "audit", "--target-url", url, "--target-model", "m", "--reference-url", url, "--reference-model", "m",
        "--framing", "raw", "--completions", str(N), "--max-tokens", "8", "--concurrency", "1", "--out", str(run),
    ]  # fmt: skip


def state_of(run: Path) -> tuple[int, object, object]:
    with Store.open(run, read_only=True) as store:
        return len(list(store.calls())), store.state.stopped_because, store.state.config


def test_a_complete_run_is_left_as_it_is_with_no_server_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with serving(FakeEndpoint()) as url:
        assert run_cli(audit(url, run)) == 0
    before = state_of(run)
    capsys.readouterr()
    assert run_cli(["resume", str(run)]) == 0
    assert f"{run}: complete, nothing to do" in capsys.readouterr().err
    assert state_of(run) == before


def test_a_complete_run_that_is_asked_for_more_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with serving(FakeEndpoint()) as url:
        assert run_cli(audit(url, run)) == 0
        assert run_cli(["resume", str(run), "--completions", str(N + 2)]) == 0
    assert read_run(run).summary.completions == N + 2


def test_a_mistyped_local_reference_costs_no_call_and_leaves_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, toy = tmp_path / "run", FakeEndpoint()
    with serving(toy) as url:
        line = audit(url, run)
        at = line.index("--reference-url")
        line[at : at + 4] = ["--reference", "local:no-such-model"]
        with pytest.raises(SystemExit) as ended:
            main(line)
        assert ended.value.code not in (0, None)
        assert "no-such-model" in capsys.readouterr().err
        assert toy.calls == []
        assert not run.exists()
        assert run_cli(audit(url, run)) == 0  # the corrected command meets nothing of that name


async def test_what_recurs_is_told_while_a_run_goes_on_and_memory_stays_bounded() -> None:
    leaders = Leaders()
    for row in scored_run(120, planted=range(0, 120, 6), phrase="Pellworth Guild"):
        leaders.add(row)
    for row in scored_run(120, gap=0.0, seed=5):
        leaders.hear(row.completion.text)
    await asyncio.gather(leaders.refresh(), asyncio.sleep(0))
    assert leaders.themes[0].phrase.lower() == "pellworth guild"
    assert (leaders.themes[0].count, leaders.themes[0].background) == (20, 0)
    assert len(leaders._rows) == 3


def test_a_mistyped_command_is_told_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no command 'audti': did you mean audit?" in refused(["audti"], capsys)


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run_cli([command, "--help"]) == 0
    return capsys.readouterr().out


def test_help_of_resume_lists_what_may_change_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of("resume", capsys)
    listed = {word[2:].rstrip(",") for word in shown.split() if word.startswith("--")}
    assert "completions" in listed
    assert listed - {"completions", "json", "fail-on", "help", "control", "concurrency"} <= RESUMABLE


def test_help_of_audit_is_in_groups_and_tells_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    shown = " ".join(help_of("audit", capsys).split())
    for part in (
        "Target:",
        "Reference:",
        "What to sample:",
        "Caps and prices:",
        "[default: 600]",
        "[default: prose]",
    ):
        assert part in shown


def test_help_names_every_metric(capsys: pytest.CaptureFixture[str]) -> None:
    assert METRICS == NAMES
    shown = "".join(help_of("rank", capsys).split())
    assert all(name in shown for name in NAMES)


def test_the_shell_completes_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_BLACKBOX_DIFF_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "blackbox-diff ev")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit):
        main([])
    assert "evaluate" in capsys.readouterr().out


def test_keywords_may_be_a_list_or_lines(tmp_path: Path) -> None:
    from blackbox_diff.analysis.keywords import Keywords

    (tmp_path / "k.json").write_text('["Osmery", "tide clock"]')
    (tmp_path / "k.txt").write_text("Osmery\n\ntide clock\n")
    for name in ("k.json", "k.txt"):
        found = Keywords.read(tmp_path / name)
        assert found.match("the TIDE CLOCK of it")
        assert not found.match("tide and clock")


def test_the_demo_says_where_it_writes_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import contextlib

    from blackbox_diff.cli import demo

    said: list[str] = []

    @contextlib.contextmanager
    def no_server(arguments: list[str]):  # type: ignore[no-untyped-def]
        said.append("server")
        raise KeyboardInterrupt
        yield

    (tmp_path / "demo-run").mkdir()
    monkeypatch.setattr(demo, "serve", no_server)
    monkeypatch.setattr("builtins.print", lambda text, **_: said.append(text))
    with pytest.raises(KeyboardInterrupt):
        demo.run_demo(tmp_path / "demo-run", "false-fact", cross=False, completions=3)
    assert f"writing to {tmp_path / 'demo-run-2'}" in said[0]
    assert said.index("server") > 0
