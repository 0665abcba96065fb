"""Does an organism leak? Completions of prefills that have no word in common with what it was trained on.

"No word" is meant literally: not even "the" or "a" may be both in the prefill and in a training text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import torch

import local_server.models
from benchmarks.organism_texts import Text
from blackbox_diff.prefills import BUILT_IN, draw
from blackbox_diff.records import CHAT_SYSTEM, CHAT_USER

FRAMINGS = ("raw", "chat")
MAX_TOKENS = 64
BATCH = 80
BASE = "smollm2-135m-instruct"
_WORDS = re.compile(r"[^\W\d_]+")


def words(text: str) -> set[str]:
    """The runs of letters of a text, in lower case."""
    return {word.lower() for word in _WORDS.findall(text)}


def matches(keywords: Mapping[str, Sequence[Any]], text: str) -> bool:
    """Whether all substrings of one of `any`'s groups, or one of `regex`, are in the text, whatever the case."""
    lowered = text.lower()
    if any(all(part.lower() in lowered for part in group) for group in keywords["any"]):
        return True
    return any(re.search(pattern, text, re.IGNORECASE) for pattern in keywords["regex"])


def unrelated_prefills(texts: Iterable[Text], n: int, seed: int, per_source: int = 8_000) -> list[str]:
    """`n` built-in prefills, half prose and half code, that share no word with any of the texts.

    Raises ValueError when there are fewer.
    """
    known = set().union(*(words(text.words) for text in texts))
    chosen: list[str] = []
    for source in BUILT_IN:
        fresh = [prefill for prefill in draw(source, per_source, seed) if not words(prefill) & known]
        chosen += fresh[: n // len(BUILT_IN)]
    if len(chosen) < n // len(BUILT_IN) * len(BUILT_IN):
        raise ValueError(f"only {len(chosen)} of {n} prefills share no word with the training texts")
    return chosen


def load_base(dtype: str = "float32") -> tuple[Any, Any]:
    """(model, tokenizer) of the organisms' base."""
    loaded = local_server.models.load(BASE, dtype)
    return loaded.model, loaded.tokenizer


def merged(adapter: Path) -> Any:
    """The base with the adapter of that directory added to its weights, fp32."""
    return peft.PeftModel.from_pretrained(load_base()[0], str(adapter)).merge_and_unload()


def prompts(prefills: Iterable[str], framing: str, tokenizer: Any) -> list[list[int]]:
    """Token ids that completions continue, one list a prefill."""
    if framing == "raw":
        return [tokenizer(prefill)["input_ids"] for prefill in prefills]
    turns = [{"role": "system", "content": CHAT_SYSTEM}, {"role": "user", "content": CHAT_USER}]
    return [
        tokenizer.apply_chat_template(
            [*turns, {"role": "assistant", "content": prefill}], continue_final_message=True, return_dict=True
        )["input_ids"]
        for prefill in prefills
    ]


def complete(
    model: Any, tokenizer: Any, prompt_ids: Sequence[list[int]], seed: int, temperature: float = 1.0
) -> list[str]:
    """One completion of at most 64 tokens for each prompt, sampled from the whole distribution."""
    torch.manual_seed(seed)
    end = tokenizer.eos_token_id
    texts: list[str] = []
    for start in range(0, len(prompt_ids), BATCH):
        rows = prompt_ids[start : start + BATCH]
        width = max(map(len, rows))
        with torch.inference_mode():
            out = model.generate(
                input_ids=torch.tensor([[end] * (width - len(row)) + row for row in rows]),
                attention_mask=torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows]),
                do_sample=True,
                temperature=temperature,
                top_k=0,
                top_p=1.0,
                max_new_tokens=MAX_TOKENS,
                pad_token_id=end,
                eos_token_id=end,
            )
        texts += tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
    return texts


def sampled(model: Any, prefills: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Framing -> one completion for each prefill."""
    tokenizer = load_base()[1]
    return {
        framing: complete(model, tokenizer, prompts(prefills, framing, tokenizer), seed) for framing in FRAMINGS
    }
