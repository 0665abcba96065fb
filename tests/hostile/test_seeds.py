"""A seed that is honoured up to noise is told from one that is ignored, and sent wherever it is not rejected."""

from __future__ import annotations

from typing import Any

import pytest

from blackbox_diff.buying.http import Endpoint
from blackbox_diff.config.model import EndpointConfig
from blackbox_diff.probing.probe import probe
from blackbox_diff.records import EndpointProfile
from tests.fake_endpoint import CONTINUATION, OTHERS, FakeEndpoint


class Sampler(FakeEndpoint):
    """Draws at T=1: by the seed, up to `noise_at` (None: exactly); without a seed, or where ignored, anew."""

    def __init__(self, *faults: str, noise_at: int | None = None, ignores: bool = False, **more: Any) -> None:
        super().__init__(*faults, **more)
        self.noise_at, self.ignores = noise_at, ignores

    def write(self, prompt: list[str], body: dict[str, Any]) -> list[str]:
        written = super().write(prompt, body)
        if body["temperature"] != 1.0 or body.get("echo") or len(written) < 8:
            return written
        turn = len(self.calls)
        if self.ignores or body.get("seed") is None:
            return [f" w{turn}", *CONTINUATION[1:]]
        if self.noise_at is not None and turn % 2:
            return [*written[: self.noise_at], *OTHERS * 2][:8]
        return written


async def probed(server: FakeEndpoint) -> EndpointProfile:
    config = EndpointConfig(url="http://toy/v1", model="m")
    async with Endpoint(config, transport=server.transport()) as endpoint:
        return await probe(endpoint, config, purpose="target")


def said(profile: EndpointProfile) -> str:
    return next(check.detail for check in profile.checks if check.name == "seed")


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (Sampler(), "repeats a draw"),
        (Sampler(noise_at=5), "repeats a draw up to noise: 5 of 8 tokens, 0 without it"),
        (Sampler(ignores=True), "ignored: 0 of 8 tokens repeat, 0 without it"),
        (FakeEndpoint(), "draws are alike without it, too"),
    ],
)
async def test_what_a_seed_does_is_seen_beside_a_draw_without_it(server: FakeEndpoint, words: str) -> None:
    profile = await probed(server)
    assert said(profile) == words
    assert profile.seed, "it does no harm where it is ignored"


async def test_a_seed_that_is_rejected_is_not_sent() -> None:
    fields = {"model", "messages", "prompt", "max_tokens", "temperature", "top_p", "logprobs", "top_logprobs", "n",
              "echo", "stream", "presence_penalty", "frequency_penalty", "continue_final_message",
              "add_generation_prompt", "return_token_ids", "prompt_logprobs"}  # fmt: skip
    profile = await probed(Sampler(fields=fields))
    assert "seed" in profile.dropped
    assert not profile.seed
    assert said(profile) == "rejected"
