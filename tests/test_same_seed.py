"""One seed, one audit: however many calls are in flight, and however often the audit is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from blackbox_diff.records import Completion, Tokens
from blackbox_diff.run.results import read_run
from blackbox_diff.runfile.store import Store
from tests.conftest import BASE, ORGANISM, ROOT, run_cli
from tests.processes import running
from tests.test_kill import ended, exists, launch, replies

IN_FLIGHT = (1, 3, 32)
KILLS = 5


@dataclass(frozen=True)
class Found:
    """An audit's completions, of target and control, with every bit of their numbers, and its ranking."""

    completions: dict[tuple[str, str], tuple[object, ...]]
    ranking: list[str]  # `repr` of a float is exact
    promoted: str


def found(run: Path) -> Found:
    completions: dict[tuple[str, str], tuple[object, ...]] = {}
    with Store.open(run, read_only=True) as store:
        for origin in ("target", store.references()[0]):
            for sample, completion, _ in store.decided(origin):
                assert isinstance(completion, Completion)
                scores = store.scores(sample.id, origin).items()
                numbers = tuple((name, bits(getattr(score, "tokens", None))) for name, score in scores)
                completions[origin, sample.id] = (completion.text, bits(completion.tokens), *numbers)
    analysis = read_run(run).analysis
    return Found(completions, [repr(row) for row in analysis.ranking], repr(analysis.promoted))


def bits(tokens: object) -> object:
    return (tokens.ends.tobytes(), tokens.logprobs.tobytes()) if isinstance(tokens, Tokens) else tokens


def audit(
    url: str,
    run: Path,
    model: str,
    base: str,
    temperature: float,
    in_flight: int,
    completions: int,
    tokens: int = 16,
) -> list[str]:
    return [
        "audit", "--target-url", url, "--target-model", model, "--reference-url", url, "--reference-model", base,
        "--seed", "3", "--completions", str(completions), "--max-tokens", str(tokens), "--out", str(run),
        "--temperature", str(temperature), "--concurrency", str(in_flight),
    ]  # fmt: skip


@pytest.mark.parametrize(("model", "temperature"), [("tiny", 0.0), ("one", 1.0)])
def test_calls_in_flight_change_no_bit_of_an_audit(
    plain_server: str, tmp_path: Path, model: str, temperature: float
) -> None:
    runs = [tmp_path / str(number) for number in IN_FLIGHT]
    for number, run in zip(IN_FLIGHT, runs, strict=True):
        assert run_cli(audit(plain_server, run, model, "tiny", temperature, number, 4)) == 0
    first, *others = map(found, runs)
    assert len(first.completions) >= 8
    assert others == [first] * len(others)


@pytest.fixture(scope="module")
def real_server() -> Iterator[str]:
    """SmolLM2 and an organism on it, in the precision that is the default."""
    adapter = f"{ORGANISM}={BASE}:{ROOT / 'fixtures/organisms' / ORGANISM}"
    with running(["--model", f"{BASE}={BASE}", "--adapter", adapter]) as url:
        yield url


@pytest.mark.slow
@pytest.mark.parametrize("adapted", [False, True], ids=["base", "adapter"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nor_of_forty_completions_killed_five_times(
    plain_server: str, tmp_path: Path, temperature: float, adapted: bool
) -> None:
    whole_matrix(plain_server, tmp_path, "one" if adapted else "tiny", "tiny", temperature, 16)


@pytest.mark.slow
@pytest.mark.parametrize("adapted", [False, True], ids=["base", "adapter"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nor_of_a_real_model(real_server: str, tmp_path: Path, temperature: float, adapted: bool) -> None:
    whole_matrix(real_server, tmp_path, ORGANISM if adapted else BASE, BASE, temperature, 4)


def whole_matrix(url: str, directory: Path, model: str, base: str, temperature: float, tokens: int) -> None:
    """Forty completions at each number of calls in flight, the last twice, and once more with five SIGKILLs."""
    expected: Found | None = None
    for index, number in enumerate((*IN_FLIGHT, IN_FLIGHT[-1])):
        run = directory / str(index)
        assert run_cli(audit(url, run, model, base, temperature, number, 40, tokens)) == 0
        expected = expected or found(run)
        assert sum(origin == "target" for origin, _ in expected.completions) == 40
        assert found(run) == expected
    run = directory / "killed"
    for _ in range(KILLS):
        kill_after(20, audit(url, run, model, base, temperature, 3, 40, tokens), run)
    assert run_cli(["resume", str(run)]) == 0
    assert found(run) == expected


def kill_after(more: int, start: list[str], run: Path) -> None:
    """Start or resume the audit, and end it with SIGKILL once it holds so many more replies."""
    resuming = exists(run)
    before = len(replies(run)) if resuming else 0
    process = launch(*(["resume", str(run)] if resuming else start))
    while process.poll() is None and len(replies(run)) < before + more:
        time.sleep(0.05)
    assert process.poll() is None, "the audit ended before it was killed"
    process.kill()
    ended(process)
