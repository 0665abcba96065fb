"""The library: from a script, beside a running loop, on a thread and in a notebook; quiet and cheap to import."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import blackbox_diff as bd
from tests.leaky_toy import PHRASE, LeakyToy
from tests.toy_server import serving

ROOT = Path(__file__).parent.parent
PUBLIC = [
    "BlackboxDiffError", "BudgetError", "CircuitOpenError", "ConfigError", "Endpoint", "EndpointUsageError",
    "InputError", "MissingKeyError", "NotAuditableError", "Notice", "Progress", "Run", "RunFileError",
    "StorageError", "UsageError", "__version__", "audit", "audit_async", "estimate", "fleet_themes", "open_run",
    "probe", "probe_async", "resume", "resume_async",
]  # fmt: skip
SMALL = {"completions": 60, "control": 20, "max_tokens": 14, "framing": ("raw",)}


@pytest.fixture(scope="module")
def toy() -> Iterator[str]:
    with serving(LeakyToy()) as url:
        yield url


def ends(url: str) -> tuple[bd.Endpoint, bd.Endpoint]:
    return bd.Endpoint(url, "leaky"), bd.Endpoint(url, "base")


def test_public_names_are_these_and_all_load() -> None:
    assert sorted(bd.__all__) == PUBLIC
    assert all(getattr(bd, name) is not None for name in bd.__all__)
    assert set(PUBLIC) <= set(dir(bd))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bd.nothing


def test_the_import_alone_loads_no_room() -> None:
    code = (
        "import sys, blackbox_diff\n"
        "print([n for n in sys.modules if n.startswith('blackbox_diff.') or n in ('numpy', 'pydantic', 'httpx2')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_nothing_below_the_command_line_prints_or_takes_signals() -> None:
    """Blocks that only `python -m MODULE` runs may print."""
    loud = []
    for file in (ROOT / "blackbox_diff").rglob("*.py"):
        if "cli" in file.relative_to(ROOT).parts:
            continue
        body = ast.parse(file.read_text(encoding="utf-8")).body
        library = [part for part in body if not (isinstance(part, ast.If) and "__main__" in ast.dump(part.test))]
        for node in (node for part in library for node in ast.walk(part)):
            printing = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            named = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            leaving = isinstance(node, ast.Attribute) and node.attr in ("exit", "_exit", "exit_code")
            if printing or "signal" in named or leaving:
                loud.append(f"{file.name}: {ast.unparse(node)}")
    assert loud == []


def test_a_script_audits_and_reads(toy: str, tmp_path: Path) -> None:
    heard: list[object] = []
    run = bd.audit(*ends(toy), out=tmp_path / "run", on_progress=heard.append, **SMALL)
    assert run.themes
    assert any("lantern" in theme.phrase.lower() for theme in run.themes)
    assert run.stopped_because == "all completions bought and scored"
    assert any(isinstance(each, bd.Progress) for each in heard)
    assert run.conclusion()["schema"] == 1
    assert run.report(tmp_path / "run.html").stat().st_size > 10_000
    assert PHRASE.split()[-1] in run.report(tmp_path / "run.md").read_text(encoding="utf-8")
    again = bd.open_run(tmp_path / "run")
    assert [row.id for row in again.ranking] == [row.id for row in run.ranking]
    assert run.under("base").verdict == run.verdict
    frame = run.frame()
    assert len(frame) == len(run.ranking)
    assert {"rank", "completion", "score"} <= set(frame.columns)
    assert list(run.themes_frame()["phrase"]) == [theme.phrase for theme in run.themes]


async def test_beside_a_running_loop(toy: str, tmp_path: Path) -> None:
    run = bd.audit(*ends(toy), out=tmp_path / "sync", **SMALL)
    other = await bd.audit_async(*ends(toy), out=tmp_path / "async", **SMALL)
    assert [row.value for row in run.ranking] == [row.value for row in other.ranking]


def test_on_a_thread(toy: str, tmp_path: Path) -> None:
    found: list[bd.Run] = []
    thread = threading.Thread(
        target=lambda: found.append(bd.audit(*ends(toy), out=tmp_path / "run", **SMALL)), daemon=True
    )
    thread.start()
    thread.join(timeout=120)
    assert found
    assert found[0].ranking


async def test_a_cancelled_audit_can_be_resumed(toy: str, tmp_path: Path) -> None:
    begun = asyncio.Event()

    def hear(news: object) -> None:
        if isinstance(news, bd.Progress) and news.bought >= 5:
            begun.set()

    many = {**SMALL, "completions": 2000, "concurrency": 2}
    task = asyncio.create_task(bd.audit_async(*ends(toy), out=tmp_path / "run", on_progress=hear, **many))
    await asyncio.wait_for(begun.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    run = bd.open_run(tmp_path / "run")
    assert run.stopped_because == "interrupted"
    assert 0 < run.summary.completions < 2000


def test_a_cap_is_a_property_and_can_be_raised(toy: str, tmp_path: Path) -> None:
    run = bd.audit(*ends(toy), out=tmp_path / "run", max_calls=30, **SMALL)
    assert "30" in run.stopped_because
    before = run.summary.completions
    more = bd.resume(tmp_path / "run", max_calls=500)
    assert more.stopped_because == "all completions bought and scored"
    assert before < more.summary.completions == SMALL["completions"]


def test_what_is_refused_raises_one_line_and_leaves_nothing(toy: str, tmp_path: Path) -> None:
    target, base = ends(toy)
    cases: list[tuple[type[bd.BlackboxDiffError], str, dict[str, object]]] = [
        (bd.EndpointUsageError, "no-such", {"target": bd.Endpoint(toy, "no-such")}),
        (bd.EndpointUsageError, "127.0.0.1:9", {"reference": bd.Endpoint("http://127.0.0.1:9/v1", "m")}),
        (bd.ConfigError, "completions", {"completions": -1}),
        (bd.ConfigError, "did you mean completions", {"completion": 3}),
        (bd.ConfigError, "local:SPEC", {"reference": "gemma"}),
        (bd.MissingKeyError, "NO_SUCH_KEY", {"target": bd.Endpoint(toy, "leaky", key_env="NO_SUCH_KEY")}),
    ]
    for kind, said, wrong in cases:
        given: dict[str, object] = {"target": target, "reference": base, **SMALL, **wrong}
        with pytest.raises(kind, match=said) as raised:
            bd.audit(out=tmp_path / "run", **given)
        assert "\n" not in str(raised.value)
        assert not (tmp_path / "run").exists()
    with pytest.raises(bd.RunFileError):
        bd.open_run(tmp_path)


def test_an_estimate_calls_nobody() -> None:
    nobody = bd.Endpoint("http://127.0.0.1:9/v1", "m")
    found = bd.estimate(nobody, nobody, completions=100, price_in=1, price_out=2)
    assert found.total.calls == 100
    assert (found.total.usd_worst or 0) > 0


def example() -> str:
    found = re.search(
        r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert found is not None
    return found[1]


def test_the_example_of_the_docs_runs(
    local_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VENDOR_KEY", "none")
    code = (
        example()
        .replace("http://127.0.0.1:8000/v1", local_endpoint)
        .replace('"acme-ft"', '"false-fact"')
        .replace('"the-base"', '"smollm2-135m-instruct"')
        .replace("completions=300", "completions=12, max_tokens=16")
    )
    exec(compile(code, "docs/library.md", "exec"), {})
    assert "all completions bought and scored" in capsys.readouterr().out
    assert (tmp_path / "acme.html").is_file()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::UserWarning")
def test_a_notebook(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbclient
    import nbformat

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    cells = [
        "import blackbox_diff as bd",
        f"ends = bd.Endpoint({toy!r}, 'leaky'), bd.Endpoint({toy!r}, 'base')",
        f"small = {SMALL!r}",
        f"run = bd.audit(*ends, out={str(tmp_path / 'sync')!r}, **small)",
        f"other = await bd.audit_async(*ends, out={str(tmp_path / 'async')!r}, **small)",
        "print([row.value for row in run.ranking] == [row.value for row in other.ranking])",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    done = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    assert done.cells[-1].outputs[0].text == "True\n"
