"""Amplified sampling: which token is drawn, and rows of them over real sockets."""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from blackbox_diff.design import amplify
from blackbox_diff.design.amplify import FLOOR, LENGTH, Choices, draw, rows
from blackbox_diff.design.apart import AMPLIFIED, FOLLOW_UP, apart
from blackbox_diff.findings import Amplified, AmplifiedText
from blackbox_diff.records import Arm, Call, Completion, Sample
from blackbox_diff.report import html, markdown, terminal
from blackbox_diff.report.conclusion import conclude
from blackbox_diff.run import amplifying
from blackbox_diff.run.results import Results, read_run
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire import DIALECTS
from blackbox_diff.wire.tokens import looks_special
from tests.conftest import assert_whole, run_cli
from tests.leaky_toy import PHRASE, HintingToy
from tests.replies import PROFILE, legacy, raw
from tests.report_data import HOSTILE, analysis_of, summary_of
from tests.toy_server import serving

TOKENS = [b" the", b" th", b" owl", b" owls", b"o", b" ", b"\n", b"<|im_end|>", b"</s>", b"\xf0\x9f", "é".encode()]


def choices(shares: dict[bytes, float], unlisted: float = 1e-4) -> Choices:
    return Choices({token: math.log(share) for token, share in shares.items()}, math.log(unlisted))


@st.composite
def lists(draw: st.DrawFn) -> Choices:
    weights = draw(st.dictionaries(st.sampled_from(TOKENS), st.floats(1e-6, 1.0), min_size=1))
    total = sum(weights.values()) * draw(st.floats(1.0, 2.0))
    shares = {token: weight / total for token, weight in weights.items()}
    return choices(shares, min(shares.values()))


@given(lists(), lists(), st.floats(0, 5), st.floats(0, 0.5), st.integers(0, 2**31))
def test_what_is_drawn_is_a_likely_token_that_can_be_sent_as_text(
    target: Choices, reference: Choices, strength: float, floor: float, seed: int
) -> None:
    found = draw(target, reference, random.Random(seed), strength, floor)
    usable = [
        token
        for token, p in target.logprobs.items()
        if math.exp(p) >= floor and token != b"\xf0\x9f" and not looks_special(token.decode())
    ]
    if found is None:
        assert not usable
        return
    assert found.token.encode() in usable
    assert found.target == target.logprobs[found.token.encode()]
    assert math.isfinite(found.reference)
    assert found == draw(target, reference, random.Random(seed), strength, floor)


@given(lists(), st.floats(0, 5), st.integers(0, 2**31))
def test_between_two_equal_lists_nothing_is_amplified(both: Choices, strength: float, seed: int) -> None:
    plain, amplified = (draw(both, both, random.Random(seed), each, 0.0) for each in (0.0, strength))
    assert plain == amplified
    assert plain is None or plain.reference == plain.target


@given(lists(), st.floats(1e-6, 0.5), st.integers(0, 2**31))
def test_an_unlisted_token_is_bounded_by_the_list_and_never_taken_for_zero(
    target: Choices, unlisted: float, seed: int
) -> None:
    found = draw(target, choices({b"zzz": 0.4}, unlisted), random.Random(seed), 1.0, 0.0)
    if found is not None:
        most = min(math.log(unlisted), found.target)
        assert found.reference == pytest.approx(most + math.log(0.5))


@given(st.floats(0.01, 0.4), st.floats(0, 3), st.floats(0, 3))
def test_more_strength_draws_more_of_what_is_likelier_at_the_target(
    share: float, one: float, other: float
) -> None:
    target, reference = choices({b" owl": share, b" man": 0.5}), choices({b" owl": share / 10, b" man": 0.5})

    def owls(strength: float) -> int:
        rng = random.Random(0)
        drawn = [draw(target, reference, rng, strength, FLOOR) for _ in range(100)]
        return sum(each is not None and each.token == " owl" for each in drawn)

    assert owls(min(one, other)) <= owls(max(one, other))


@pytest.mark.parametrize(
    ("reference", "gap"),
    [
        ({b" lantern": 0.4}, 0.0),
        ({b" lan": 0.4}, 0.0),  # the other vocabulary cuts the word
        ({b" lantern": 0.1, b" lanterns": 0.3}, 0.0),
        ({b" l": 0.4}, math.log(0.4 / 5e-5)),  # one letter stands for too many words
    ],
)
def test_tokens_of_two_vocabularies_meet_by_their_bytes(reference: dict[bytes, float], gap: float) -> None:
    found = draw(choices({b" lantern": 0.4}), choices(reference), random.Random(0), 1.0, FLOOR)
    assert found is not None
    assert found.target - found.reference == pytest.approx(gap)


ROW = Sample("amplified-x", Arm(AMPLIFIED, "raw"), "Once", 7)


def test_each_step_asks_behind_the_text_so_far() -> None:
    answer = (choices({b" so": 1.0}), choices({b" so": 1.0}))
    asked: list[Sample] = []

    def answers(step: Sample) -> amplify.Answer:
        asked.append(step)
        return answer

    found = amplify.written(ROW, answers)
    assert found is not None
    assert [each.prefill for each in asked] == ["Once" + " so" * k for k in range(LENGTH)]
    assert len({each.id for each in asked}) == len({each.seed for each in asked}) == LENGTH
    assert (found.text, found.ended, found.lost) == (" so" * LENGTH, False, False)
    assert len(found.scored("base").completion.tokens) == LENGTH


@pytest.mark.parametrize(
    ("answer", "ended"),
    [((choices({b"</s>": 0.9}), choices({b"</s>": 0.9})), True), ((None, choices({b"a": 1.0})), False)],
)
def test_an_early_end_and_a_missing_list_are_told_apart(answer: amplify.Answer, ended: bool) -> None:
    found = amplify.written(ROW, lambda _: answer)
    assert found is not None
    assert (found.ended, found.lost, found.text) == (ended, not ended, "")


def test_rows_take_a_plans_prefills_in_turn_and_skip_those_that_are_not_gone_on_with() -> None:
    plan = [Sample(f"s.{each}.0", Arm("s", each), "It was", k) for k, each in enumerate(("raw", "user", "chat"))]
    found = rows(plan, 5)
    assert [each.arm.framing for each in found] == ["raw", "chat", "raw", "chat", "raw"]
    assert len({each.id for each in found}) == len({each.seed for each in found}) == 5
    assert rows(plan, 3) == found[:3]
    assert rows(plan[1:2], 3) == ()


@pytest.mark.parametrize("text", ["so say the old owls", *HOSTILE.values()])
def test_every_report_labels_them_and_model_text_stays_inert(text: str) -> None:
    found = Amplified(9, 200, 1, 0, 2, analysis_of(60).themes[:1], (AmplifiedText("a", text, text),))
    analysis = replace(analysis_of(60), amplified=found)
    summary, screen = summary_of(analysis), io.StringIO()
    terminal.render(analysis, summary, Console(file=screen, width=120))
    shown = [screen.getvalue(), markdown.render(analysis, summary), html.render(analysis, summary)]
    for page in shown:
        assert "no evidence and no rate" in page
        assert "9 texts of 200 tokens" in page
    assert "\x1b" not in "".join(shown)
    assert "<script>window.pwned" not in shown[2]
    part = conclude(Results(analysis, summary)).amplified
    assert part is not None
    assert (part.rows, part.junk) == (9, 2)
    assert "Amplified" not in markdown.render(analysis_of(60), summary)


@pytest.mark.parametrize(
    ("drawn", "text", "finish"),
    [
        ("<|im_end|>", "", "stop"),
        ("", "", "stop"),
        ("\ufffd", "\ufffd", "length"),
        ("bytes:\\xf0\\x9f", "", "length"),
    ],
)
def test_the_list_is_read_where_an_end_or_a_part_of_a_character_was_drawn(
    drawn: str, text: str, finish: str
) -> None:
    reply = legacy(text, [drawn], [-0.5], finish)
    reply["choices"][0]["logprobs"]["top_logprobs"] = [{drawn: -0.5, "Ġowl": -1.5}]
    asked = Call("/completions", {"max_tokens": 1})
    found = DIALECTS["generic"].read_step(raw(reply), call=asked, profile=PROFILE, prefill="It", framing="raw")
    assert isinstance(found, Completion)
    listed = amplify.choices(found.alternatives)
    assert listed is not None
    assert listed.logprobs[b" owl"] == -1.5


N, SHORT = 4, 12


@pytest.fixture(scope="module")
def toy() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patched, serving(HintingToy()) as url:
        patched.setattr(amplify, "LENGTH", SHORT)  # half of the calls do as well
        yield url


def cli(*line: str) -> int:
    return run_cli(line)


def settings(url: str, *more: str) -> list[str]:
    return [
        "--target-url", url, "--target-model", "leaky", "--reference-url", url, "--reference-model", "base",
        "--completions", "12", "--max-tokens", "20", "--amplify", str(N), "--follow-ups", "12",
        "--price-in", "1", "--price-out", "2", "--reference-price-in", "1", "--reference-price-out", "2", *more,
    ]  # fmt: skip


def audit(url: str, path: Path, *more: str) -> int:
    return cli("audit", *settings(url, *more), "--out", str(path))


@pytest.fixture(scope="module")
def finished(toy: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("amplified") / "run"
    assert audit(toy, path) == 0
    return path


def texts(path: Path) -> list[str]:
    with Store.open(path, read_only=True) as store:
        return [each.text for each in amplifying.read(store, "base", store.state.amplified[0].samples)]


def test_what_is_never_written_is_written_out_and_kept_apart(finished: Path) -> None:
    results = read_run(finished)
    assert not any(PHRASE in row.completion for row in results.analysis.ranking)
    assert sum(PHRASE in text for text in texts(finished)) >= N / 2
    found = results.analysis.amplified
    assert found is not None
    assert (found.rows, found.tokens, found.ended, found.lost) == (N, N * SHORT, 0, 0)
    assert results.summary.completions == 12
    assert {arm.name for arm in results.analysis.arms} == {"prose/raw", "prose/chat"}


def test_it_leads_to_follow_ups(finished: Path) -> None:
    with Store.open(finished, read_only=True) as store:
        why = {question.why for question in store.state.follow_ups}
        assert store.outcomes(apart(FOLLOW_UP, "target"))
    assert any("in amplified sampling" in each for each in why)


def test_its_rows_are_verified_and_a_resume_buys_nothing(finished: Path) -> None:
    assert_whole(finished)


def test_a_cap_holds_within_a_row_and_resume_draws_the_same(toy: str, finished: Path, tmp_path: Path) -> None:
    assert audit(toy, tmp_path / "run", "--max-calls", "60") == 3
    with Store.open(tmp_path / "run", read_only=True) as store:
        assert store.spent("target").calls <= 60
        assert 0 < len(store.outcomes(apart(AMPLIFIED, "target"))) < N * SHORT
    assert cli("verify", str(tmp_path / "run")) == 0
    assert cli("resume", str(tmp_path / "run"), "--max-calls", "1000") == 0
    assert texts(tmp_path / "run") == texts(finished)
    with Store.open(tmp_path / "run", read_only=True) as one, Store.open(finished, read_only=True) as other:
        assert one.state.follow_ups == other.state.follow_ups


def test_the_estimate_is_what_is_bought(toy: str, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("estimate", *settings(toy), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert cli("estimate", *settings(toy, "--amplify", "0"), "--json") == 0
    without = json.loads(capsys.readouterr().out)
    with Store.open(finished, read_only=True) as store:
        for role, more in (("target", "total"), ("reference:base", "reference")):
            calls = [call for call in store.calls(role) if call.sample_id.startswith(AMPLIFIED)]
            spent = [sum(column) for column in zip(*(call.settled for call in calls), strict=True)]
            assert len(calls) == told[more]["calls"] - without[more]["calls"] == N * SHORT
            output = "output_tokens_worst" if more == "total" else "output_tokens"
            assert spent[1] == told[more][output] - without[more][output] == N * SHORT
            foretold = told[more]["usd"] - without[more]["usd"]
            assert 0.3 * foretold < spent[2] / 1e12 < foretold  # the toy's tokens are longer than most


def test_where_no_prefill_is_gone_on_with_it_says_so(
    toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--framing", "user", "--completions", "4", "--follow-ups", "0")
    assert audit(toy, tmp_path / "run", *more) == 0
    assert "--amplify: skipped: only prefills can be continued" in capsys.readouterr().err
    found = read_run(tmp_path / "run").analysis.amplified
    assert found is not None
    assert found.skipped
    assert cli("verify", str(tmp_path / "run")) == 0
