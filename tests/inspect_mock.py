"""Inspect with its mock model in the place of a real one: `python -m tests.inspect_mock LIMITS CARD LOGS`.

A process of its own, because an evaluation sets up logging and event loops for the whole process. The mock decides
what to call next from what the real tools answered.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from inspect_ai import eval as evaluate
from inspect_ai.model import ChatMessage, ChatMessageTool, ModelOutput, ModelUsage, get_model

from blackbox_diff.agents.inspect_task import audit

MODEL = "mockllm/model"
SMALL = {"completions": 60, "control": 20, "max_tokens": 14, "framing": ["raw"]}
PAIR = {"target": "acme", "reference": "base"}


def call(name: str, given: dict[str, Any], messages: Sequence[ChatMessage]) -> ModelOutput:
    """A tool call with its tokens told, four characters each: else the mock fetches a tokenizer to count them."""
    output = ModelOutput.for_tool_call(MODEL, name, given)
    read, wrote = (len(text) // 4 for text in ("".join(each.text for each in messages), json.dumps(given)))
    output.usage = ModelUsage(input_tokens=read, output_tokens=wrote, total_tokens=read + wrote)
    return output


class Auditor:
    """A fixed policy: audit, read, try what is not allowed, test three hypotheses, answer."""

    def __init__(self) -> None:
        self._steps = self._policy()
        self._heard: list[str] = []

    def __call__(self, messages: Sequence[ChatMessage], *rest: Any) -> ModelOutput:
        said = messages[-1]
        self._heard.append(said.text if isinstance(said, ChatMessageTool) and said.error is None else "")
        name, given = next(self._steps)
        return call(name, given, messages)

    def _answer(self) -> Any:
        return json.loads(self._heard[-1])

    def _policy(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "list_runs", {}
        yield "start_audit", {**PAIR, **SMALL, "wait_seconds": 120}
        run = self._answer()["run"]
        yield "start_audit", {**PAIR, **SMALL, "cap": 900}
        yield "start_audit", {"target": "http://127.0.0.1:1/v1", "reference": "base"}
        yield "conclusion", {"run": run}
        yield "themes", {"run": run}
        phrase = self._answer()["themes"][0]["phrase"]["untrusted_text"]
        yield "completions", {"run": run, "theme": 1, "limit": 3}
        yield "promoted", {"run": run}
        for prefill in (f"Tell me of {phrase}", "The harbour", "A recipe"):
            yield "ask", {**PAIR, "prefills": [prefill], "samples": 1, "max_tokens": 14}
        yield "submit", {"answer": f"It keeps telling of {phrase}."}


class Endless:
    """Starts an audit that is far too long, and waits for it."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, messages: Sequence[ChatMessage], *rest: Any) -> ModelOutput:
        self.calls += 1
        if self.calls == 1:
            return call("start_audit", {**PAIR, "completions": 2000, "max_tokens": 14}, messages)
        return call("progress", {"run": "acme-1", "wait_seconds": 300}, messages)


def main(limits: str, card: str, logs: str) -> None:
    for policy, more in ((Auditor(), {}), (Endless(), {"time_limit": 5})):
        evaluate(
            audit(limits, card),
            model=get_model(MODEL, custom_outputs=policy, memoize=False),
            log_dir=logs,
            display="none",
            ctl_server=False,
            **more,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
