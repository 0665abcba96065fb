"""Routes. Everything is injected, so a test builds an app without a process."""

from __future__ import annotations

import asyncio
import hmac
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from local_server import prompts, replies
from local_server.engine import Engine, Generate, Score, Token, Written
from local_server.errors import RequestError
from local_server.models import LoadedModel
from local_server.protocol import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
    _Sampler,
    read,
)
from local_server.sampling import Settings

MAX_BODY = 4 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Served:
    """A name clients may ask for: a base model, or an adapter on one."""

    base: str
    adapter: str | None
    loaded: LoadedModel


@dataclass(slots=True)
class State:
    engine: Engine
    served: dict[str, Served]
    key: str | None = None
    started: float = field(default_factory=time.time)
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def find(self, name: str) -> Served:
        if name not in self.served:
            raise RequestError(
                f"the model '{name}' does not exist; served: {', '.join(self.served)}", status=404, param="model"
            )
        return self.served[name]

    def count(self, model: str, **amounts: int) -> None:
        self.counts.setdefault(model, Counter()).update(amounts)


def build_app(state: State) -> FastAPI:
    """The application over a running engine."""
    app = FastAPI(title="local_server", docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(RequestError)
    async def refuse(_: Request, error: RequestError) -> JSONResponse:
        headers = {"retry-after": str(error.retry_after)} if error.retry_after else None
        return JSONResponse(error.body(), status_code=error.status, headers=headers)

    @app.exception_handler(404)
    async def no_route(request: Request, _: Exception) -> JSONResponse:
        return JSONResponse(
            RequestError(f"no route {request.method} {request.url.path}", status=404).body(), status_code=404
        )

    @app.middleware("http")
    async def check_key(request: Request, handle: Callable[[Request], Awaitable[Response]]) -> Response:
        if state.key is not None and request.url.path != "/health":
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), state.key.encode()):
                return JSONResponse(RequestError("incorrect API key", status=401).body(), status_code=401)
        return await handle(request)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/stats")
    async def stats() -> dict[str, Any]:
        return {name: dict(counter) for name, counter in state.counts.items()}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {
            "object": "list",
            "data": [
                {
                    "id": name,
                    "object": "model",
                    "created": int(state.started),
                    "owned_by": "local_server",
                    "root": served.loaded.spec,
                    "parent": served.base if served.adapter else None,
                    "max_model_len": served.loaded.max_length,
                }
                for name, served in state.served.items()
            ],
        }

    @app.post("/v1/completions")
    async def completions(request: Request) -> dict[str, Any]:
        return await complete(state, request, read(CompletionRequest, await body_of(request)))

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> dict[str, Any]:
        return await converse(state, request, read(ChatRequest, await body_of(request)))

    @app.post("/tokenize")
    async def tokenize(request: Request) -> dict[str, Any]:
        wanted: TokenizeRequest = read(TokenizeRequest, await body_of(request))
        loaded = state.find(wanted.model).loaded
        if wanted.prompt is not None:
            ids = prompts.encode(loaded, wanted.prompt, wanted.add_special_tokens)
        else:
            ids = prompts.render(
                loaded, wanted.messages or [], wanted.add_generation_prompt, wanted.continue_final_message
            )
        strings = (
            [replies.legacy_token(loaded.pieces[index]) for index in ids] if wanted.return_token_strs else None
        )
        return {"count": len(ids), "max_model_len": loaded.max_length, "tokens": ids, "token_strs": strings}

    @app.post("/detokenize")
    async def detokenize(request: Request) -> dict[str, Any]:
        wanted: DetokenizeRequest = read(DetokenizeRequest, await body_of(request))
        loaded = state.find(wanted.model).loaded
        if any(not 0 <= index < len(loaded.pieces) for index in wanted.tokens):
            raise RequestError("a token id is outside of the vocabulary", param="tokens")
        return {"prompt": b"".join(loaded.pieces[index] for index in wanted.tokens).decode(errors="replace")}

    return app


async def body_of(request: Request) -> Any:
    """The request's JSON. Raises RequestError for a body that is too large or not JSON."""
    raw = await request.body()
    if len(raw) > MAX_BODY:
        raise RequestError(f"the body is larger than {MAX_BODY} bytes", status=413)
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None


async def complete(state: State, request: Request, wanted: CompletionRequest) -> dict[str, Any]:
    served = state.find(wanted.model)
    loaded = served.loaded
    lists = prompts.prompt_ids(loaded, wanted)
    wants_prompt = wanted.prompt_logprobs is not None or (wanted.echo and wanted.logprobs is not None)
    prompt_top = max(wanted.prompt_logprobs or 0, wanted.logprobs or 0 if wanted.echo else 0)
    results = await run(
        state, request, served, lists, wanted, wanted.max_tokens, wanted.logprobs, wants_prompt, prompt_top
    )
    choices = []
    for index, (ids, scores, written) in enumerate(results):
        prefix = list(scores or [Token(token, None, []) for token in ids]) if wanted.echo else []
        tokens = [*prefix, *written.tokens]
        text = replies.cut_at_stop(replies.text_of(loaded, tokens), () if wanted.echo else wanted.stops())
        choices.append(
            {
                "index": index,
                "text": text,
                "logprobs": None
                if wanted.logprobs is None
                else replies.legacy_logprobs(loaded, tokens, 0, wanted.return_tokens_as_token_ids),
                "finish_reason": written.finish_reason,
                "token_ids": [token.id for token in written.tokens] if wanted.return_token_ids else None,
                "prompt_token_ids": ids if wanted.return_token_ids else None,
                "prompt_logprobs": replies.prompt_logprobs(loaded, scores or [])
                if wanted.prompt_logprobs is not None
                else None,
            }
        )
    return reply(state, wanted, "text_completion", "cmpl", choices, lists, results)


async def converse(state: State, request: Request, wanted: ChatRequest) -> dict[str, Any]:
    served = state.find(wanted.model)
    loaded = served.loaded
    ids = prompts.render(loaded, wanted.messages, wanted.add_generation_prompt, wanted.continue_final_message)
    limit = wanted.max_completion_tokens or wanted.max_tokens or min(loaded.max_length - len(ids), 512)
    top = (wanted.top_logprobs or 0) if wanted.logprobs else None
    wants_prompt = wanted.prompt_logprobs is not None
    results = await run(
        state, request, served, [ids], wanted, limit, top, wants_prompt, wanted.prompt_logprobs or 0
    )
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
        for index, (_, _, written) in enumerate(results)
    ]
    found = reply(state, wanted, "chat.completion", "chatcmpl", choices, [ids], results)
    found["prompt_logprobs"] = replies.prompt_logprobs(loaded, results[0][1] or []) if wants_prompt else None
    found["prompt_token_ids"] = ids if wanted.return_token_ids else None
    return found


Result = tuple[list[int], list[Token] | None, Written]


async def run(
    state: State,
    request: Request,
    served: Served,
    lists: list[list[int]],
    wanted: _Sampler,
    max_tokens: int,
    top: int | None,
    wants_prompt: bool,
    prompt_top: int,
) -> list[Result]:
    """Every prompt's score and its `n` completions, in order; the caller's going away cancels the work."""
    for ids in lists:
        if len(ids) + max_tokens > served.loaded.max_length:
            raise RequestError(
                f"{len(ids)} prompt tokens and {max_tokens} to write exceed the context of {served.loaded.max_length}",
                param="max_tokens",
            )
    settings = Settings(wanted.temperature, wanted.top_p, max(wanted.top_k, 0), wanted.min_p)
    scores = [Score(ids, served.adapter, prompt_top) for ids in lists] if wants_prompt else []
    seed = wanted.seed if wanted.seed is not None else random.getrandbits(63)
    writers = [
        Generate(
            ids,
            served.adapter,
            top or 0,
            settings=settings,
            max_tokens=max_tokens,
            min_tokens=wanted.min_tokens,
            ignore_eos=wanted.ignore_eos,
            stop_text=wanted.stops(),
            random=random.Random(f"{seed}/{place}/{copy}"),
        )
        for place, ids in enumerate(lists)
        for copy in range(wanted.n)
        if max_tokens
    ]
    jobs: list[Score | Generate] = [*scores, *writers]
    state.count(wanted.model, requests=1, prompt_tokens=sum(map(len, lists)))
    try:
        for job in jobs:
            state.engine.submit(served.base, job)
        await finished(request, jobs)
    except BaseException:
        for job in jobs:
            job.future.cancel()
        raise
    results: list[Result] = []
    for place, ids in enumerate(lists):
        score = scores[place].future.result() if scores else None
        for copy in range(wanted.n):
            written = writers[place * wanted.n + copy].future.result() if writers else Written([], "length")
            results.append((ids, score, written))
    state.count(wanted.model, completion_tokens=sum(len(written.tokens) for _, _, written in results))
    return results


async def finished(request: Request, jobs: list[Score | Generate]) -> None:
    """Wait for all jobs; a client that hangs up ends the wait."""
    waiting = asyncio.gather(*(asyncio.wrap_future(job.future) for job in jobs))
    while True:
        done, _ = await asyncio.wait([waiting], timeout=1.0)
        if done:
            waiting.result()
            return
        if await request.is_disconnected():
            waiting.cancel()
            raise RequestError("the client went away", status=499)


def reply(
    state: State,
    wanted: _Sampler,
    kind: str,
    prefix: str,
    choices: list[Any],
    lists: list[list[int]],
    results: list[Result],
) -> dict[str, Any]:
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": wanted.model,
        "system_fingerprint": f"local-{state.find(wanted.model).loaded.dtype}".replace("torch.", ""),
        "choices": choices,
        "usage": replies.usage(sum(map(len, lists)), [written for _, _, written in results]),
    }
