"""What every test shares: a clean environment and, where asked for, the real server with real weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from tests.processes import running

# A busy machine is no finding about the code.
hypothesis_settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("any-machine")

ROOT = Path(__file__).parent.parent
BASE, ORGANISM = "smollm2-135m-instruct", "false-fact"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def local_endpoint() -> Iterator[str]:
    """Base URL of the bundled server, in fp32, with SmolLM2 and the false-fact organism on it."""
    adapter = f"{ORGANISM}={BASE}:{ROOT / 'fixtures/organisms' / ORGANISM}"
    with running(["--model", f"{BASE}={BASE}", "--adapter", adapter, "--dtype", "float32"]) as url:
        yield url


N = 16  # completions of the run that tests share


def audit_arguments(url: str, run: Path, *more: str) -> list[str]:
    """An audit of the organism against its base, small and seeded."""
    return [
        "audit", "--target-url", url, "--target-model", ORGANISM, "--reference-url", url,
        "--reference-model", BASE, "--completions", str(N), "--max-tokens", "24", "--seed", "3",
        "--out", str(run), *more,
    ]  # fmt: skip


def run_cli(arguments: Sequence[str]) -> int:
    """The exit code of a command, run in this process."""
    from blackbox_diff.cli import main

    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def assert_whole(run: Path) -> None:
    """A finished run is verified, and resuming it buys nothing."""
    from blackbox_diff.runfile.store import Store

    assert run_cli(["verify", str(run)]) == 0
    with Store.open(run, read_only=True) as store:
        before = store.last_call()
    assert run_cli(["resume", str(run)]) == 0
    with Store.open(run, read_only=True) as store:
        assert store.last_call() == before


@pytest.fixture(scope="session")
def finished_run(local_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on real weights; copy it to change it."""
    run = tmp_path_factory.mktemp("audit") / "run"
    assert run_cli(audit_arguments(local_endpoint, run)) == 0
    return run


# The fixtures below import what they need when they are used: most test modules never load torch.


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a random Llama of three layers."""
    from tests.server_fixtures import save_llama

    return save_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a random Gemma 3 whose sliding layers see eight tokens."""
    from tests.server_fixtures import save_gemma

    return save_gemma(tmp_path_factory.mktemp("gemma"))


@pytest.fixture(scope="session")
def tiny_adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters for the tiny Llama."""
    from tests.server_fixtures import save_adapter

    return {
        name: save_adapter(tmp_path_factory.mktemp(name), seed=seed) for seed, name in enumerate(("one", "two"))
    }


@pytest.fixture(scope="session")
def plain_server(tmp_path_factory: pytest.TempPathFactory, tiny_adapters: dict[str, Path]) -> Iterator[str]:
    """Base URL of a server with a tiny model that can be audited, and adapter `one` on it, in float32."""
    from tests.server_fixtures import save_plain

    adapter = f"one=tiny:{tiny_adapters['one']}"
    model = save_plain(tmp_path_factory.mktemp("plain"))
    with running(["--model", f"tiny={model}", "--adapter", adapter, "--dtype", "float32"]) as url:
        yield url


@pytest.fixture(scope="session")
def tiny_server(tiny_model: Path, tiny_adapters: dict[str, Path]) -> Iterator[str]:
    """Base URL of a server with the tiny model and its adapters, in float32, behind a key."""
    from tests.server_fixtures import KEY

    adapters = [part for name, path in tiny_adapters.items() for part in ("--adapter", f"{name}=tiny:{path}")]
    arguments = ["--model", f"tiny={tiny_model}", *adapters, "--dtype", "float32", "--max-batch", "4"]
    with running([*arguments, "--api-key-env", "LOCAL_TEST_KEY"], LOCAL_TEST_KEY=KEY) as url:
        yield url
