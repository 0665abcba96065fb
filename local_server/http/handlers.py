"""From a checked request to jobs, and from their results to a reply."""

from __future__ import annotations

import asyncio
import functools
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from fastapi import Request

from local_server.engine.engine import Engine
from local_server.engine.jobs import Generate, Score, Token, Written
from local_server.engine.sampling import Settings
from local_server.errors import RequestError
from local_server.http import prompts, replies
from local_server.http.access import LOOPBACK
from local_server.http.protocol import SHOWN, ChatRequest, CompletionRequest, Sampler
from local_server.model.load import LoadedModel

P = ParamSpec("P")
R = TypeVar("R")
DEFAULT_CHAT_TOKENS = 512
HANG_UP_CHECK = 1.0  # seconds between looks at whether the client is still there


@dataclass(frozen=True, slots=True)
class Served:
    """A name clients may ask for: a base model, or an adapter on one."""

    base: str
    adapter: str | None
    loaded: LoadedModel


@dataclass(slots=True)
class State:
    """What the routes share. counts: per served model, what was asked of it. host_names: what clients may call it.

    tokenizer: the one thread that tokenises: long texts take seconds, and a tokenizer is not made for two threads.
    """

    engine: Engine
    served: dict[str, Served]
    key: str | None = None
    started: float = field(default_factory=time.time)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    host_names: frozenset[str] = LOOPBACK
    tokenizer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "tokenizer"))

    def find(self, name: str) -> Served:
        """Raises RequestError 404 for a name that is not served."""
        if name not in self.served:
            raise RequestError(
                f"model: '{name[:SHOWN]}' does not exist; served: {', '.join(self.served)}",
                status=404,
                param="model",
                code="model_not_found",
            )
        return self.served[name]

    async def tokenized(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What `function` returns, called in the thread that may tokenise."""
        work = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self.tokenizer, work)

    def count(self, model: str, **amounts: int) -> None:
        self.counts.setdefault(model, Counter()).update(amounts)


@dataclass(frozen=True, slots=True)
class Work:
    """The jobs of one request: per prompt its ids, its score if asked for, and its `n` completions."""

    served: Served
    lists: list[list[int]]
    scores: list[Score]
    writers: list[list[Generate]]

    @property
    def jobs(self) -> list[Score | Generate]:
        """What the engine is given: a writer that rides on its prompt's score is not queued by itself."""
        riding = {id(score.writer) for score in self.scores}
        return [*self.scores, *(job for row in self.writers for job in row if id(job) not in riding)]

    @property
    def futures(self) -> list[Any]:
        return [*(job.future for job in self.scores), *(job.future for row in self.writers for job in row)]

    @property
    def written(self) -> int:
        """Tokens written so far."""
        return sum(len(job.tokens) for row in self.writers for job in row)


def plan(state: State, wanted: CompletionRequest | ChatRequest) -> Work:
    """The jobs that a request asks for. Raises RequestError when it can't be served."""
    served = state.find(wanted.model)
    loaded = served.loaded
    if isinstance(wanted, CompletionRequest):
        lists = prompts.prompt_ids(loaded, wanted)
        limit, top = wanted.max_tokens, wanted.logprobs or 0
        scoring = wanted.prompt_logprobs is not None or (wanted.echo and wanted.logprobs is not None)
        prompt_top = max(wanted.prompt_logprobs or 0, top if wanted.echo else 0)
    else:
        lists = [
            prompts.render(
                loaded,
                wanted.messages,
                generation=wanted.add_generation_prompt,
                continue_final=wanted.continue_final_message,
                options=wanted.chat_template_kwargs,
            )
        ]
        room = max(1, loaded.max_length - len(lists[0]))
        limit = wanted.max_completion_tokens or wanted.max_tokens or min(room, DEFAULT_CHAT_TOKENS)
        top = wanted.top_logprobs or 0
        scoring, prompt_top = wanted.prompt_logprobs is not None, wanted.prompt_logprobs or 0
    for ids in lists:
        if len(ids) + limit > loaded.max_length:
            raise RequestError(
                f"max_tokens: {len(ids)} prompt tokens and {limit} to write exceed the context of "
                f"{loaded.max_length}",
                param="max_tokens",
                code="context_length_exceeded",
            )
    settings = Settings(wanted.temperature, wanted.top_p, max(wanted.top_k, 0), wanted.min_p)
    seed = wanted.seed if wanted.seed is not None else random.getrandbits(63)
    writers = [
        [
            Generate(
                ids,
                served.adapter,
                top,
                settings=settings,
                max_tokens=limit,
                min_tokens=wanted.min_tokens,
                ignore_eos=wanted.ignore_eos,
                stop_text=wanted.stops(),
                random=random.Random(f"{seed}/{place}/{copy}"),
            )
            for copy in range(wanted.n if limit else 0)
        ]
        for place, ids in enumerate(lists)
    ]
    scores = [
        Score(
            ids,
            served.adapter,
            prompt_top,
            ranked=wanted.prompt_logprobs is not None,
            writer=row[0] if len(row) == 1 and limit == 1 else None,
        )
        for ids, row in zip(lists, writers, strict=True)
        if scoring
    ]
    return Work(served, lists, scores, writers)


async def run(state: State, request: Request, wanted: CompletionRequest | ChatRequest) -> Work:
    """The request's jobs, done. The caller's going away cancels them."""
    work = await state.tokenized(plan, state, wanted)
    state.engine.submit(work.served.base, work.jobs)
    state.count(wanted.model, requests=1, prompt_tokens=sum(map(len, work.lists)))
    pending = {asyncio.wrap_future(future) for future in work.futures}
    try:
        while pending:
            done, pending = await asyncio.wait(pending, timeout=HANG_UP_CHECK, return_when=asyncio.FIRST_EXCEPTION)
            for error in [found for one in done if (found := one.exception())]:
                raise error
            if pending and await request.is_disconnected():
                raise RequestError("the client went away", status=499)
    finally:
        for future in pending:
            future.cancel()
        state.count(wanted.model, completion_tokens=work.written)
    return work


async def complete(state: State, request: Request, wanted: CompletionRequest) -> dict[str, Any]:
    """A reply of /v1/completions: one choice per prompt and copy."""
    work = await run(state, request, wanted)
    loaded = work.served.loaded
    choices: list[dict[str, Any]] = []
    for place, ids in enumerate(work.lists):
        score = work.scores[place].future.result() if work.scores else None
        prefix = (score or [Token(index, None, []) for index in ids]) if wanted.echo else []
        before = len(replies.text_of(loaded, prefix))
        for written in _written(work, place):
            tokens = [*prefix, *written.tokens]
            choices.append(
                {
                    "index": len(choices),
                    "text": replies.cut_at_stop(replies.text_of(loaded, tokens), wanted.stops(), before),
                    "logprobs": None
                    if wanted.logprobs is None
                    else replies.legacy_logprobs(
                        loaded, tokens, top=wanted.logprobs, as_ids=wanted.return_tokens_as_token_ids
                    ),
                    "finish_reason": written.finish_reason,
                    "token_ids": [token.id for token in written.tokens] if wanted.return_token_ids else None,
                    "prompt_token_ids": ids if wanted.return_token_ids else None,
                    "prompt_logprobs": None
                    if wanted.prompt_logprobs is None
                    else replies.prompt_logprobs(loaded, score or [], wanted.prompt_logprobs),
                }
            )
    return {**envelope(work, wanted, "text_completion"), "choices": choices, "usage": usage(work)}


async def converse(state: State, request: Request, wanted: ChatRequest) -> dict[str, Any]:
    """A reply of /v1/chat/completions."""
    work = await run(state, request, wanted)
    loaded = work.served.loaded
    choices = [
        {
            "index": index,
            "message": {
                "role": "assistant",
                "content": replies.cut_at_stop(replies.text_of(loaded, written.tokens), wanted.stops()),
                "refusal": None,
            },
            "logprobs": replies.chat_logprobs(loaded, written.tokens) if wanted.logprobs else None,
            "finish_reason": written.finish_reason,
            "token_ids": [token.id for token in written.tokens] if wanted.return_token_ids else None,
        }
        for index, written in enumerate(_written(work, 0))
    ]
    return {
        **envelope(work, wanted, "chat.completion"),
        "choices": choices,
        "usage": usage(work),
        "prompt_logprobs": None
        if wanted.prompt_logprobs is None
        else replies.prompt_logprobs(loaded, work.scores[0].future.result(), wanted.prompt_logprobs),
        "prompt_token_ids": work.lists[0] if wanted.return_token_ids else None,
    }


def _written(work: Work, place: int) -> Sequence[Written]:
    return [job.future.result() for job in work.writers[place]] or [Written([], "length")]


def envelope(work: Work, wanted: Sampler, kind: str) -> dict[str, Any]:
    """What every reply and every streamed chunk starts with."""
    prefix = "chatcmpl" if kind.startswith("chat") else "cmpl"
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": wanted.model,
        "system_fingerprint": f"local-{work.served.loaded.dtype}",
    }


def usage(work: Work) -> dict[str, int]:
    prompt = sum(map(len, work.lists))
    return {"prompt_tokens": prompt, "completion_tokens": work.written, "total_tokens": prompt + work.written}
