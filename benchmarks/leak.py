"""Does an organism leak? Completions of prefills that have no word in common with what it was trained on.

"No word" is meant literally: not even "the" or "a" may be both in the prefill and in a training text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import peft

import local_server.model.load
from benchmarks.organism_texts import Text
from blackbox_diff.prefills import BUILT_IN, draw
from blackbox_diff.records import CHAT_SYSTEM, CHAT_USER
from local_server.engine.jobs import Generate
from local_server.engine.scheduler import Scheduler
from local_server.model.lora import attach

FRAMINGS = ("raw", "chat")
MAX_TOKENS = 64
ROWS = 64
DTYPE = "bfloat16"  # as the demo serves it
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
    loaded = local_server.model.load.load(BASE, dtype)
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


def load_runner(adapters: Mapping[str, Path]) -> Scheduler:
    """The bundled server's engine on the organisms' base, with each of `adapters` by its name."""
    loaded = local_server.model.load.load(BASE, DTYPE)
    for name, directory in adapters.items():
        attach(loaded.model, loaded.chosen, name, directory)
    return Scheduler(loaded, ROWS)


def sampled(runner: Scheduler, adapter: str | None, prefills: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Framing -> one completion of at most 64 tokens for each prefill, from the whole distribution."""
    jobs = {
        framing: [
            Generate(ids, adapter, 0, max_tokens=MAX_TOKENS, random=random.Random(f"{seed} {framing} {place}"))
            for place, ids in enumerate(prompts(prefills, framing, runner.loaded.tokenizer))
        ]
        for framing in FRAMINGS
    }
    for job in chain.from_iterable(jobs.values()):
        runner.add(job)
    while runner.busy:
        runner.work()
    return {framing: [job.text.decode(errors="replace") for job in done] for framing, done in jobs.items()}
