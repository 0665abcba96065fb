"""From a request's prompt or messages to token ids.

Text never becomes a special token, in prompts and in messages alike: a model under audit may write
"<|im_end|>", and scoring that must price the characters it wrote. Special tokens come from the chat
template, from `add_special_tokens` (BOS), and from prompts given as ids.
"""

from __future__ import annotations

import ctypes
import inspect
import re
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedTokenizerBase

from local_server.errors import RequestError
from local_server.http.protocol import CompletionRequest, Message, TokenizeRequest
from local_server.model.load import LoadedModel

# What a request may not give a template: the parameters of transformers' own function, its template among them.
RESERVED = frozenset(inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters) | {"messages"}
RENDER_SECONDS = 5.0
RENDER_GROWTH = 1 << 20  # characters that a template may add to what it is given


def encode(loaded: LoadedModel, text: str, *, add_special: bool = False) -> list[int]:
    """Ids of `text`, all of it ordinary text, with the tokenizer's BOS and the like if `add_special`."""
    ids = loaded.tokenizer(text, add_special_tokens=add_special, split_special_tokens=True)["input_ids"]
    return [int(index) for index in ids]


def prompt_ids(loaded: LoadedModel, request: CompletionRequest) -> list[list[int]]:
    """One id list per prompt of the request. Raises RequestError for ids that the model does not have."""
    prompt: Any = request.prompt
    single = isinstance(prompt, str) or isinstance(prompt[0], int)
    found: list[list[int]] = []
    for one in [prompt] if single else prompt:
        ids = encode(loaded, one, add_special=request.add_special_tokens) if isinstance(one, str) else one
        if any(not 0 <= index < loaded.model.config.vocab_size for index in ids):
            raise RequestError("prompt: a token id is outside of the vocabulary", param="prompt")
        if not ids:
            raise RequestError("prompt: no tokens", param="prompt")
        found.append(ids)
    return found


def token_ids(loaded: LoadedModel, request: TokenizeRequest) -> list[int]:
    """Ids of the text, or of the conversation."""
    if request.prompt is not None:
        return encode(loaded, request.prompt, add_special=request.add_special_tokens)
    return render(
        loaded,
        request.messages or [],
        generation=request.add_generation_prompt,
        continue_final=request.continue_final_message,
        options=request.chat_template_kwargs,
    )


def render(
    loaded: LoadedModel,
    messages: Sequence[Message],
    *,
    generation: bool,
    continue_final: bool,
    options: Mapping[str, bool | int | str],
) -> list[int]:
    """Ids of a conversation under the model's own template.

    The template sees a stand-in for each message's text, so that what it writes itself is known: only
    there do special tokens count. The texts are put in their places after that. Raises RequestError
    where there is no template, or it refuses the conversation.
    """
    if not loaded.has_template:
        raise RequestError(f"messages: {loaded.spec} has no chat template; use /v1/completions", param="messages")
    own = RESERVED.union(loaded.tokenizer.special_tokens_map)
    for name in options:
        if name in own:
            raise RequestError(
                f"chat_template_kwargs.{name}: not taken from requests", param=f"chat_template_kwargs.{name}"
            )
    stand_ins = {f"\ue000{secrets.token_hex(8)}\ue001": message.content for message in messages}
    turns = [
        {"role": message.role, "content": stand_in} for message, stand_in in zip(messages, stand_ins, strict=True)
    ]
    try:
        with _deadline(RENDER_SECONDS):
            text: str = loaded.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=generation, **options
            )
        if len(text) > RENDER_GROWTH:
            raise ValueError(f"the result has {len(text)} characters")
        if continue_final:
            last = list(stand_ins)[-1]
            text = text[: text.rindex(last) + len(last)]
    except Exception as error:  # the template is the model's own code, and may refuse a conversation
        raise RequestError(
            f"messages: the chat template refuses this conversation: {error}", param="messages"
        ) from None
    special = sorted(
        (loaded.tokenizer.convert_ids_to_tokens(index) for index in loaded.special), key=len, reverse=True
    )
    ids: list[int] = []
    for part in re.split("(" + "|".join(map(re.escape, special)) + ")", text) if special else [text]:
        if part in special:
            ids.append(loaded.tokenizer.convert_tokens_to_ids(part))
        elif part:
            ids += encode(loaded, re.sub("\ue000[0-9a-f]{16}\ue001", lambda found: stand_ins[found[0]], part))
    if not ids:
        raise RequestError("messages: the chat template makes no text of them", param="messages")
    return ids


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """TimeoutError in this thread after that time: a template is a program, and may not end by itself."""
    raise_in, thread = ctypes.pythonapi.PyThreadState_SetAsyncExc, ctypes.c_ulong(threading.get_ident())
    timer = threading.Timer(seconds, raise_in, (thread, ctypes.py_object(TimeoutError)))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        raise_in(thread, None)
