"""LMDeploy's server. Read from the code of 0.18.0; not run here.

- Start it with --logprobs-mode raw_logprobs (PyTorch engine), or asking for logprobs is a 400.
- Logprobs on chat alone: /v1/completions says "not supported yet" and leaves the field null. Tokens are the
  vocabulary's own spelling, such as `Ġday`, with that spelling's bytes. The sampled token is not among its
  alternatives.
- top_k is 50 by default (40 before) and 0 for off; -1, which other servers take for off, is a 400. What a request
  leaves out is taken from the model's generation_config.json, so everything is sent.
- A last assistant message is continued by LMDeploy's own chat templates; the probe says whether by this model's.
- /generate has logprobs of prompts (logprob_start_len 0, max_tokens 0), as ids without strings: no reference.
"""

from __future__ import annotations

from blackbox_diff.wire.dialects.base import NEUTRAL_0, NO_THINKING, Dialect


class LMDeploy(Dialect):
    name = "lmdeploy"
    sampler = NEUTRAL_0
    chat_extras = NO_THINKING
    raw_recipes = ()
    prefill_recipes = ("assistant_last",)
    scoring_recipes = ()
    template_scoring = False
    id_prompts = False
