"""A request's body: bounded in size and time, JSON by its own word, and text that UTF-8 can carry."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import Request

from local_server.errors import RequestError

MAX_BYTES = 8 << 20
SECONDS = 30.0  # for a body to arrive


async def read_json(request: Request) -> Any:
    """The parsed body.

    Raises RequestError: 415 when it is not called JSON, 413 when it is too large, 408 when it does not arrive, 400
    when it is not JSON. A web page can post text and forms to any address without asking; JSON it must ask for,
    and is not allowed.

    A lone surrogate ("\\ud800") is valid JSON and no text: no tokenizer and no reply could carry it.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError("Content-Type: must be application/json", status=415)
    raw = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > MAX_BYTES:
                    raise RequestError(f"the body is larger than {MAX_BYTES} bytes", status=413)
    except TimeoutError:
        raise RequestError(f"the body did not arrive within {SECONDS:.0f} seconds", status=408) from None
    try:
        body = json.loads(raw)
        if b"\\u" in raw:
            json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RequestError("the body holds a lone surrogate, which is not text") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None
    return body
