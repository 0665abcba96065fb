"""A run as an Inspect log: Inspect's own reader gives back what the run says, and nothing in it acts."""

from __future__ import annotations

import builtins
import math
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inspect_ai.log import EvalLog, EvalSample, list_eval_logs, read_eval_log

import blackbox_diff as bd
from blackbox_diff.findings import Analysis
from blackbox_diff.records import Alternatives, Arm, Completion, ReferenceScore, Sample, ScoredCompletion, Tokens
from blackbox_diff.report import inspect_log
from blackbox_diff.run.completions import written
from blackbox_diff.run.results import Results
from blackbox_diff.sanitize import encoded
from tests.conftest import run_cli
from tests.leaky_toy import LeakyToy
from tests.report_data import HOSTILE, analysis_of, summary_of
from tests.toy_server import serving

KEY = "sk-a-key-that-no-file-may-hold"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bd.Run]:
    out = tmp_path_factory.mktemp("toy") / "run"
    with serving(LeakyToy()) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_KEY", KEY)
        target = bd.Endpoint(url, "leaky", key_env="TOY_KEY")
        yield bd.audit(target, bd.Endpoint(url, "base"), out=out, completions=40, control=12, max_tokens=14)


@pytest.fixture(scope="module")
def log(run: bd.Run) -> EvalLog:
    assert run_cli(["export", str(run.path), str(run.path / "x.eval")]) == 0
    return read_eval_log(str(run.path / "x.eval"))


def by_id(log: EvalLog) -> dict[str, EvalSample]:
    return {str(each.id): each for each in log.samples or ()}


def test_there_is_one_sample_for_every_scored_completion(run: bd.Run, log: EvalLog) -> None:
    ids = [row.id for row in run.ranking] + [copy.id for row in run.ranking for copy in row.copies]
    assert sorted(by_id(log)) == sorted(ids)
    assert len(ids) == run.summary.scored
    assert log.status == "success"


def test_a_sample_says_what_was_sent_what_came_and_what_it_scores(run: bd.Run, log: EvalLog) -> None:
    samples = by_id(log)
    for row in run.ranking:
        sample = samples[row.id]
        assert sample.output.completion == row.completion
        assert sample.messages[-1].text == row.completion
        assert sample.scores is not None
        assert sample.scores["rank"].value == row.rank
        assert sample.scores["pooled_score"].value == row.metrics["pooled_score"]
        assert sample.scores["gap"].value == row.metrics["gap_nats_per_token"]
        assert sample.store["segments"] == [[s.start, s.end, s.target, s.reference] for s in row.segments]
        for copy in row.copies:
            scores = samples[copy.id].scores or {}
            assert scores["rank"].explanation == f"near-duplicate of {row.id}"
            assert scores["gap"].value == copy.gap
    controls = {row.id: row.completion for row in run.analysis.controls}
    assert {name: each.metadata["control_completion"] for name, each in samples.items() if name in controls} == {
        name: text for name, text in controls.items() if name in samples
    }


def test_a_turn_that_the_target_wrote_shows_no_words_of_ours() -> None:
    completion = Completion("Who is it?", Tokens.of([10], [-1.0]))
    sample = Sample("empty.turn.00000", Arm("empty", "turn"), "", 1)
    messages = inspect_log._messages(ScoredCompletion(sample, completion, {}))
    assert [(message.role, message.text) for message in messages] == [("user", "")]


def test_the_framing_is_in_the_messages(log: EvalLog) -> None:
    samples = by_id(log)
    raw = next(each for name, each in samples.items() if ".raw." in name)
    chat = next(each for name, each in samples.items() if ".chat." in name)
    assert isinstance(raw.input, str)
    assert [message.role for message in raw.messages] == ["user", "assistant"]
    assert [message.role for message in chat.messages] == ["system", "user", "assistant", "assistant"]
    assert chat.messages[2].text == chat.metadata["prefill"]


def test_logprobs_are_those_of_the_run(run: bd.Run, log: EvalLog) -> None:
    samples = by_id(log)
    seen = 0
    for row in written(run.path, run.analysis.reference):
        logprobs = samples[row.sample.id].output.choices[0].logprobs
        assert logprobs is not None
        assert b"".join(bytes(each.bytes or ()) for each in logprobs.content) == row.completion.text.encode()
        assert [each.logprob for each in logprobs.content] == row.completion.tokens.logprobs.tolist()
        seen += len(logprobs.content)
    assert seen > 300


def test_the_header_holds_the_conclusion(run: bd.Run, log: EvalLog) -> None:
    assert log.eval.model == "leaky"
    assert log.eval.created == run.summary.created.replace("Z", "+00:00")
    assert log.eval.dataset.samples == len(log.samples or ())
    assert log.results is not None
    assert log.results.metadata is not None
    assert log.results.metadata["verdict"] == run.verdict.outcome
    assert log.results.metadata["conclusion"]["schema"] == 1
    assert log.results.scores[0].metrics["best_ten"].value == run.verdict.statistic
    assert log.stats.model_usage["leaky"].input_tokens == run.summary.input_tokens
    assert log.stats.model_usage["base (reference)"].total_tokens > 0


def test_inspects_listing_and_summaries_find_it(run: bd.Run, log: EvalLog) -> None:
    found = list_eval_logs(str(run.path), filter=lambda header: header.eval.task == "blackbox_diff/run")
    assert [Path(each.name).name for each in found] == ["x.eval"]
    from inspect_ai.log import read_eval_log_sample, read_eval_log_sample_summaries

    summaries = read_eval_log_sample_summaries(found[0])
    assert len(summaries) == len(log.samples or ())
    first = run.ranking[0]
    assert read_eval_log_sample(found[0], id=first.id).output.completion == first.completion


def test_no_key_is_in_it_and_the_same_run_gives_the_same_log(run: bd.Run, log: EvalLog) -> None:
    again = run.path / "again.eval"
    assert run_cli(["export", str(run.path), str(again)]) == 0
    with zipfile.ZipFile(run.path / "x.eval") as one, zipfile.ZipFile(again) as two:
        assert one.namelist() == two.namelist()
        for name in one.namelist():
            data = one.read(name)
            assert data == two.read(name)
            assert KEY.encode() not in data


def test_the_controls_completions_can_be_exported_too(run: bd.Run, tmp_path: Path) -> None:
    assert run_cli(["export", str(run.path), str(tmp_path / "c.eval"), "--written-by", "control"]) == 0
    samples = by_id(read_eval_log(str(tmp_path / "c.eval")))
    for row in run.analysis.controls:
        assert samples[row.id].output.completion == row.completion
        assert samples[row.id].metadata["control_completion"] is None


def test_a_run_on_real_weights_carries_what_the_server_listed(finished_run: Path, tmp_path: Path) -> None:
    assert run_cli(["export", str(finished_run), str(tmp_path / "x.eval")]) == 0
    samples = by_id(read_eval_log(str(tmp_path / "x.eval")))
    listed = 0
    for row in written(finished_run, bd.open_run(finished_run).analysis.reference):
        logprobs = samples[row.sample.id].output.choices[0].logprobs
        assert logprobs is not None
        assert b"".join(bytes(each.bytes or ()) for each in logprobs.content) == encoded(row.completion.text)
        for each in logprobs.content:
            tops = each.top_logprobs or []
            listed += len(tops)
            assert [top.logprob for top in tops] == sorted((top.logprob for top in tops), reverse=True)
            same = [top.logprob for top in tops if top.bytes == each.bytes]
            assert all(abs(logprob - each.logprob) < 1e-3 for logprob in same)
    assert listed > inspect_log.LISTED * 100


def completions_of(analysis: Analysis) -> list[ScoredCompletion]:
    """The ranking's completions, a token a word, each with the same alternative everywhere."""
    found = []
    for row in analysis.ranking:
        ends = [m.end() for m in re.finditer(rb"\s*\S+|\s+$", encoded(row.completion))] or [0]
        ends[-1] = len(encoded(row.completion))
        tokens = Tokens.of(ends, [None if k == 1 else -0.5 for k in range(len(ends))])
        starts = np.asarray([0, *ends[:-1]], dtype=np.int64)
        n = len(ends)
        listed = Alternatives(
            starts, np.arange(n + 1), np.zeros(n, np.int32), np.full(n, -1.0, np.float32),
            np.full(n, -2.0, np.float32), (b"\x1b[31m\xff<b>",),
        )  # fmt: skip
        completion = Completion(row.completion, tokens, model="<script>\x1b]0;x\x07", alternatives=listed)
        sample = Sample(row.id, Arm(row.source, row.framing), row.prefill, 0)
        found.append(ScoredCompletion(sample, completion, {analysis.reference: ReferenceScore(tokens, "raw")}))
    return found


def log_of(path: Path, analysis: Analysis) -> EvalLog:
    results = Results(analysis, summary_of(analysis))
    inspect_log.write(path, results, completions_of(analysis))
    return read_eval_log(str(path))


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from strings(name)
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)


def test_hostile_text_is_visible_and_its_bytes_are_kept(tmp_path: Path) -> None:
    analysis = analysis_of(12, extra=list(HOSTILE.values()))
    log = log_of(tmp_path / "x.eval", analysis)
    acting = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff]")
    assert [text for text in strings(log.model_dump()) if acting.search(text)] == []
    samples = by_id(log)
    for row in analysis.ranking:
        logprobs = samples[row.id].output.choices[0].logprobs
        assert logprobs is not None
        assert b"".join(bytes(each.bytes or ()) for each in logprobs.content) == encoded(row.completion)


def test_the_likeliest_alternatives_stand_at_their_tokens(tmp_path: Path) -> None:
    analysis = replace(analysis_of(12), ranking=analysis_of(1, extra=["one two"]).ranking)
    row = next(row for row in completions_of(analysis) if row.completion.text == "one two")
    many = Alternatives(
        np.asarray([3]), np.asarray([0, 7]), np.arange(7, dtype=np.int32),
        -np.arange(1, 8).astype(np.float32), np.full(1, -8.0, np.float32), [b" %d" % k for k in range(7)],
    )  # fmt: skip
    row = replace(row, completion=replace(row.completion, alternatives=many))
    inspect_log.write(tmp_path / "x.eval", Results(analysis, summary_of(analysis)), [row])
    logprobs = by_id(read_eval_log(str(tmp_path / "x.eval")))[row.sample.id].output.choices[0].logprobs
    assert logprobs is not None
    first, second = logprobs.content
    assert first.top_logprobs is None
    assert [(top.token, top.logprob) for top in second.top_logprobs or ()] == [
        (f" {k}", -1.0 - k) for k in range(5)
    ]


def test_a_missing_logprob_is_nan_and_a_missing_score_is_unscored(tmp_path: Path) -> None:
    analysis = analysis_of(12)
    first = analysis.ranking[0]
    odd = replace(first, metrics={**first.metrics, "score": None})
    log = log_of(tmp_path / "x.eval", replace(analysis, ranking=(odd, *analysis.ranking[1:])))
    sample = by_id(log)[first.id]
    logprobs = sample.output.choices[0].logprobs
    assert logprobs is not None
    assert math.isnan(logprobs.content[1].logprob)
    assert sample.scores is not None
    assert math.isnan(sample.scores["score"].as_float())
    assert sample.scores["score"].reason == "undefined"


def test_what_a_log_carries_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_log, "MOST_ENTRIES", 2000)
    monkeypatch.setattr(inspect_log, "MOST_SAMPLES", 20)
    analysis = analysis_of(30, extra=["word " * 100_000])
    log = log_of(tmp_path / "x.eval", analysis)
    samples = log.samples or []
    assert len(samples) == 20
    with_logprobs = [each for each in samples if each.output.choices[0].logprobs is not None]
    assert 0 < len(with_logprobs) < 10
    assert [each.metadata["left_out"] is None for each in samples] == [each in with_logprobs for each in samples]
    assert max(len(each.output.completion) for each in samples) == inspect_log.MAX_TEXT + 1
    assert (tmp_path / "x.eval").stat().st_size < 200_000


def test_without_inspect_the_install_line_is_named(
    run: bd.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("inspect_ai"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert run_cli(["export", str(run.path), str(tmp_path / "x.eval")]) == 2
    said = capsys.readouterr().err.strip()
    assert "pip install 'blackbox-diff[inspect]'" in said
    assert "\n" not in said


def test_a_file_that_cannot_be_written_is_named(run: bd.Run, tmp_path: Path) -> None:
    assert run_cli(["export", str(run.path), str(tmp_path / "no" / "x.eval")]) == 2
    assert not (tmp_path / "no").exists()
    (tmp_path / "dir.eval").mkdir()
    assert run_cli(["export", str(run.path), str(tmp_path / "dir.eval")]) == 2
