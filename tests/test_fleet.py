"""A fleet over real sockets: one budget, one index, and a failure that stays in its row."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_diff.errors import ConfigError
from blackbox_diff.fleet.engines import DaskEngine
from blackbox_diff.fleet.index import lines, read_index, render, write_index
from blackbox_diff.fleet.job import Job
from blackbox_diff.fleet.plan import read_fleet
from blackbox_diff.fleet.purse import Purse
from blackbox_diff.fleet.rows import Index, Judgement, Row
from blackbox_diff.run.collect import TARGET
from blackbox_diff.run.results import read_run
from blackbox_diff.runfile.store import Store
from tests.conftest import run_cli
from tests.leaky_toy import LeakyToy
from tests.toy_server import Traffic, serving

PLAN = """
[fleet]
max_cost = {cap}
parallel = 2

[defaults]
completions = 24
max_tokens = 12
control = 8

[defaults.budget]
price_in = 1.0
price_out = 1000.0

[[targets]]
url = "{url}"
model = "leaky"

[[targets]]
url = "{url}"
model = "base"

[[targets]]
url = "http://127.0.0.1:9/v1"
model = "nobody"

[[references]]
url = "{url}"
model = "base"
"""


@pytest.fixture(scope="module")
def toy() -> Iterator[str]:
    with serving(LeakyToy()) as url:
        yield url


def plan_file(directory: Path, url: str, cap: float = 5.0) -> Path:
    file = directory / "fleet.toml"
    file.write_text(PLAN.format(url=url, cap=cap), encoding="utf-8")
    return file


def spent(out: Path) -> dict[str, float]:
    found = {}
    for run in (out / "runs").iterdir():
        with Store.open(run, read_only=True) as store:
            found[run.name] = store.spent(TARGET).usd or 0.0
    return found


@pytest.fixture(scope="module")
def finished(toy: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fleet")
    assert run_cli(["fleet", str(plan_file(directory, toy)), "--out", str(directory / "out")]) == 0
    return directory


def test_one_row_each_and_a_failure_stays_in_its_row(finished: Path) -> None:
    rows = {row.name: row for row in read_index(finished / "out").rows}
    assert {name: row.status for name, row in rows.items()} == {
        "leaky": "done", "base": "done", "nobody": "failed",
    }  # fmt: skip
    assert "can't connect" in (rows["nobody"].error or "")
    assert rows["leaky"].completions == rows["base"].completions == 24
    assert (finished / "out" / str(rows["leaky"].report)).is_file()
    assert not (finished / "out" / "runs" / "nobody").exists()


def test_the_control_is_bought_once(finished: Path) -> None:
    calls = []
    for name in ("leaky", "base"):
        with Store.open(finished / "out" / "runs" / name, read_only=True) as store:
            assert len(list(store.decided("base"))) == 8
            calls.append(len(_own(store)))
    assert sorted(calls) == [0, 8]


def _own(store: Store) -> list[Any]:
    """The reference's calls that wrote a completion of its own."""
    wrote = {number for _, _, number in store.decided("base")}
    return [call for call in store.calls("reference:base") if call.id in wrote]


def test_a_second_time_buys_nothing(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = spent(finished / "out")
    assert run_cli(["fleet", str(finished / "fleet.toml"), "--out", str(finished / "out"), "--json"]) == 0
    assert spent(finished / "out") == before
    printed = json.loads(capsys.readouterr().out)
    assert [row["status"] for row in printed["rows"]] == ["done", "done", "failed"]


def test_a_failure_is_told_to_whoever_asks(finished: Path) -> None:
    line = ["fleet", str(finished / "fleet.toml"), "--out", str(finished / "out"), "--fail-on"]
    assert [run_cli([*line, said]) for said in ("changed", "failed")] == [0, 5]


def test_an_index_that_is_being_written_can_be_read(tmp_path: Path) -> None:
    """A driver may be killed at any moment, and the next one reads what it left."""
    row = Row(name="a" * 2000, target="a", url="u", run="r", status="failed")
    index = Index(created="now", max_cost_usd=None, spent_usd=None, rows=[row] * 100)
    write_index(index, tmp_path)
    with ThreadPoolExecutor(1) as writer:
        written = writer.submit(lambda: [write_index(index, tmp_path) for _ in range(12)])
        reads = 0
        while not written.done():
            assert len(read_index(tmp_path).rows) == 100
            reads += 1
        written.result()
    assert reads
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fleet.json", "fleet.parquet", "index.html"]


@pytest.mark.slow
async def test_two_fleets_on_one_scheduler_keep_their_audits_apart(tmp_path: Path) -> None:
    """Both have an audit of one name, which nobody answers, at the same moment."""
    config = {"target": {"url": "http://127.0.0.1:9/v1", "model": "nobody"}}
    jobs = [Job(name="acme", run=str(tmp_path / fleet / "acme"), config=config) for fleet in ("may", "june")]
    distributed = pytest.importorskip("distributed", reason="the optional extra 'dask' is not installed")
    async with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, asynchronous=True, dashboard_address=None
        ) as cluster,
        DaskEngine(cluster.scheduler_address, 1) as may,
        DaskEngine(cluster.scheduler_address, 1) as june,
    ):
        rows = await asyncio.gather(may.run(jobs[0]), june.run(jobs[1]))
    assert [row.run for row in rows] == [job.run for job in jobs]


def test_the_cap_holds_over_all_and_is_resumable(toy: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    full = 0.35
    assert run_cli(["fleet", str(plan_file(tmp_path, toy, cap=full)), "--out", str(out)]) == 3
    assert 0 < sum(spent(out).values()) <= full
    assert run_cli(["fleet", str(plan_file(tmp_path, toy, cap=5.0)), "--out", str(out)]) == 0
    assert sum(spent(out).values()) <= 5.0
    assert {row.status for row in read_index(out).rows} == {"done", "failed"}


def test_only_a_model_that_changed_is_audited_anew(toy: str, finished: Path, tmp_path: Path) -> None:
    """Since the earlier fleet "leaky" has moved to a server whose probabilities are others; "new" is new."""
    other = LeakyToy()
    other.faults.add("other model")
    with serving(other) as elsewhere:
        plan = plan_file(tmp_path, toy)
        moved = plan.read_text().replace(toy, elsewhere, 1)
        new = f'[[targets]]\nurl = "{toy}"\nmodel = "base"\nlabel = "new"\n[[references]]'
        plan.write_text(moved.replace("[[references]]", new))
        _fleet_since(plan, finished, tmp_path)


def _fleet_since(plan: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_cli(["fleet", str(plan), "--out", str(out), "--since", str(finished / "out")]) == 0
    rows = {row.name: row for row in read_index(out).rows}
    assert {name: row.status for name, row in rows.items()} == {
        "leaky": "done", "base": "unchanged", "nobody": "failed", "new": "done",
    }  # fmt: skip
    assert (rows["leaky"].change or "").startswith("Changed")
    assert (rows["base"].change or "").startswith("none: Still the audited model")
    assert rows["new"].change is None
    assert rows["base"].calls == 40
    assert 0 < (rows["base"].cost_usd or 0) < (rows["leaky"].cost_usd or 0)
    assert rows["base"].report is not None
    assert (out / rows["base"].report).is_file()
    assert not (out / "runs" / "base").exists()
    assert [rows[name].changed for name in ("leaky", "base", "new")] == [True, False, None]
    before = read_index(out).rows
    again = ["fleet", str(plan), "--out", str(out), "--since", str(finished / "out"), "--fail-on", "changed"]
    assert run_cli(again) == 5
    assert [row for row in read_index(out).rows if row.name != "nobody"] == [
        row for row in before if row.name != "nobody"
    ]


def test_since_takes_a_fleets_directory(toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["fleet", str(plan_file(tmp_path, toy)), "--out", str(tmp_path / "out"), "--since", str(tmp_path)]
    assert run_cli(line) == 2
    assert "give a fleet's directory" in capsys.readouterr().err


def test_where_the_first_fails_the_next_buys_the_control_and_the_others_borrow(toy: str, tmp_path: Path) -> None:
    plan = plan_file(tmp_path, toy)
    nobody, rest = '[[targets]]\nurl = "http://127.0.0.1:9/v1"\nmodel = "nobody"\n', plan.read_text()
    plan.write_text(rest.replace(nobody, "").replace("[[targets]]", nobody + "[[targets]]", 1))
    assert run_cli(["fleet", str(plan), "--out", str(tmp_path / "out")]) == 0
    calls = []
    for name in ("leaky", "base"):
        with Store.open(tmp_path / "out" / "runs" / name, read_only=True) as store:
            calls.append(len(_own(store)))
    assert calls == [8, 0]


@pytest.mark.slow
def test_dask_gives_the_same_rankings_bit_for_bit(toy: str, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = ["fleet", str(plan_file(tmp_path, toy)), "--out", str(out), "--engine", "dask", "--workers", "2"]
    assert run_cli(line) == 0
    for name in ("leaky", "base"):
        here, there = (read_run(root / "runs" / name).analysis for root in (finished / "out", out))
        assert [(row.id, row.value) for row in here.ranking] == [(row.id, row.value) for row in there.ranking]


@pytest.mark.parametrize(
    "engine",
    [(), pytest.param(("--engine", "dask", "--workers", "2"), marks=pytest.mark.slow)],
    ids=["local", "dask"],
)
def test_a_host_has_no_more_calls_at_once_than_its_limit_over_all_audits(
    tmp_path: Path, engine: tuple[str, ...]
) -> None:
    """Two targets and their reference on one host, two audits at work, eight calls at the most."""
    traffic = Traffic()
    with serving(LeakyToy(), (0.02, 0.04), traffic) as url:
        host = url.split("/")[2]
        plan = tmp_path / "fleet.toml"
        text = PLAN.format(url=url, cap=5.0).replace(
            '[[targets]]\nurl = "http://127.0.0.1:9/v1"\nmodel = "nobody"', ""
        )
        plan.write_text(
            text.replace("[defaults]\n", f'[fleet.hosts]\n"{host}" = 8\n[defaults]\nconcurrency = 16\n')
        )
        assert run_cli(["fleet", str(plan), "--out", str(tmp_path / "out"), *engine]) == 0
    assert 3 <= traffic.most <= 8


WRONG = [
    ("", "targets"),
    ("[[targets]]\nurl='http://a/v1'\nmodel='m'", "references"),
    ("[[target]]\nurl='http://a/v1'\nmodel='m'", "did you mean targets"),
    ("[fleet]\nparallel = 0", "parallel"),
    ("[[targets]]\nurl='http://a/v1'\nmodel='m'\nreferences=['x']\n"
     "[[references]]\nurl='http://b/v1'\nmodel='b'", "no reference 'x'"),
    ("[defaults]\nsource=['writer:http://w/v1']\nwriter={model='w'}\n[[targets]]\nurl='http://a/v1'\nmodel='m'\n"
     "[[references]]\nurl='http://b/v1'\nmodel='b'", "audits of a fleet share their control"),
    ("[defaults]\ncompletion = 3\n[[targets]]\nurl='http://a/v1'\nmodel='m'\n"
     "[[references]]\nurl='http://b/v1'\nmodel='b'", "did you mean completions"),
    ("[fleet]\nparallel = 4\n[fleet.hosts]\n'b' = 2\n[[targets]]\nurl='http://a/v1'\nmodel='m'\n"
     "[[references]]\nurl='http://b/v1'\nmodel='b'", "2 calls to b can't be shared by 4 audits"),
    ("[fleet]\nparallel = 2\n[fleet.hosts]\n'a' = 3\n[[targets]]\nurl='http://a/v1'\nmodel='m'\n"
     "[[references]]\nurl='http://a/v1'\nmodel='b'", "2 endpoints there each"),
    ("[fleet]\ninclude=['fleet.toml']", "includes itself"),
    ("[fleet]\ninclude=['nowhere.toml']", "nowhere.toml"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_a_plan_that_cannot_be_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said) as raised:
        read_fleet(file)
    assert "\n" not in str(raised.value)


def test_included_targets_join_and_the_outer_defaults_win(tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text(
        "[defaults]\ncompletions = 7\nseed = 9\n[[targets]]\nurl='http://a/v1'\nmodel='b'\n"
        "[[references]]\nurl='http://b/v1'\nmodel='r'\n",
        encoding="utf-8",
    )
    (tmp_path / "fleet.toml").write_text(
        "[fleet]\ninclude=['more.toml']\nparallel = 2\n[fleet.hosts]\n'a' = 5\n[defaults]\ncompletions = 8\n"
        "[[targets]]\nurl='http://a/v1'\nmodel='a'\naudit = { seed = 1 }\n",
        encoding="utf-8",
    )
    plan = read_fleet(tmp_path / "fleet.toml")
    assert [(one.name, one.config.completions, one.config.seed) for one in plan.audits] == [
        ("a", 8, 1),
        ("b", 8, 9),
    ]
    assert [plan.concurrency(one) for one in plan.audits] == [2, 2]


@given(
    st.floats(0, 100),
    st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.booleans()), max_size=20),
)
def test_no_order_of_audits_passes_the_cap(cap: float, audits: list[tuple[float, bool, bool]]) -> None:
    """Each spends a part of its share, ends at once or later, and may end without a known price."""
    purse, open_ = Purse(cap), []
    for place, (part, late, unknown) in enumerate(audits):
        name = str(place)
        share = purse.take(name, len(audits) - place)
        assert share is not None
        cost = None if unknown else part * share
        if late:
            open_.append((name, cost))
        else:
            purse.settle(name, cost)
        assert sum(purse.spent.values()) + sum(purse.held.values()) <= cap + 1e-9
    for name, cost in open_:
        purse.settle(name, cost)
    assert sum(purse.spent.values()) <= cap + 1e-9


def test_what_a_model_and_what_a_finding_cost_is_told(finished: Path) -> None:
    index = read_index(finished / "out")
    paid = index.model_copy(update={"spent_usd": 3.0})
    assert "2 of 3 audits done, 0 with a finding · $3.00 of $5.00 · $1.50 a model, – a finding" in lines(paid)
    leaky, *rest = paid.rows
    told = [each.model_copy(update={"outcome": "finding"}) for each in leaky.judgements]
    found = paid.model_copy(update={"rows": [leaky.model_copy(update={"judgements": told}), *rest]})
    assert lines(found)[-1].endswith("1 with a finding · $3.00 of $5.00 · $1.50 a model, $3.00 a finding")
    assert "$1.50 a model · $3.00 a finding" in render(found)


def test_hostile_names_stay_text() -> None:
    bad = "<script>alert(1)</script>\u202e\x1b[31m"
    judged = Judgement(reference=bad, outcome="finding", headline=bad, themes=[bad], top=[])
    row = Row(name=bad, target=bad, url=bad, run="r", status="done", report="r.html", judgements=[judged, judged])
    page = render(Index(created="now", max_cost_usd=None, spent_usd=None, rows=[row]))
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
