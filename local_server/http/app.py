"""Routes. Everything is injected, so a test builds an app without a process."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from local_server.errors import RequestError
from local_server.http import prompts, replies, streaming
from local_server.http.access import HostCheck, KeyCheck
from local_server.http.body import read_json
from local_server.http.handlers import State, complete, converse
from local_server.http.protocol import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest, read
from local_server.http.replies import refusal


def build_app(state: State) -> FastAPI:
    """The application over a running engine."""
    app = FastAPI(title="local_server", docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(RequestError)
    async def refuse(_: Request, error: RequestError) -> JSONResponse:
        return refusal(error)

    @app.exception_handler(404)
    async def no_route(request: Request, _: Exception) -> JSONResponse:
        return refusal(RequestError(f"no route {request.method} {request.url.path}", status=404))

    @app.exception_handler(405)
    async def no_method(request: Request, _: Exception) -> JSONResponse:
        return refusal(RequestError(f"{request.url.path} does not take {request.method}", status=405))

    @app.exception_handler(500)
    async def fault(_: Request, error: Exception) -> JSONResponse:
        return refusal(RequestError(f"internal error: {type(error).__name__}", status=500))

    if state.key is not None:
        app.add_middleware(KeyCheck, key=state.key)
    app.add_middleware(HostCheck, names=state.host_names)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/stats")
    async def stats() -> dict[str, Any]:
        """Per served model what was asked of it since the start; per base model what it is doing now."""
        asked = {name: dict(counter) for name, counter in state.counts.items()}
        return {"asked": asked, "now": state.engine.load()}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card(state, name) for name in state.served]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        state.find(name)
        return card(state, name)

    @app.post("/v1/completions", response_model=None)
    async def completions(request: Request) -> Response:
        wanted: CompletionRequest = read(CompletionRequest, await read_json(request))
        if wanted.stream:
            return StreamingResponse(await streaming.start(state, wanted), media_type="text/event-stream")
        return JSONResponse(await complete(state, request, wanted))

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request) -> Response:
        wanted: ChatRequest = read(ChatRequest, await read_json(request))
        if wanted.stream:
            return StreamingResponse(await streaming.start(state, wanted), media_type="text/event-stream")
        return JSONResponse(await converse(state, request, wanted))

    # What may be long is given as a response: FastAPI would look at every number in it.
    @app.post("/tokenize")
    async def tokenize(request: Request) -> JSONResponse:
        wanted: TokenizeRequest = read(TokenizeRequest, await read_json(request))
        loaded = state.find(wanted.model).loaded
        ids = await state.tokenized(prompts.token_ids, loaded, wanted)
        strings = [replies.legacy_token(loaded.pieces[i]) for i in ids] if wanted.return_token_strs else None
        told = {"count": len(ids), "max_model_len": loaded.max_length, "tokens": ids}
        return JSONResponse({**told, "token_strs": strings})

    @app.post("/detokenize")
    async def detokenize(request: Request) -> JSONResponse:
        wanted: DetokenizeRequest = read(DetokenizeRequest, await read_json(request))
        loaded = state.find(wanted.model).loaded
        if any(not 0 <= index < len(loaded.pieces) for index in wanted.tokens):
            raise RequestError("tokens: an id is outside of the vocabulary", param="tokens")
        text = b"".join(loaded.pieces[index] for index in wanted.tokens).decode(errors="replace")
        return JSONResponse({"prompt": text})

    return app


def card(state: State, name: str) -> dict[str, Any]:
    """A model as /v1/models shows it; an adapter names its base as `parent`, as vLLM does."""
    served = state.served[name]
    return {
        "id": name,
        "object": "model",
        "created": int(state.started),
        "owned_by": "local_server",
        "root": served.loaded.spec,
        "parent": served.base if served.adapter else None,
        "max_model_len": served.loaded.max_length,
    }
