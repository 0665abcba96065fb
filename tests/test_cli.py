"""Wrong input ends as one clear line and exit code 2, with no traceback and nothing bought."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from blackbox_diff.cli import COMMANDS, GROUPS, main

NOWHERE = "http://127.0.0.1:9/v1"  # nothing listens on the discard port
TARGET = ["--target-url", NOWHERE, "--target-model", "m"]
REFERENCE = ["--reference-url", NOWHERE, "--reference-model", "r"]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that must exit with 2 and print nothing else."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert told.out == ""
    (line,) = told.err.strip().splitlines()
    return line


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with inputs that are not what they should be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    (tmp_path / "directory").mkdir()
    (tmp_path / "short.txt").write_text("x\n")
    (tmp_path / "runs" / "acme").mkdir(parents=True)
    (tmp_path / "runs" / "acme" / "run.sqlite").touch()
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for name, text in {
        "broken": "target = [",
        "typo": 'colour = "red"\n[target]\nurl = "http://x/v1"\nmodel = "m"\n',
        "near": '[target]\nurl = "http://x/v1"\nmodel = "m"\nkeyenv = "X"\n',
        "cap": '[target]\nurl = "http://x/v1"\nmodel = "m"\n[budget]\nmax_costs = 3\n',
        "text": 'target = "http://x/v1"\n',
        "kind": 'completions = "many"\n[target]\nurl = "http://x/v1"\nmodel = "m"\n',
        "half": '[target]\nurl = "http://x/v1"\n',
    }.items():
        (tmp_path / f"{name}.toml").write_text(text)
    return tmp_path


# what is wrong in `audit TARGET REFERENCE --out run ...`, and words that the line must hold
AUDIT: list[tuple[list[str], list[str]]] = [
    ([], [NOWHERE, "can't connect"]),
    (["--target-url", "nonsense"], ["--target-url", "'nonsense' is not a URL", "http://127.0.0.1:8000/v1"]),
    (["--target-url", "ftp://x/v1"], ["--target-url", "ftp://x/v1"]),
    (["--target-url", "http://127.0.0.1:99999/v1"], ["--target-url", "99999"]),
    (["--target-url", "http://[::1"], ["--target-url", "not a URL"]),
    (["--target-url", "http://u:secret@x/v1"], ["--target-url", "password", "key-env"]),
    (["--target-url", "http://no-such-host.invalid/v1"], ["no-such-host.invalid", "can't connect"]),
    (["--target-url", "local:smollm2-135m-instruct"], ["target.url", "for references"]),
    (["--target-model", " "], ["--target-model", "empty"]),
    (["--target-key-env", "NO_SUCH_KEY"], ["NO_SUCH_KEY is not set", "export"]),
    (["--reference-key-env", "NO_SUCH_KEY"], ["NO_SUCH_KEY is not set", "export"]),
    (["--target-dialect", "klingon"], ["dialect", "'klingon' is not one of auto", "vllm"]),
    (["--reference", "gemma"], ["--reference", "'gemma' is not local:SPEC", "as in local:gemma"]),
    (["--reference", "local:"], ["--reference", "local:SPEC"]),
    (["--source", "poetry"], ["unknown source 'poetry'", "prose, code, file:"]),
    (["--source", "/no/such.txt"], ["/no/such.txt", "no such file"]),
    (["--source", "directory"], ["directory: is a directory", "hf:directory"]),
    (["--source", "short.txt"], ["short.txt", "0 distinct openings", "fewer"]),
    (["--source", "hf:./nowhere"], ["./nowhere", "no such directory"]),
    (["--source", "prose", "--source", "prose"], ["--source", "twice"]),
    (["--framing", "sung"], ["--framing", "'sung'", "raw"]),
    (["--completions", "0"], ["--completions: must be at least 1, not 0"]),
    (["--completions", "many"], ["--completions", "'many'"]),
    (["--max-tokens", "5000"], ["--max-tokens: must be at most 4096, not 5000"]),
    (["--temperature", "-1"], ["--temperature: must be at least 0"]),
    (["--temperature", "nan"], ["--temperature: must be a finite number"]),
    (["--concurrency", "0"], ["--concurrency: must be at least 1"]),
    (["--control", "-1"], ["--control: must be at least 0"]),
    (["--seed", "1" * 30], ["--seed: must be less than"]),
    (["--max-cost", "1"], ["--max-cost", "--price-in", "--price-out"]),
    (["--max-cost", "-1", "--price-in", "1", "--price-out", "1"], ["--max-cost: must be at least 0"]),
    (["--max-cost", "inf", "--price-in", "1", "--price-out", "1"], ["--max-cost: must be a finite number"]),
    (["--max-calls", "0"], ["--max-calls: must be at least 1, not 0"]),
    (["--price-in", "cheap"], ["--price-in", "'cheap'"]),
    (["--fast"], ["--fast", "--help"]),
    (["--out", "short.txt"], ["short.txt", "can't create", "--out"]),
    (["--out", "short.txt/run"], ["short.txt/run", "can't create", "--out"]),
    (["--out", "/proc/run"], ["/proc/run", "can't create", "--out"]),
    (["missing.toml"], ["missing.toml", "No such file"]),
    (["directory"], ["directory", "is a directory"]),
    (["broken.toml"], ["broken.toml: not valid TOML"]),
    (["bytes.toml"], ["bytes.toml", "not valid TOML"]),
    (["typo.toml"], ["typo.toml", "colour: unknown setting", "completions"]),
    (["near.toml"], ["near.toml", "target.keyenv: unknown setting: did you mean key_env?"]),
    (["cap.toml"], ["cap.toml", "budget.max_costs: unknown setting: did you mean max_cost?"]),
    (["kind.toml"], ["kind.toml", "completions: must be a whole number, not 'many'"]),
]


@pytest.mark.parametrize(("wrong", "words"), AUDIT, ids=lambda value: " ".join(value)[:50] or "unreachable")
def test_an_audit_that_cannot_be(
    files: Path, capsys: pytest.CaptureFixture[str], wrong: list[str], words: list[str]
) -> None:
    before = sorted(files.rglob("*"))
    line = refused(["audit", *TARGET, *REFERENCE, "--out", "run", *wrong], capsys)
    assert not [word for word in words if word not in line], line
    assert "secret" not in line
    assert sorted(files.rglob("*")) == before  # so that the same command, corrected, can be given again


OTHERS: list[tuple[list[str], list[str]]] = [
    (["audit", *TARGET, *REFERENCE], ["--out"]),
    (["audit", *TARGET, "--out", "run"], ["no reference", "--reference-url"]),
    (["audit", *REFERENCE, "--out", "run"], ["no target", "--target-url"]),
    (["audit", "--target-url", NOWHERE, *REFERENCE, "--out", "run"], ["--target-model: is missing"]),
    (["audit", *TARGET, "--reference-url", NOWHERE, "--out", "run"], ["--reference-model: is missing"]),
    (["audit", "half.toml", *REFERENCE, "--out", "run"], ["half.toml: target.model: is missing"]),
    (["audit", "text.toml", *REFERENCE, "--out", "run"], ["text.toml: target: must be a table of settings"]),
    (["estimate"], ["no target", "--target-url"]),
    (["estimate", "kind.toml"], ["kind.toml: completions: must be a whole number"]),
    (["estimate", *TARGET, "--price-in", "-1"], ["--price-in: must be at least 0"]),
    (["probe"], ["--target-url"]),
    (["probe", *TARGET], [NOWHERE, "can't connect"]),
    (["probe", "--target-url", "x", "--target-model", "m"], ["--target-url: 'x' is not a URL"]),
    (["probe", *TARGET, "--target-key-env", "NO_SUCH_KEY"], ["NO_SUCH_KEY is not set"]),
    (["probe", *TARGET, "--purpose", "cooking"], ["--purpose", "'cooking'"]),
    (["demo", "--organism", "unicorn", "--out", "run"], ["--organism", "'unicorn'", "false-fact"]),
    (["demo", "--reference", "other"], ["--reference", "'same', 'cross'"]),
    (["demo", "--completions", "0"], ["--completions"]),
    (["report", "run", "--control", "run2"], ["--control", "did you mean --control-run?"]),
    (["export", "run", "rows.csv", "--control"], ["--control", "did you mean --written-by control?"]),
    (["sing"], ["sing", "--help"]),
    (["audit", "http://127.0.0.1:9/v1"], ["TOML file", "--target-url"]),
    (["audit", "--target-urll", "x"], ["--target-urll", "did you mean --target-url?"]),
    (["report", "nowhere"], ["nowhere: no such directory", "--out"]),
    (["report", "directory"], ["directory: not a run (no run.sqlite in it)", "--out"]),
    (["report", "short.txt"], ["short.txt: not a run"]),
    (["report", "runs"], ["runs: not a run", "such as runs/acme"]),
    (["resume", "runs/acme/run.sqlite"], ["is a file in a run", "give the run's directory, runs/acme"]),
    (["--loud"], ["--loud", "--help"]),
]


@pytest.mark.parametrize(("arguments", "words"), OTHERS, ids=lambda value: " ".join(value)[:60])
def test_a_command_that_cannot_be(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    line = refused(arguments, capsys)
    assert not [word for word in words if word not in line], line
    assert not (files / "run").exists()


def test_the_bare_command_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("Usage: blackbox-diff")
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(COMMANDS)


def test_estimate_spends_nothing_and_says_what_an_audit_costs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["estimate", *TARGET, "--price-in", "0.3", "--price-out", "1.2", "--completions", "100"])
    assert ended.value.code == 0
    assert "prose/raw" in capsys.readouterr().out


def test_help_lists_every_command_and_loads_none_of_the_heavy_modules() -> None:
    code = (
        "import sys\nfrom blackbox_diff.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'httpx2', 'numpy', 'pydantic', 'torch', 'rich', 'jinja2', 'json', 'difflib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    assert all(name in done.stdout for name in COMMANDS)
