"""Server-sent events: one chunk per token, with its logprob, as it is drawn.

Text goes out as whole characters, and never past the start of what may become a stop string. A chunk
carries its token's logprob even while the text is held back, so no entry is lost.
"""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from local_server.engine.jobs import Token
from local_server.errors import RequestError
from local_server.http import replies
from local_server.http.handlers import State, Work, envelope, plan, usage
from local_server.http.protocol import ChatRequest, CompletionRequest
from local_server.model.load import LoadedModel

Event = tuple[int, Token | None]  # which choice; its next token, or None when it has ended


class TextFeed:
    """Bytes of tokens in, text that is safe to show out."""

    def __init__(self, stops: tuple[bytes, ...]) -> None:
        self.stops = [stop.decode() for stop in stops]
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.held = ""
        self.ended = False

    def feed(self, piece: bytes, *, final: bool = False) -> str:
        """The text that `piece` completes; with `final`, all that is left."""
        if self.ended:
            return ""
        self.held += self.decoder.decode(piece, final=final)
        found = [place for stop in self.stops if (place := self.held.find(stop)) >= 0]
        if found:
            self.ended, safe = True, min(found)
        else:
            safe = len(self.held) if final else len(self.held) - self._may_stop()
        text, self.held = self.held[:safe], self.held[safe:]
        return text

    def _may_stop(self) -> int:
        """Length of the longest end of the held text that starts a stop string."""
        return max(
            (
                size
                for stop in self.stops
                for size in range(1, min(len(stop), len(self.held) + 1))
                if self.held.endswith(stop[:size])
            ),
            default=0,
        )


async def start(state: State, wanted: CompletionRequest | ChatRequest) -> AsyncIterator[str]:
    """The events of one request. Raises RequestError before the first of them, when it can't be served."""
    work = await state.tokenized(plan, state, wanted)
    events: asyncio.Queue[Event] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(place: int) -> Callable[[Token | None], None]:
        def send(token: Token | None) -> None:
            with suppress(RuntimeError):  # the loop has closed: nobody is listening any more
                loop.call_soon_threadsafe(events.put_nowait, (place, token))

        return send

    def ended(place: int) -> Callable[[object], None]:
        return lambda _: tell(place)(None)

    writers = [job for row in work.writers for job in row]
    for place, job in enumerate(writers):
        job.on_token = tell(place)
        job.future.add_done_callback(ended(place))
    state.engine.submit(work.served.base, work.jobs)
    state.count(wanted.model, requests=1, prompt_tokens=sum(map(len, work.lists)))
    return _events(state, wanted, work, events)


async def _events(
    state: State, wanted: CompletionRequest | ChatRequest, work: Work, events: asyncio.Queue[Event]
) -> AsyncIterator[str]:
    chat = isinstance(wanted, ChatRequest)
    head = envelope(work, wanted, "chat.completion.chunk" if chat else "text_completion")
    writers = [job for row in work.writers for job in row]
    feeds = [TextFeed(wanted.stops()) for _ in writers]
    offsets = [0] * len(writers)
    loaded = work.served.loaded
    try:
        if chat:
            for place in range(len(writers)):
                yield _event({**head, "choices": [_chat_choice(place, {"role": "assistant", "content": ""})]})
        running = len(writers)
        while running:
            place, token = await events.get()
            if token is None:
                running -= 1
                error = writers[place].future.exception()
                if error is not None:
                    yield _event(RequestError(str(error), status=500).body())
                    break
                text, reason = feeds[place].feed(b"", final=True), writers[place].future.result().finish_reason
                tokens = []
            else:
                piece = b"" if token.id in loaded.special else loaded.pieces[token.id]
                text, reason, tokens = feeds[place].feed(piece), None, [token]
            choice = _chunk(loaded, wanted, place, text, tokens, offsets[place], reason)
            offsets[place] += sum(replies.width(loaded, one) for one in tokens)
            yield _event({**head, "choices": [choice]})
        if wanted.stream_options is not None and wanted.stream_options.include_usage:
            yield _event({**head, "choices": [], "usage": usage(work)})
        yield "data: [DONE]\n\n"
    finally:
        for job in writers:
            job.future.cancel()
        state.count(wanted.model, completion_tokens=work.written)


def _chunk(
    loaded: LoadedModel,
    wanted: CompletionRequest | ChatRequest,
    place: int,
    text: str,
    tokens: list[Token],
    offset: int,
    reason: str | None,
) -> dict[str, Any]:
    ids = {"token_ids": [token.id for token in tokens]} if wanted.return_token_ids else {}
    if isinstance(wanted, ChatRequest):
        found = _chat_choice(place, {"content": text} if text or tokens else {}, reason)
        found["logprobs"] = replies.chat_logprobs(loaded, tokens) if wanted.logprobs and tokens else None
        return {**found, **ids}
    logprobs = None
    if wanted.logprobs is not None and tokens:
        logprobs = replies.legacy_logprobs(
            loaded, tokens, top=wanted.logprobs, offset=offset, as_ids=wanted.return_tokens_as_token_ids
        )
    return {"index": place, "text": text, "logprobs": logprobs, "finish_reason": reason, **ids}


def _chat_choice(place: int, delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
    return {"index": place, "delta": delta, "logprobs": None, "finish_reason": reason}


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
