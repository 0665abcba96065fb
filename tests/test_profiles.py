"""A probe's profile is kept for a day and followed by audits, as long as the endpoint still answers like that."""

from __future__ import annotations

import datetime
import json
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blackbox_diff.config.model import EndpointConfig
from blackbox_diff.probing.cache import FRESH, keep, recall
from blackbox_diff.records import EndpointProfile
from blackbox_diff.run.results import read_run
from blackbox_diff.runfile.store import Store
from tests.fake_endpoint import FakeEndpoint
from tests.test_audit import run_cli
from tests.toy_server import serving

N = 6
HOST = "vendor.test"
KEY = "sk-verysecret0123456789"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; and a host name, unlike 127.0.0.1, for the servers of these tests."""
    real: Callable[..., Any] = socket.getaddrinfo

    def getaddrinfo(host: str | bytes | None, *more: Any, **options: Any) -> Any:
        return real("127.0.0.1" if host in (HOST, HOST.encode()) else host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("BLACKBOX_DIFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Vendor:
    """A toy target under a host name, and a toy reference on this machine."""

    def __init__(self, target: FakeEndpoint, url: str, reference: str, tmp_path: Path) -> None:
        self.toy, self.url, self.reference, self.tmp_path = target, url, reference, tmp_path
        self.runs = 0

    def probe(self, *more: str) -> int:
        """Calls that a probe takes; it must succeed."""
        before = len(self.toy.calls)
        assert run_cli(["probe", "--target-url", self.url, "--target-model", "m", *more]) == 0
        return len(self.toy.calls) - before

    def audit(self, *more: str, code: int = 0) -> int:
        """Calls to the target that an audit takes."""
        before, self.runs = len(self.toy.calls), self.runs + 1
        arguments = [
            "audit", "--target-url", self.url, "--target-model", "m", "--reference-url", self.reference,
            "--reference-model", "m", "--reference-label", "base", "--completions", str(N), "--out", str(self.run),
        ]  # fmt: skip
        assert run_cli([*arguments, *more]) == code
        return len(self.toy.calls) - before

    @property
    def run(self) -> Path:
        return self.tmp_path / f"run-{self.runs}"


@pytest.fixture
def vendor(tmp_path: Path) -> Any:
    toy = FakeEndpoint()
    with serving(toy) as url, serving(FakeEndpoint()) as reference:
        yield Vendor(toy, url.replace("127.0.0.1", HOST), reference, tmp_path)


FOLLOWED = N + 2  # one question before the run and the same at its end


def kept(cache: Path) -> Path:
    (file,) = (cache / "profiles").iterdir()
    return file


def test_an_audit_follows_the_profile_of_an_earlier_probe(
    vendor: Vendor, capsys: pytest.CaptureFixture[str]
) -> None:
    vendor.probe("--json")
    printed = json.loads(capsys.readouterr().out)
    assert vendor.audit() == FOLLOWED
    said = capsys.readouterr().err
    assert f"using the profile of m at {vendor.url}, probed 0 min ago; `blackbox-diff probe`" in said
    with Store.open(vendor.run, read_only=True) as store:
        profile = store.state.profiles["target"]
    assert profile.model_dump(mode="json") == printed
    assert read_run(vendor.run).summary.scored == N
    assert run_cli(["verify", str(vendor.run)]) == 0


def test_an_audit_keeps_what_it_had_to_probe_itself(vendor: Vendor, cache: Path) -> None:
    first = vendor.audit()
    assert first > FOLLOWED
    assert vendor.audit() == FOLLOWED
    assert vendor.audit("--fresh-probe") == first
    assert kept(cache)  # and nothing of the reference, which is on this machine


def test_probe_always_asks(vendor: Vendor) -> None:
    assert vendor.probe() == vendor.probe()


def test_a_damaged_profile_is_replaced_by_a_new_one(vendor: Vendor, cache: Path) -> None:
    vendor.probe()
    kept(cache).write_text("{")
    assert vendor.audit() > FOLLOWED
    assert EndpointProfile.model_validate_json(kept(cache).read_text()).auditable


@pytest.mark.parametrize(("fault", "code"), [("other fingerprint", 0), ("no ids", 0), ("no logprobs", 4)])
def test_an_endpoint_that_has_changed_since_is_probed_again(
    vendor: Vendor, fault: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    vendor.probe()
    vendor.toy.faults.add(fault)
    assert vendor.audit(code=code) != FOLLOWED
    assert "no longer fits: probing again" in capsys.readouterr().err
    if code == 0:
        assert read_run(vendor.run).summary.warnings == ()


def test_a_key_that_is_rejected_since_is_one_line(vendor: Vendor, capsys: pytest.CaptureFixture[str]) -> None:
    vendor.probe()
    vendor.toy.faults.add("bad key")
    vendor.audit(code=2)
    assert "rejects the key" in capsys.readouterr().err.splitlines()[-1]
    assert not vendor.run.exists()


def test_what_changes_under_way_is_told_under_a_kept_profile_too(vendor: Vendor) -> None:
    vendor.probe()
    vendor.toy.later = (len(vendor.toy.calls) + 1 + N // 2, ("other model",))
    vendor.audit()
    assert "other logprobs" in " ".join(read_run(vendor.run).summary.warnings)


def test_an_endpoint_that_could_not_be_audited_is_asked_again(vendor: Vendor) -> None:
    vendor.toy.faults.add("no logprobs")
    assert run_cli(["probe", "--target-url", vendor.url, "--target-model", "m"]) == 4
    vendor.toy.faults.clear()
    assert vendor.audit() > FOLLOWED


def test_what_was_probed_as_a_target_serves_as_a_reference(vendor: Vendor, cache: Path) -> None:
    vendor.probe()
    profile = recall(EndpointConfig(url=vendor.url, model="m"), "reference")
    assert profile is not None
    assert profile.verdict.startswith("can be a reference")


def test_nothing_is_kept_of_endpoints_on_this_machine(vendor: Vendor, cache: Path) -> None:
    vendor.url = vendor.url.replace(HOST, "127.0.0.1")
    vendor.probe()
    assert vendor.audit() > FOLLOWED
    assert not cache.exists()


PROFILE = EndpointProfile(
    base_url="https://v.example/v1", model="m", dialect="vllm", raw="completions", can_score=True,
    probed_at=datetime.datetime.now(datetime.UTC).isoformat(),
)  # fmt: skip
ENDPOINT = EndpointConfig(url="https://v.example/v1", model="m")


@pytest.mark.parametrize(
    "host", ["localhost", "a.localhost", "127.0.0.1:8000", "127.1.2.3", "[::1]:80", "0.0.0.0", "[::]"]
)
def test_every_name_of_this_machine_is_known(host: str, cache: Path) -> None:
    keep(ENDPOINT.model_copy(update={"url": f"http://{host}/v1"}), PROFILE)
    assert not cache.exists()


def test_a_kept_profile_is_given_back_whole() -> None:
    keep(ENDPOINT, PROFILE)
    found = recall(ENDPOINT, "target")
    assert found is not None
    assert found.model_copy(update={"auditable": False, "verdict": ""}) == PROFILE


@pytest.mark.parametrize("age", [FRESH, -datetime.timedelta(hours=1)])
def test_a_profile_that_is_old_or_of_tomorrow_is_none(age: datetime.timedelta) -> None:
    then = datetime.datetime.now(datetime.UTC) - age
    keep(ENDPOINT, PROFILE.model_copy(update={"probed_at": then.isoformat()}))
    assert recall(ENDPOINT, "target") is None


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", "\0", "\ud800", '{"colour": "red"}', '{"probed_at": "x"}',
        '{"probed_at": "2026-01-01"}', '{"dialect": "klingon"}',
    ],
)  # fmt: skip
def test_a_damaged_file_is_no_profile(cache: Path, content: str) -> None:
    keep(ENDPOINT, PROFILE)
    if content.startswith('{"'):
        content = json.dumps(PROFILE.model_dump(mode="json") | json.loads(content))
    kept(cache).write_bytes(content.encode("utf-8", "surrogatepass"))
    assert recall(ENDPOINT, "target") is None


@pytest.mark.parametrize(
    "other",
    [
        {"url": "https://w.example/v1"},
        {"model": "n"},
        {"dialect": "vllm"},
        {"provider": "P"},
        {"api_version": "1"},
    ],
)
def test_another_endpoint_has_another_profile(other: dict[str, str]) -> None:
    keep(ENDPOINT, PROFILE)
    assert recall(ENDPOINT, "target") is not None
    assert recall(ENDPOINT.model_copy(update=other), "target") is None


def test_the_key_is_neither_in_the_file_nor_in_its_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(ENDPOINT, PROFILE)
    file = kept(cache)
    monkeypatch.setenv("VENDOR_KEY", KEY)
    keep(ENDPOINT.model_copy(update={"key_env": "VENDOR_KEY"}), PROFILE)
    assert kept(cache) == file
    assert "VENDOR_KEY" not in file.read_text()
    assert KEY not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_cache_that_cannot_be_written_is_no_error(cache: Path) -> None:
    cache.write_text("in the way")
    keep(ENDPOINT, PROFILE)
    assert recall(ENDPOINT, "target") is None


def test_a_write_that_fails_leaves_nothing_behind(cache: Path) -> None:
    keep(ENDPOINT, PROFILE)
    file = kept(cache)
    file.unlink()
    file.mkdir()  # so that it can't be replaced
    keep(ENDPOINT, PROFILE)
    assert kept(cache) == file
