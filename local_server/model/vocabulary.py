"""The exact bytes of every token, decided from the tokenizer's own decoder."""

from __future__ import annotations

import json
import re
from typing import Any

from local_server.errors import StartupError

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
PROBES = (
    "Hello, wörld!",
    " two  spaces",
    "a\tb\nc\r\n",
    "東京は",
    "🧑‍🚀 é",
    "def f(x):\n    return x",
    "١٢٣ مرحبا",
)


def token_bytes(tokenizer: Any, vocab_size: int) -> list[bytes]:
    """Bytes per token id, for ids up to `vocab_size`; unused ids give b"".

    Raises StartupError when joined bytes do not reproduce a set of probe strings: wrong bytes would
    poison every alignment.
    """
    decoder = json.dumps(json.loads(tokenizer.backend_tokenizer.to_str()).get("decoder") or {})
    byte_level = "ByteLevel" in decoder
    added = tokenizer.added_tokens_decoder
    alphabet = {char: byte for byte, char in _bytes_to_unicode().items()}
    pieces = [b""] * max(vocab_size, len(tokenizer))
    for piece, index in tokenizer.get_vocab().items():
        if index in added:
            pieces[index] = added[index].content.encode()
        elif byte_level:
            known = all(char in alphabet for char in piece)
            pieces[index] = bytes(alphabet[char] for char in piece) if known else piece.encode()
        else:
            match = _BYTE_PIECE.fullmatch(piece)
            pieces[index] = bytes([int(match[1], 16)]) if match else piece.replace("▁", " ").encode()
    for probe in PROBES:
        ids = tokenizer.encode(probe, add_special_tokens=False)
        joined = b"".join(pieces[index] for index in ids)
        if joined not in (probe.encode(), b" " + probe.encode()):
            raise StartupError(f"this tokenizer's token bytes can't be recovered (first failure: {probe!r})")
    return pieces


def _bytes_to_unicode() -> dict[int, str]:
    """GPT-2's byte alphabet: printable bytes stand for themselves, the rest move to 256 and up."""
    keep = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {byte: chr(byte) for byte in keep}
    for offset, byte in enumerate(byte for byte in range(256) if byte not in table):
        table[byte] = chr(256 + offset)
    return table
