"""From a request's prompt or messages to token ids."""

from __future__ import annotations

import random
from typing import Any

from local_server.errors import RequestError
from local_server.models import LoadedModel
from local_server.protocol import CompletionRequest, Message


def encode(loaded: LoadedModel, text: str, add_special: bool) -> list[int]:
    """Ids of `text`. Text that looks like a special token is ordinary text: a model under audit may write it."""
    try:
        ids = loaded.tokenizer(text, add_special_tokens=add_special, split_special_tokens=True)["input_ids"]
    except (TypeError, UnicodeError):
        raise RequestError("the text is not valid Unicode (a lone surrogate)", param="prompt") from None
    return [int(index) for index in ids]


def prompt_ids(loaded: LoadedModel, request: CompletionRequest) -> list[list[int]]:
    """One id list per prompt of the request. Raises RequestError for ids that the model does not have."""
    prompt: Any = request.prompt
    if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)):
        prompt = [prompt]
    found: list[list[int]] = []
    for one in prompt:
        ids = encode(loaded, one, request.add_special_tokens) if isinstance(one, str) else list(one)
        if any(not 0 <= index < loaded.model.config.vocab_size for index in ids):
            raise RequestError("a token id is outside of the vocabulary", param="prompt")
        if not ids:
            raise RequestError("the prompt has no tokens", param="prompt")
        found.append(ids)
    return found


def render(loaded: LoadedModel, messages: list[Message], generation: bool, continue_final: bool) -> list[int]:
    """Ids of a conversation under the model's own template.

    The template's markers are special tokens and the messages' text is not, even where it looks like one:
    each message's content is put in after rendering. Raises RequestError where there is no template.
    """
    if not loaded.has_template:
        raise RequestError(f"{loaded.spec} has no chat template; use /v1/completions", param="messages")
    markers = {f"\ue000{random.getrandbits(64):016x}\ue001": message.content for message in messages}
    stand_ins = [
        {"role": message.role, "content": marker} for message, marker in zip(messages, markers, strict=True)
    ]
    try:
        text: str = loaded.tokenizer.apply_chat_template(
            stand_ins, tokenize=False, add_generation_prompt=generation
        )
    except Exception as error:  # the template is the model's own code and may refuse a conversation
        raise RequestError(f"the chat template refuses this conversation: {error}", param="messages") from None
    if continue_final:
        text = text[: text.rindex(list(markers)[-1]) + len(list(markers)[-1])]
    ids: list[int] = []
    while text:
        marker = min((m for m in markers if m in text), key=text.index, default=None)
        before, _, text = text.partition(marker) if marker else (text, "", "")
        ids = _extend(loaded, ids, before, special=True)
        if marker:
            ids = _extend(loaded, ids, markers[marker], special=False)
    return ids


def _extend(loaded: LoadedModel, ids: list[int], text: str, special: bool) -> list[int]:
    """`ids` plus those of `text`; where plain text meets plain text the template's markers keep them apart."""
    if not text:
        return ids
    encoded = loaded.tokenizer(text, add_special_tokens=False, split_special_tokens=not special)["input_ids"]
    return ids + [int(index) for index in encoded]
