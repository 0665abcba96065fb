"""An address, a proxy or a certificate that is wrong is called by its name, on real sockets, in one line."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from blackbox_diff.buying import http as buying_http
from tests.conftest import run_cli
from tests.fake_endpoint import FakeEndpoint
from tests.fault_server import http
from tests.fault_server import serving as answering
from tests.hostile.scripted import Scripted
from tests.test_cli import refused
from tests.test_workflow import audit
from tests.toy_server import serving

NETWORK = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NETWORK:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(buying_http, "CONNECT_SECONDS", 2.0)
    monkeypatch.setenv("BLACKBOX_DIFF_CACHE", str(tmp_path / "cache"))


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def told(url: str, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    return refused(["probe", "--target-url", url, "--target-model", "m", *more], capsys)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    place = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=place, check=True, capture_output=True,
    )  # fmt: skip
    return place


@contextmanager
def listening(context: ssl.SSLContext | None = None, *, alert: bool = False) -> Iterator[int]:
    """A port that answers any HTTP request with a list of models, in TLS if there is a context.

    alert: what is no TLS is answered as OpenSSL's own server does.
    """
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), [0]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"\x15\x03\x01\x00\x02\x02F" if alert else http(200, b'{"data": []}'))
            await writer.drain()
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass
        writer.close()

    async def main() -> None:
        nonlocal ending
        ending = asyncio.Event()
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        port[0] = server.sockets[0].getsockname()[1]
        ready.set()
        await ending.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    ending: asyncio.Event
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield port[0]
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(10)
        loop.close()
        with warnings.catch_warnings():  # asyncio leaves the socket of a failed handshake to the collector
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context


def test_a_certificate_that_nobody_vouches_for(certificate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listening(tls(certificate)) as port:
        line = told(f"https://127.0.0.1:{port}/v1", capsys)
    assert "its certificate is not trusted: self-signed certificate: name its authority's file in SSL_CERT" in line


def test_a_certificate_that_is_named_is_trusted(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    with listening(tls(certificate)) as port:
        assert run_cli(["probe", "--target-url", f"https://127.0.0.1:{port}/v1", "--target-model", "m"]) in (2, 4)
    assert "certificate" not in capsys.readouterr().err  # so it was talked to, and what it says is no audit's


def test_https_on_a_port_without_tls(capsys: pytest.CaptureFixture[str]) -> None:
    with listening() as port:
        line = told(f"https://127.0.0.1:{port}/v1", capsys)
    assert "is it http:// in place of https://?" in line
    with answering(Scripted(lambda number, request: http(200, b"{}"))) as server:  # one that answers at once
        line = told(server.url.replace("http:", "https:"), capsys)
    assert "is it http:// in place of https://?" in line


@pytest.mark.parametrize("alert", [False, True])
def test_http_on_a_port_that_speaks_tls(
    certificate: Path, alert: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(None if alert else tls(certificate), alert=alert) as port:
        line = told(f"http://127.0.0.1:{port}/v1", capsys)
    assert "is it https:// in place of http://?" in line


def test_an_unknown_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such host is known: no-such-host.invalid" in told("http://no-such-host.invalid/v1", capsys)


def test_a_port_at_which_nothing_listens(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing listens on that port: is the server running?" in told(
        f"http://127.0.0.1:{free_port()}/v1", capsys
    )


@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTP_PROXY", "http_proxy"])
def test_a_dead_proxy(variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    monkeypatch.setenv(variable, f"http://user:hunter2@127.0.0.1:{port}")
    line = told("http://vendor.example/v1", capsys)
    assert f"the proxy http://127.0.0.1:{port} that {variable.upper()} names does not answer" in line
    assert "hunter2" not in line


def test_a_proxy_of_no_known_name_and_one_that_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://no-such-proxy.invalid:3128")
    assert "the proxy http://no-such-proxy.invalid:3128 that HTTPS_PROXY names is no known host" in told(
        "https://vendor.example/v1", capsys
    )
    with listening(alert=True) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        assert "HTTPS_PROXY" in told("https://vendor.example/v1", capsys)


ENVIRONMENT = [
    ("ALL_PROXY", "socks://127.0.0.1:9"),
    ("HTTPS_PROXY", "http://127.0.0.1:99999"),
    ("HTTPS_PROXY", "http://[::1"),
    ("SSL_CERT_FILE", "{}/missing.pem"),
    ("SSL_CERT_FILE", "{}/empty.pem"),
    ("SSL_CERT_DIR", "{}/missing"),
    ("SSLKEYLOGFILE", "{}/missing/keys.log"),
]


@pytest.mark.parametrize(("variable", "value"), ENVIRONMENT)
def test_a_wrong_variable_is_named_and_the_machine_itself_is_reached(
    variable: str,
    value: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty.pem").touch()
    monkeypatch.setenv(variable, value.format(tmp_path))
    line = told("https://vendor.invalid/v1", capsys)
    late = variable in ("SSL_CERT_DIR", "SSLKEYLOGFILE")  # some libraries look there when a connection stands
    assert variable in line or (late and "no such host" in line)
    with serving(FakeEndpoint()) as url:
        assert run_cli(audit(url, tmp_path / "run")) == 0


def test_a_redirect_names_where_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = "https://new.vendor.example/v1/completions"
    server = Scripted(lambda number, request: http(308, b"", f"Location: {elsewhere}\r\n".encode()))
    with answering(server):
        assert f"redirects to {elsewhere}: give its final base URL" in told(server.url, capsys)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:9/v1?api-version=2024-10-21", "give --target-api-version"),
        ("http://127.0.0.1:9/v1?", "holds a query"),
        ("http://127.0.0.1:9/v1#here", "holds a fragment (#...)"),
        ("http://127.0.0.1:9/v1/chat/completions", "give the base URL before that"),
        ("http://127.0.0.1:9/v1/completions/", "give the base URL before that"),
        ("http://user:hunter2@127.0.0.1:9/v1", "holds a password"),
    ],
)
def test_a_url_that_is_no_base_url(url: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = told(url, capsys)
    assert words in line
    assert "hunter2" not in line


def test_the_option_for_azures_version_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    line = told("https://name.openai.azure.com/openai/deployments/d?api-version=2024-10-21", capsys)
    assert "--target-api-version" in line


KEYS = ["hf_AbCdEfGhIjKlMnOpQrStUvWx", "AKIAIOSFODNN7EXAMPLE", "sk-proj-0123456789abcdef", "k" * 40]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("command", ["audit", "resume", "score", "probe", "estimate", "explain"])
def test_a_key_given_in_place_of_its_variables_name_is_echoed_nowhere(
    key: str, command: str, bought: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(bought, run)
    there: list[str] = {
        "audit": [*audit("http://127.0.0.1:9/v1", tmp_path / "new"), "--target-key-env", key],
        "resume": [str(run), "--completions", "9", "--target-key-env", key],
        "score": [
            str(run), "--reference-url", "http://127.0.0.1:9/v1", "--reference-model", "other",
            "--reference-key-env", key,
        ],
        "probe": ["--target-url", "http://127.0.0.1:9/v1", "--target-model", "m", "--target-key-env", key],
        "estimate": [
            "--target-url", "http://127.0.0.1:9/v1", "--target-model", "m", "--target-key-env", key,
            "--completions", "5",
        ],
        "explain": [str(run), "--url", "http://127.0.0.1:9/v1", "--model", "m", "--key-env", key],
    }[command]  # fmt: skip
    code = run_cli(there if command == "audit" else [command, *there])
    assert code == (0 if command == "estimate" and key.isidentifier() else 2)
    shown = capfd.readouterr()
    assert "Traceback" not in shown.err
    assert key not in shown.out + shown.err
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert key.encode() not in file.read_bytes(), file
    assert run_cli(["report", str(run)]) == 0
    assert key not in capfd.readouterr().out


@pytest.fixture(scope="module")
def bought(tmp_path_factory: pytest.TempPathFactory) -> Any:
    run = tmp_path_factory.mktemp("keys") / "run"
    with serving(FakeEndpoint()) as url:
        assert run_cli(audit(url, run)) == 0
    return run


def test_a_variable_that_an_import_reads_does_not_stop_a_fresh_process(tmp_path: Path) -> None:
    environment = os.environ | {"SSLKEYLOGFILE": str(tmp_path / "missing" / "keys.log")}
    command = [sys.executable, "-m", "blackbox_diff", "probe", "--target-model", "m", "--target-url"]
    url = f"http://127.0.0.1:{free_port()}/v1"
    done = subprocess.run([*command, url], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "nothing listens on that port" in done.stderr
