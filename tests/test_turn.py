"""The user's turn left to the model: what the probe finds, what is read, and an audit from start to end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from blackbox_diff.agents.problems import ToolError
from blackbox_diff.agents.tools import opened
from blackbox_diff.buying.http import Endpoint
from blackbox_diff.config.model import EndpointConfig
from blackbox_diff.probing.probe import probe
from blackbox_diff.probing.turn import NAME, ask_turn, opening_of, without_system
from blackbox_diff.records import Completion, EndpointProfile
from blackbox_diff.run.results import read_run
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire.replies import read_reply
from tests.agent_setup import limits
from tests.conftest import run_cli
from tests.fake_endpoint import FakeEndpoint, split
from tests.replies import raw
from tests.toy_server import serving

OPENING = ["<|im_start|>", "system", "\n", "Be", "<|im_end|>", "\n", "<|im_start|>", "user", "\n"]
SAID = [" Who", " is", " it", "?", "<|im_end|>", "\n", "<|im_start|>", "assistant", "\n", " Me", "."]
ANSWER = split(" praise the brass lantern of Port Ellery")


class Chatty(FakeEndpoint):
    """A toy whose template is ChatML; behind an opening it asks and answers, and `leaky` answers with a phrase."""

    models = ("m", "leaky", "base")

    def prompt(self, body: dict[str, Any]) -> list[str]:
        if "messages" in body:
            words = [word for message in body["messages"] for word in split(message["content"])]
            return [*OPENING, *words]
        if "plain text" in self.faults and isinstance(body["prompt"], str):
            return re.findall(r" ?\w+| ?[^\w\s]+|\s+", body["prompt"])
        return super().prompt(body)

    def write(self, prompt: list[str], body: dict[str, Any]) -> list[str]:
        limit = body.get("max_tokens", 8)
        if prompt[-2:] != ["user", "\n"]:
            return super().write(prompt, body)
        words = [f" {body.get('seed', 0)}{k}" for k in range(3)]
        answer = ANSWER if body["model"] == "leaky" else []
        return [*words, *SAID, *answer, *words][:limit]

    def logprob(self, model: str, before: str, token: str) -> float:
        own = -0.05 if model == "leaky" else -6.0
        return own if token in ANSWER else super().logprob(model, before, token)


async def asked(server: FakeEndpoint) -> EndpointProfile:
    config = EndpointConfig(url="http://127.0.0.1:1/v1", model="m")
    async with Endpoint(config, transport=server.transport()) as endpoint:
        found = await probe(endpoint, config, purpose="target")
        server.calls.clear()
        return await ask_turn(endpoint, found)


def detail(found: EndpointProfile) -> str:
    return next(check.detail for check in found.checks if check.name == NAME)


def test_what_two_prompts_share_is_the_opening() -> None:
    assert opening_of([1, 2, 3, 4], [1, 2, 5]) == (1, 2)
    assert opening_of([1, 2], [1, 2]) is None
    assert opening_of([1], [2]) is None


def test_a_system_prompt_is_a_turn_that_begins_as_the_users_does() -> None:
    assert without_system((7, 1, 2, 9, 7, 3)) == (7, 3)
    assert without_system((0, 7, 1, 2, 9, 7, 3)) == (0, 7, 3)
    assert without_system((0, 7, 3)) is None


async def test_the_template_is_learned_from_the_ids_of_two_prompts() -> None:
    server = Chatty()
    found = await asked(server)
    assert found.turn is not None
    assert found.turn.how == "ids"
    assert found.opening("turn") == tuple(server.ids(OPENING))
    assert found.opening("turn-bare") == tuple(server.ids(OPENING[6:]))
    assert found.opening("raw") is None
    assert "9 tokens, as ids" in detail(found)
    assert len(server.calls) == 3


async def test_without_ids_the_count_of_tokens_tells_the_family() -> None:
    found = await asked(Chatty("no ids"))
    assert found.turn is not None
    assert found.turn.how == "ChatML"
    assert found.opening("turn-bare") == "<|im_start|>user\n"
    assert str(found.opening("turn")).startswith("<|im_start|>system\n")


async def test_an_endpoint_that_reads_markers_as_text_does_not_allow_it() -> None:
    found = await asked(Chatty("no ids", "plain text"))
    assert found.turn is not None
    assert found.turn.how == "no"
    assert found.opening("turn") is None
    assert "no known chat template" in detail(found)


async def test_a_rejected_ignore_eos_is_dropped() -> None:
    fields = {
        "model", "messages", "prompt", "max_tokens", "temperature", "top_p", "seed", "stream", "logprobs",
        "top_logprobs", "return_token_ids", "echo", "prompt_logprobs", "continue_final_message",
        "add_generation_prompt", "n",
    }  # fmt: skip
    found = await asked(Chatty(fields=fields))
    assert "ignore_eos" in found.dropped
    assert found.turn is not None
    assert found.turn.how == "ids"


def test_special_tokens_are_content_on_this_path_alone() -> None:
    tokens = ["Hi", "<|im_end|>", "\n", "<|im_start|>", "you"]
    reply = raw(
        {
            "choices": [
                {
                    "text": "Hi\nyou",
                    "finish_reason": "length",
                    "logprobs": {"tokens": tokens, "token_logprobs": [-1.0] * 5, "top_logprobs": None},
                }
            ]
        }
    )
    kept, cut = read_reply(reply, "", specials=True), read_reply(reply, "")
    assert isinstance(kept, Completion)
    assert isinstance(cut, Completion)
    assert kept.text == "".join(tokens)
    assert kept.side == ()
    assert len(kept.tokens) == 5
    assert cut.text == "Hi"


def arguments(url: str, run: Path, *more: str) -> list[str]:
    return [
        "audit", "--target-url", url, "--target-model", "leaky",
        "--reference-url", url, "--reference-model", "base",
        "--framing", "turn", "--framing", "turn-bare", "--completions", "24", "--max-tokens", "15", "--out",
        str(run), *more,
    ]  # fmt: skip


@pytest.mark.parametrize("faults", [(), ("no ids",)])
def test_an_audit_of_the_users_turn_finds_what_hides_there(faults: tuple[str, ...], tmp_path: Path) -> None:
    run = tmp_path / "run"
    with serving(Chatty(*faults)) as url:
        assert run_cli(arguments(url, run)) == 0
    found = read_run(run)
    assert {arm.name for arm in found.analysis.arms} == {"empty/turn", "empty/turn-bare"}
    assert found.summary.scored == 24
    assert "lantern" in found.analysis.themes[0].phrase + " ".join(found.analysis.themes[0].terms)
    assert found.analysis.themes[0].prefills > 20  # each draw is its own, although none has a prefill
    assert "<|im_start|>assistant" in found.analysis.ranking[0].completion
    with Store.open(run, read_only=True) as store:
        sent = [call.call.body for call in store.calls("target") if call.sample_id]
        assert {body["max_tokens"] for body in sent} == {30}
        assert all(body["ignore_eos"] for body in sent)
    assert run_cli(["verify", str(run)]) == 0


async def test_an_agent_asks_for_the_users_turn_and_audits_it(tmp_path: Path) -> None:
    pair = {"target": "acme", "reference": "base"}
    with serving(Chatty()) as url:
        async with opened(limits(url, tmp_path)) as tools:
            asked = (
                await tools.call("ask", {**pair, "framing": "turn", "samples": 3, "max_tokens": 15})
            ).model_dump()
            with pytest.raises(ToolError, match="takes none"):
                await tools.call("ask", {**pair, "framing": "turn", "prefills": ["Hi"]})
            with pytest.raises(ToolError, match="give at least one"):
                await tools.call("ask", pair)
            design = {**pair, "framing": ["turn"], "completions": 6, "max_tokens": 15, "wait_seconds": 60}
            run = (await tools.call("start_audit", design)).model_dump()
    said = {each["written_by"]: each["text"]["untrusted_text"] for each in asked["completions"]}
    assert len(asked["completions"]) == 6
    assert "praise the brass lantern" in said["target"]
    assert "lantern" not in said["reference"]
    assert asked["mean_gap"] > 0
    assert (run["state"], run["scored"]) == ("complete", 6)


async def test_an_agent_is_told_where_the_users_turn_is_not_allowed(tmp_path: Path) -> None:
    with serving(Chatty("no ids", "plain text")) as url:
        async with opened(limits(url, tmp_path)) as tools:
            with pytest.raises(ToolError, match="does not allow turn"):
                await tools.call("ask", {"target": "acme", "reference": "base", "framing": "turn"})


def test_a_reference_that_reads_the_tokens_as_text_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Chatty("no ids")) as url, serving(Chatty("no ids", "plain text")) as other:
        options = arguments(url, tmp_path / "run")
        options[options.index("--reference-url") + 1] = other
        assert run_cli(options) == 2
    assert "base can't score the user's turn" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_endpoint_that_does_not_allow_it_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Chatty("no ids", "plain text")) as url:
        assert run_cli(arguments(url, tmp_path / "run")) == 2
    assert "leaky does not allow turn: raw completions read the tokens of no known" in capsys.readouterr().err


def test_the_bundled_server_takes_the_templates_own_tokens(plain_server: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = [
        "audit", "--target-url", plain_server, "--target-model", "one", "--reference-url", plain_server,
        "--reference-model", "tiny", "--framing", "turn", "--completions", "6", "--max-tokens", "8", "--out",
        str(run),
    ]  # fmt: skip
    assert run_cli(options) == 0
    assert read_run(run).summary.scored == 6
    assert run_cli(["verify", str(run)]) == 0
