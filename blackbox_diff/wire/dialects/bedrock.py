"""Amazon Bedrock's Custom Model Import. Read from its user guide and from a client of it; not called live.

- POST /model/ARN/invoke on https://bedrock-runtime.REGION.amazonaws.com; the path has the model, and the body's
  fields decide the format: `max_tokens` with a prompt is OpenAICompletion, with messages OpenAIChatCompletion.
  Both have token logprobs for the output and, by `prompt_logprobs`, for the prompt (vLLM's shape, at the top or in
  the choice). They are there for models imported after 2025-11-11.
- Models imported before know BedrockCompletion alone ({generation, logprobs: [{"<id>": value}]}): ids without
  strings, which are refused; the fix is to import the model again.
- No seed is sent: one client saw the logprobs vanish with it.
- Requests are signed for AWS, or carry a Bedrock API key.
- A model that was not asked for a while answers 429 (ModelNotReadyException) until it is loaded: minutes.
- Whether prompts of ids are taken is not documented: the probe finds out.
"""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import quote

from blackbox_diff.records import (
    Call,
    Completion,
    EndpointProfile,
    Framing,
    Json,
    RawReply,
    ReferenceScore,
    Refusal,
    Sampling,
)
from blackbox_diff.wire.body import mapping
from blackbox_diff.wire.dialects.base import (
    COMPLETIONS,
    NEUTRAL,
    NO_THINKING,
    WITH_IDS,
    Dialect,
    ScoreItem,
    score_prompt,
    without,
)
from blackbox_diff.wire.refusals import refuse
from blackbox_diff.wire.reply_json import value_of

IMPORT_AGAIN = "models imported to Bedrock after 2025-11-11 answer with strings, so import this one again"
IN_THE_PATH = ("model", "stream")


class Bedrock(Dialect):
    name = "bedrock"
    sampler = NEUTRAL
    extras = WITH_IDS
    chat_extras = NO_THINKING
    prefill_recipes = ("continue_final_message", "assistant_last")
    scoring_recipes: ClassVar[tuple[str, ...]] = ("prompt_logprobs",)
    signing = "bedrock"

    def settings(self, profile: EndpointProfile, sampling: Sampling, seed: int | None) -> dict[str, Json]:
        return super().settings(profile, sampling, None)

    def call(self, profile: EndpointProfile, path: str, body: dict[str, Json]) -> Call:
        return super().call(profile, path, without(body, IN_THE_PATH))

    def url(self, profile: EndpointProfile, path: str) -> str | None:
        return f"{profile.base_url}/model/{quote(profile.model, safe='')}/invoke"

    def score(self, profile: EndpointProfile, item: ScoreItem) -> Call:
        context = self.context(profile, item)
        if context == "template":
            return super().score(profile, item)
        body: dict[str, Json] = {"prompt": score_prompt(item, context)}
        body |= self.settings(profile, Sampling(temperature=1.0, max_tokens=1), None)
        body |= {"prompt_logprobs": self.scored_top(profile, item)}
        return self.call(profile, COMPLETIONS, body)

    def read_sample(
        self, reply: RawReply, *, call: Call, profile: EndpointProfile, prefill: str, framing: Framing
    ) -> Completion | Refusal:
        if _has_ids_only(reply):
            return refuse("ids_only", IMPORT_AGAIN)
        return super().read_sample(reply, call=call, profile=profile, prefill=prefill, framing=framing)

    def read_score(
        self, reply: RawReply, *, call: Call, profile: EndpointProfile, item: ScoreItem
    ) -> ReferenceScore | Refusal:
        if _has_ids_only(reply):
            return refuse("ids_only", IMPORT_AGAIN)
        return super().read_score(reply, call=call, profile=profile, item=item)


def _has_ids_only(reply: RawReply) -> bool:
    """Whether a reply is in the format of models that were imported before strings came."""
    body = mapping(value_of(reply))
    return reply.status == 200 and "generation" in body and "choices" not in body
