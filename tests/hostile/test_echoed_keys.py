"""A key that an endpoint sends back is not kept, however it is escaped."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_diff.buying.secrets import Secret

KEY = 'sk-a/b&c+d=ef"gh\\ij'
ESCAPED = "".join(f"\\u{ord(char):04X}" for char in KEY)


@pytest.mark.parametrize(
    "echo",
    [
        KEY,
        json.dumps(KEY)[1:-1],
        json.dumps(json.dumps(KEY)),
        json.dumps(KEY).replace("/", "\\/").replace("&", "\\u0026")[1:-1],
        ESCAPED,
        quote(KEY, safe=""),
        *(base64.b64encode(("x" * n + KEY).encode()).decode() for n in range(3)),
        *(base64.urlsafe_b64encode(("x" * n + KEY + "yz").encode()).decode() for n in range(3)),
    ],
)
def test_every_form_of_the_key_is_taken_out(echo: str) -> None:
    found = Secret(KEY).out_of(f'{{"error": "bad key {echo} given"}}'.encode())
    assert b"[key]" in found
    assert b"bad key" in found
    assert b"given" in found
    assert Secret(KEY).out_of(found) == found


@given(st.text(max_size=200))
def test_a_text_without_the_key_stays_as_it_is(text: str) -> None:
    body = json.dumps(text).encode()
    assert Secret(KEY).out_of(body) == body
    assert Secret("short").out_of(body + b"short") == body + b"short"
