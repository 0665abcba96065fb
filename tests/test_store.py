"""The run file: what is acknowledged is on disk, one writer at a time, and nothing else is taken for a run."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blackbox_diff.config.model import AuditConfig, EndpointConfig
from blackbox_diff.errors import RunFileError, StorageError
from blackbox_diff.findings import Question, Round
from blackbox_diff.records import (
    Alternatives,
    Arm,
    Call,
    Completion,
    EndpointProfile,
    Lost,
    RawReply,
    ReferenceScore,
    Refusal,
    Sample,
    SideToken,
    Tokens,
)
from blackbox_diff.runfile import chain
from blackbox_diff.runfile.schema import FORMAT
from blackbox_diff.runfile.state import State
from blackbox_diff.runfile.store import Store

SAMPLE = Sample("prose.raw.00007", Arm("prose", "raw"), "Once \ud800 upon", 5)
COMPLETION = Completion(
    "a\x00é\ud83d", Tokens.of([1, 2, 7], [-1.0, None, -0.0]), ids=(1, 2, 3),
    side=(SideToken("</s>", None, "end"),), notes=("x",),
)  # fmt: skip
CONFIG = AuditConfig(target=EndpointConfig(url="http://127.0.0.1:9/v1", model="m"))
CALL = Call("/completions", {"prompt": "hi"})
REPLY = RawReply(200, {"retry-after": "1"}, b"{}" * 100, 0.5)


def run(*command: str) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode


async def fill(store: Store, body: RawReply, bought: list[int]) -> None:
    for index in range(100):
        call_id = await store.reserve_call("target", f"a.raw.{index:05d}", 1, CALL, (1, 1, None))
        await store.settle_call(call_id, body, (1, 1, None), accepted=True)
        bought.append(call_id)


async def buy(store: Store, sample_id: str = SAMPLE.id) -> int:
    call_id = await store.reserve_call("target", sample_id, 1, CALL, (5, 6, 7))
    await store.settle_call(call_id, REPLY, (1, 2, 3), accepted=True)
    return call_id


async def test_a_completion_comes_back_as_it_was(tmp_path: Path) -> None:
    with Store.create(tmp_path, {}) as store:
        await store.put_completion(SAMPLE, "target", COMPLETION, await buy(store))
        await store.put_score(SAMPLE.id, "target", "ref", ReferenceScore(COMPLETION.tokens, "raw", ("n",)), None)
    with Store.open(tmp_path, read_only=True) as store:
        (row,) = store.scored()
        assert (row.sample, row.completion) == (SAMPLE, COMPLETION)
        assert row.scores == {"ref": ReferenceScore(COMPLETION.tokens, "raw", ("n",))}


async def test_a_reference_that_scored_by_calls_comes_before_one_whose_rows_were_copied(tmp_path: Path) -> None:
    score = ReferenceScore(COMPLETION.tokens, "raw", ("n",))
    with Store.create(tmp_path, {}) as store:
        await store.put_completion(SAMPLE, "target", COMPLETION, await buy(store))
        await store.put_score(SAMPLE.id, "target", "copied", score, None)
        await store.put_score(SAMPLE.id, "target", "second", score, await buy(store))
        await store.put_score(SAMPLE.id, "target", "later", score, await buy(store))
        assert store.references() == ["second", "later", "copied"]


async def test_a_reply_is_stored_with_its_settlement(tmp_path: Path) -> None:
    with Store.create(tmp_path, {}) as store:
        stored = store.call(await buy(store))
        assert stored is not None
        assert stored.reply == RawReply(200, {"retry-after": "1"}, REPLY.body, 0.5)
        assert (stored.state, stored.settled) == ("settled", (1, 2, 3))


async def test_calls_that_cost_less_than_reserved_do_not_lower_later_reservations(tmp_path: Path) -> None:
    with Store.create(tmp_path, {}) as store:
        await buy(store)  # reserved 5 input tokens, billed 1
        assert store.spent("target").excess_input == 0


async def test_what_is_decided_stays_but_what_failed_can_still_be_bought(tmp_path: Path) -> None:
    with Store.create(tmp_path, {}) as store:
        await store.put_completion(SAMPLE, "target", Lost("timeout", "no answer"), None)
        assert store.outcome(SAMPLE.id, "target") is None
        await store.put_completion(SAMPLE, "target", COMPLETION, None)
        await store.put_completion(SAMPLE, "target", Refusal("late", "no"), None)
        assert store.outcome(SAMPLE.id, "target") == COMPLETION


async def test_calls_in_flight_at_a_crash_are_settled_at_their_reservation(tmp_path: Path) -> None:
    code = f"""
import asyncio, os
from blackbox_diff.records import Call
from blackbox_diff.runfile.store import Store
store = Store.create({str(tmp_path)!r}, {{}})
asyncio.run(store.reserve_call("target", "a.raw.00000", 1, Call("/c", {{}}), (5, 6, 7)))
os.kill(os.getpid(), 9)
"""
    assert await asyncio.to_thread(run, sys.executable, "-c", code) == -9
    with Store.open(tmp_path) as store:
        (call,) = store.calls()
        assert (call.state, call.settled) == ("unknown", (5, 6, 7))
        assert store.spent("target").pico == 7


async def test_rows_come_in_the_order_of_the_plan_whatever_the_order_of_arrival(tmp_path: Path) -> None:
    names = ["b.raw.00000", "a.raw.00001", "a.chat.00000", "a.raw.00000"]
    with Store.create(tmp_path, {}) as store:
        for name in names:
            await store.put_completion(Sample(name, SAMPLE.arm, "p", 0), "target", COMPLETION, None)
        found = [sample.id for sample, _, _ in store.decided()]
    assert found == ["a.chat.00000", "a.raw.00000", "b.raw.00000", "a.raw.00001"]


def test_a_second_process_is_refused_with_the_holders_id(tmp_path: Path) -> None:
    with (
        Store.create(tmp_path, {}),
        pytest.raises(RunFileError, match=f"in use by another process .id {os.getpid()}"),
    ):
        Store.open(tmp_path)
    Store.open(tmp_path).close()


def test_a_run_in_progress_can_be_read(tmp_path: Path) -> None:
    with Store.create(tmp_path, {"created": "today"}), Store.open(tmp_path, read_only=True) as reader:
        assert reader.manifest.created == "today"
        with pytest.raises(RunFileError, match="reading only"):
            reader.set_state(State(seconds=1.0))


def test_state_survives(tmp_path: Path) -> None:
    state = State(
        config=CONFIG,
        references=(CONFIG.target,),
        profiles={"target": EndpointProfile(base_url="http://a/v1", model="m", dialect="generic")},
        rounds=(Round({"prose/raw": 2}, 2, "undecided", None, ("tide \ud800",)),),
        validation=(Question("tide", ("tides",), (SAMPLE,)),),
        drift={"moved": 2},
        stopped_because="interrupted",
        seconds=1.5,
    )
    with Store.create(tmp_path, {}) as store:
        assert store.state == State()
        store.set_state(state)
        store.set_state(replace(store.state, seconds=2.5))
    with Store.open(tmp_path) as store:
        assert store.state == replace(state, seconds=2.5)


def test_a_newer_format_is_refused_with_advice(tmp_path: Path) -> None:
    Store.create(tmp_path, {}).close()
    database = sqlite3.connect(tmp_path / "run.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(RunFileError, match=r"format 99.*upgrade"):
        Store.open(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"not a database at all" * 100])
def test_what_is_not_a_run_is_named_as_such(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "run.sqlite").write_bytes(content)
    with pytest.raises(RunFileError, match="not a run"):
        Store.open(tmp_path)


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    Store.create(tmp_path, {"created": "first"}).close()
    with pytest.raises(RunFileError, match="holds a run already"):
        Store.create(tmp_path, {})
    with Store.open(tmp_path) as store:
        assert store.manifest.created == "first"


async def test_a_full_disk_is_one_clear_line_and_the_run_goes_on_once_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if await asyncio.to_thread(run, "mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)):
        pytest.skip("mounting a small tmpfs needs root")
    try:
        (disk / "ballast").write_bytes(b"\0" * 200_000)
        bought: list[int] = []
        body = RawReply(200, {}, os.urandom(20_000), 0.1)
        with Store.create(disk / "run", {}) as store:
            with pytest.raises(StorageError, match=r"disk is full.*`resume`") as caught:
                await fill(store, body, bought)
            assert "\n" not in str(caught.value)
        (disk / "ballast").unlink()
        with Store.open(disk / "run") as store:
            assert {call.id for call in store.calls() if call.accepted} == set(bought)
            assert store._connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            assert await buy(store, "a.raw.00999") not in bought
    finally:
        assert await asyncio.to_thread(run, "umount", str(disk)) == 0


LISTS = Alternatives(
    np.asarray([0, 3]), np.asarray([0, 2, 3]), np.asarray([1, 0, 1], dtype=np.int32),
    np.asarray([-0.5, -1.25, -0.1], dtype=np.float32), np.asarray([-2.0, -3.0], dtype=np.float32),
    (b" a", b"\xff"),
)  # fmt: skip


async def test_alternatives_come_back_and_every_token_is_stored_once(tmp_path: Path) -> None:
    listed = replace(COMPLETION, alternatives=LISTS)
    score = ReferenceScore(COMPLETION.tokens, "raw", (), replace(LISTS, vocabulary=(b"\xff", b" b")))
    other = replace(SAMPLE, id="prose.raw.00008")
    with Store.create(tmp_path, {}) as store:
        for sample in (SAMPLE, other):
            await store.put_completion(sample, "target", listed, await buy(store, sample.id))
            await store.put_score(sample.id, "target", "ref", score, None)
    with Store.open(tmp_path, read_only=True) as store:
        assert store.outcome(SAMPLE.id, "target") == COMPLETION  # the lists are read apart
        assert store.alternatives(SAMPLE.id, "target") == LISTS
        assert [row.sample.id for row in store.listed("target", "ref")] == [SAMPLE.id, other.id]
        (first, _) = store.listed("target", "ref")
        assert (first.target, first.reference) == (LISTS, score.alternatives)
        assert first.target.vocabulary is first.reference.vocabulary
        assert store.keeps_all_lists()
    tokens = sqlite3.connect(tmp_path / "run.sqlite").execute("SELECT bytes FROM tokens").fetchall()
    assert sorted(tokens) == [(b" a",), (b" b",), (b"\xff",)]


async def test_a_run_of_the_first_format_is_read_and_can_go_on(tmp_path: Path) -> None:
    with Store.create(tmp_path, {}) as store:
        await store.put_completion(SAMPLE, "target", COMPLETION, await buy(store))
    database = sqlite3.connect(tmp_path / "run.sqlite")
    for statement in (
        *(f"DROP TABLE {name}" for name in ("alternatives", "tokens", "chain")), "PRAGMA user_version = 1",
    ):  # fmt: skip
        database.execute(statement)
    database.close()
    with Store.open(tmp_path, read_only=True) as store:
        assert store.outcome(SAMPLE.id, "target") == COMPLETION
        assert store.alternatives(SAMPLE.id, "target") is None
        assert list(store.listed("target", "ref")) == []
    with Store.open(tmp_path) as store:
        assert not store.keeps_all_lists()
        await store.put_lists(SAMPLE.id, "target", None, LISTS)
        store.set_state(replace(store.state, begun_in_format=None))
        assert store.alternatives(SAMPLE.id, "target") == LISTS
        assert store.keeps_all_lists()


async def test_a_run_of_the_format_before_is_read_and_can_go_on(tmp_path: Path) -> None:
    """It has lists and no chain, which begins when the run goes on and tells the format of the rows before it."""
    listed, other = replace(COMPLETION, alternatives=LISTS), replace(SAMPLE, id="prose.raw.00008")
    with Store.create(tmp_path, {}) as store:
        await store.put_completion(SAMPLE, "target", listed, await buy(store))
    database = sqlite3.connect(tmp_path / "run.sqlite")
    database.execute("DROP TABLE chain")
    database.execute("DELETE FROM meta WHERE key = ?", (chain.HEAD,))
    database.execute("PRAGMA user_version = 2")
    database.commit()
    database.close()
    with Store.open(tmp_path, read_only=True) as store:
        assert store.outcome(SAMPLE.id, "target") == COMPLETION
        assert store.alternatives(SAMPLE.id, "target") == LISTS
    with Store.open(tmp_path) as store:
        await store.put_completion(other, "target", listed, await buy(store, other.id))
    with Store.open(tmp_path, read_only=True) as store:
        assert [store.alternatives(name, "target") for name in (SAMPLE.id, other.id)] == [LISTS, LISTS]
    with closing(sqlite3.connect(tmp_path / "run.sqlite")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (FORMAT,)
        assert chain.begun_in(database) == 2


async def test_lists_whose_numbers_are_no_tokens_are_damage(tmp_path: Path) -> None:
    with Store.create(tmp_path, {}) as store:
        await store.put_completion(SAMPLE, "target", replace(COMPLETION, alternatives=LISTS), await buy(store))
    database = sqlite3.connect(tmp_path / "run.sqlite", isolation_level=None)
    database.execute("DELETE FROM tokens WHERE number = 1")
    database.close()
    with pytest.raises(RunFileError, match="damaged"), Store.open(tmp_path, read_only=True) as store:
        store.alternatives(SAMPLE.id, "target")
