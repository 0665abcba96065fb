"""vLLM's OpenAI server. Written against 0.32 (captured replies) and the code of 0.33.

- Legacy and chat logprobs are raw (before temperature) unless the server was started with
  --logprobs-mode processed_logprobs. The sampled token stands first in the alternatives.
- A token that ends inside a character is "" with bytes []; the completing token holds the character.
  Ids are faithful: return_token_ids. A prompt that starts inside a character shows U+FFFD and loses it.
- Prefill: continue_final_message with add_generation_prompt off; without them a new turn begins.
- Scoring: echo with text or ids, or prompt_logprobs; chat takes prompt_logprobs with the server's own
  template. The entry of the end-of-sequence token is in the list and not in the text.
- What a request leaves out is taken from the model's generation_config.json, so everything is sent.
- At most --max-logprobs alternatives, 20 by default; more is a 400 that names the limit.
"""

from __future__ import annotations

from blackbox_diff.wire.dialects.base import NEUTRAL, NO_THINKING, WITH_IDS, Dialect


class Vllm(Dialect):
    name = "vllm"
    sampler = NEUTRAL
    extras = WITH_IDS
    chat_extras = NO_THINKING
    prefill_recipes = ("continue_final_message",)
