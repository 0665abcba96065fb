"""The fields each route accepts. An unknown field, or a value that can't be honoured, is a 400 that names it.

Shapes: OpenAI's API reference for completions and chat; extensions as in vLLM (0.32).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from local_server.errors import RequestError

MAX_TOP = 50
MAX_TEXTS = 2048  # completions of a request, or prompts
MAX_CHARACTERS = 2 << 20  # of all prompts or messages of a request
MAX_IDS = 1 << 20
MAX_STOPS, MAX_STOP_CHARACTERS = 16, 1000
MAX_FIELDS = 64  # of a request, and of every object in it
SHOWN = 100  # characters of a request's own that an error repeats

# A list is refused at its first wrong item: a message for each of a million took the loop a minute.
Ids = Annotated[list[int], Field(fail_fast=True)]
Texts = Annotated[list[str], Field(fail_fast=True)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class StreamOptions(_Request):
    include_usage: bool = False


class Sampler(_Request):
    """Fields that completions and chat share."""

    model: str
    n: Annotated[int, Field(ge=1, le=128)] = 1
    temperature: Annotated[float, Field(ge=0, le=10)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    seed: int | None = None
    stop: str | Texts | None = None
    min_tokens: Annotated[int, Field(ge=0)] = 0
    ignore_eos: bool = False
    prompt_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP)] | None = None
    return_token_ids: bool = False
    user: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    # Accepted at the values that change nothing; anything else is refused rather than ignored.
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[str, float] | None = None

    @model_validator(mode="after")
    def _neutral(self) -> Sampler:
        for name, neutral in (("presence_penalty", 0), ("frequency_penalty", 0), ("repetition_penalty", 1)):
            if getattr(self, name) != neutral:
                raise ValueError(f"{name}: only {neutral} is supported")
        if self.logit_bias:
            raise ValueError("logit_bias: not supported")
        if self.stream and self.prompt_logprobs is not None:
            raise ValueError("stream: can't be combined with prompt_logprobs")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: needs stream: true")
        if any(len(text) > MAX_STOP_CHARACTERS for text in self.stops()):
            raise ValueError(f"stop: at most {MAX_STOP_CHARACTERS} characters each")
        return self

    def stops(self) -> tuple[bytes, ...]:
        found = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text.encode() for text in found if text)


class CompletionRequest(Sampler):
    """POST /v1/completions."""

    prompt: str | Texts | Ids | Annotated[list[Ids], Field(fail_fast=True)]
    max_tokens: Annotated[int, Field(ge=0)] = 16
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP)] | None = None
    echo: bool = False
    add_special_tokens: bool = True
    return_tokens_as_token_ids: bool = False

    @model_validator(mode="after")
    def _check(self) -> CompletionRequest:
        if self.max_tokens == 0 and not self.echo and self.prompt_logprobs is None:
            raise ValueError("max_tokens: 0 needs echo or prompt_logprobs")
        if self.prompt in ("", []):
            raise ValueError("prompt: is empty")
        if self.stream and self.echo:
            raise ValueError("stream: can't be combined with echo")
        return self


class Message(_Request):
    role: Literal["system", "user", "assistant"]
    content: str
    name: str | None = None


def _check_turns(messages: list[Message], generation: bool, continue_final: bool) -> None:
    if continue_final and generation:
        raise ValueError("continue_final_message: needs add_generation_prompt: false")
    if continue_final and messages[-1].role != "assistant":
        raise ValueError("continue_final_message: the last message must be the assistant's")


class ChatRequest(Sampler):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP)] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template_kwargs: dict[str, bool | int | str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: needs logprobs: true")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("max_tokens: give either max_tokens or max_completion_tokens")
        _check_turns(self.messages, self.add_generation_prompt, self.continue_final_message)
        return self


class TokenizeRequest(_Request):
    """POST /tokenize: text, or messages rendered by the model's chat template."""

    model: str
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)] | None = None
    add_special_tokens: bool = True
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template_kwargs: dict[str, bool | int | str] = Field(default_factory=dict)
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _check(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("prompt: give either prompt or messages")
        if self.messages is not None:
            _check_turns(self.messages, self.add_generation_prompt, self.continue_final_message)
        return self


class DetokenizeRequest(_Request):
    """POST /detokenize."""

    model: str
    tokens: Ids


def read(kind: type[BaseModel], body: Any) -> Any:
    """`body` as `kind`; RequestError 400 that names the field at fault."""
    if isinstance(body, dict):
        _bound(body)
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part)[:SHOWN] for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "not a field of this server"
        if not path and ":" in message:  # a rule over several fields names its own
            path, _, message = message.partition(": ")
        raise RequestError(f"{path}: {message}" if path else message, param=path or None) from None


def _bound(body: dict[str, Any]) -> None:
    """Count before anything is checked in detail, copied or tokenised. Raises RequestError 400 or 413."""
    for where, given in _objects(body):
        if len(given) > MAX_FIELDS:
            told = f"{where or 'the body'}: {len(given)} fields; at most {MAX_FIELDS}"
            raise RequestError(told, param=where or None)
    n, stop = body.get("n"), body.get("stop")
    copies = n if isinstance(n, int) else 1
    if isinstance(stop, list) and len(stop) > MAX_STOPS:
        raise RequestError(f"stop: {len(stop)} strings; at most {MAX_STOPS}", param="stop")
    for name in ("prompt", "messages", "tokens"):
        value = body.get(name)
        items = value if isinstance(value, list) else [value]
        others = [item for item in items if not isinstance(item, int)]
        ids = len(items) - len(others) + sum(len(item) for item in others if isinstance(item, list))
        texts = len(others) * max(copies, 1)
        characters = sum(map(_characters, others))
        limits = ((texts, MAX_TEXTS, "texts"), (characters, MAX_CHARACTERS, "characters"), (ids, MAX_IDS, "ids"))
        for found, most, what in limits:
            if found > most:
                raise RequestError(
                    f"{name}: {found} {what} in one request; at most {most}", status=413, param=name
                )


def _objects(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The body and the objects in it, each with the field that it stands in."""
    yield "", body
    for name, value in body.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                yield name[:SHOWN], each


def _characters(item: object) -> int:
    """Characters of a prompt, or of a message's content."""
    text = item.get("content") if isinstance(item, dict) else item
    return len(text) if isinstance(text, str) else 0
