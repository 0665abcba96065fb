"""A request's body: bounded, JSON, and text that UTF-8 can carry."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request

from local_server.errors import RequestError

MAX_BYTES = 8 << 20


async def read_json(request: Request) -> Any:
    """The parsed body. Raises RequestError: 413 when it is too large, 400 when it is not JSON.

    A lone surrogate ("\\ud800") is valid JSON and no text: no tokenizer and no reply could carry it.
    """
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BYTES:
            raise RequestError(f"the body is larger than {MAX_BYTES} bytes", status=413)
    try:
        body = json.loads(raw)
        if b"\\u" in raw:
            json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RequestError("the body holds a lone surrogate, which is not text") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None
    return body
