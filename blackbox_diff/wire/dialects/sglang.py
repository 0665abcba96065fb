"""SGLang's OpenAI server and its own /generate. Read from the code of 0.5.23; not run here.

- Sampled logprobs are divided by the temperature (raw when greedy, or with
  SGLANG_RETURN_ORIGINAL_LOGPROB=1): the probe says processed, and sampling stays at T=1, top_p=1.
- A last assistant message becomes a user message unless continue_final_message is sent.
- Legacy partial characters are one Latin-1 character per byte; text_offset is -1.
- Scoring: /generate with return_logprob and logprob_start_len 0 gives [logprob, id, text] per prompt token;
  the OpenAI route's echo works with logprobs >= 1 and is the second choice. No chat-template scoring.
- Floor: -3.4028e38. Sampler defaults come from generation_config.json, so everything is sent.
"""

from __future__ import annotations

from blackbox_diff.records import Call, EndpointProfile, Json, RawReply, ReferenceScore, Refusal
from blackbox_diff.wire.body import items, mapping
from blackbox_diff.wire.counts import read_usage
from blackbox_diff.wire.dialects.base import (
    NEUTRAL,
    NO_THINKING,
    WITH_IDS,
    Context,
    Dialect,
    ScoreItem,
    read_scored,
    root_url,
    score_prompt,
)
from blackbox_diff.wire.entries import from_triples
from blackbox_diff.wire.refusals import refuse
from blackbox_diff.wire.replies import body_of


class SGLang(Dialect):
    name = "sglang"
    sampler = NEUTRAL
    extras = WITH_IDS
    chat_extras = NO_THINKING
    prefill_recipes = ("continue_final_message",)
    scoring_recipes = ("generate", "echo")
    template_scoring = False

    def score(self, profile: EndpointProfile, item: ScoreItem) -> Call:
        if profile.scoring != "generate":
            return super().score(profile, item)
        context: Context = self.context(profile, item)
        prompt = score_prompt(item, context)
        body: dict[str, Json] = {"text" if isinstance(prompt, str) else "input_ids": prompt}
        neutral = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0}
        body["sampling_params"] = {"max_new_tokens": 1, **neutral}
        body |= {"return_logprob": True, "logprob_start_len": 0}
        body |= {"top_logprobs_num": self.scored_top(profile, item)}
        body |= {"return_text_in_logprobs": True, "stream": False}
        return Call("/generate", body, root_url(profile.base_url) + "/generate")

    def read_score(
        self, reply: RawReply, *, call: Call, profile: EndpointProfile, item: ScoreItem
    ) -> ReferenceScore | Refusal:
        if profile.scoring != "generate":
            return super().read_score(reply, call=call, profile=profile, item=item)
        body = body_of(reply)
        if isinstance(body, Refusal):
            return body
        meta = mapping(body.get("meta_info"))
        rows = items(meta.get("input_token_logprobs"))
        entries = from_triples(rows, items(meta.get("input_top_logprobs")))
        if not rows or entries is None:
            return refuse("no_logprobs")
        context: Context = self.context(profile, item)
        return read_scored(entries, item, context, prompt_tokens=read_usage(body).input_tokens)
