"""The framing that was asked for is the framing that is sent."""

from __future__ import annotations

from pathlib import Path

from blackbox_diff.run.collect import TARGET
from blackbox_diff.runfile.store import Store
from tests.conftest import run_cli
from tests.leaky_toy import LeakyToy
from tests.toy_server import serving


def test_the_users_turn_is_asked_for_in_a_chat_also_where_raw_prompts_are_taken(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with serving(LeakyToy()) as url:
        line = [
            "audit", "--target-url", url, "--target-model", "leaky", "--reference-url", url,
            "--reference-model", "base", "--completions", "6", "--control", "2", "--max-tokens", "14",
            "--framing", "user", "--out", str(run),
        ]  # fmt: skip
        assert run_cli(line) == 0
    with Store.open(run, read_only=True) as store:
        asked = [
            (sample, call)
            for sample, _, number in store.decided(TARGET)
            if number is not None and (call := store.call(number)) is not None
        ]
        assert len(asked) == 6
        for sample, stored in asked:
            assert stored.call.body["messages"][-1] == {"role": "user", "content": sample.prefill}
    assert run_cli(["verify", str(run)]) == 0
