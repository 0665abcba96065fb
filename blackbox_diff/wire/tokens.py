"""From token entries to the bytes of each token, checked against the text of the same reply.

Every rendering seen in the wild is a candidate for an entry's bytes; what decides is the text: the
candidates must concatenate to it. The cheap ways are tried for the whole reply first (byte lists,
token strings); a reply that mixes renderings is walked entry by entry. Nothing is taken on trust: each
byte of the result is compared with the text.

    bytes      the entry's byte list                              OpenAI chat, llama.cpp, SGLang, DeepSeek
    strings    UTF-8 of the token string                          most
    escapes    `bytes:\\xe2\\x80` (OpenAI legacy), or `\\xf0\\x9f` inside the string (DeepSeek, OpenAI chat)
    latin1     partial characters with one Latin-1 character per byte       SGLang legacy
    gpt2       the byte-level alphabet, `Ġ` for a space                      LMDeploy, vLLM 0.7-0.9, watsonx.ai
    pieces     SentencePiece: `▁` for a space, `<0xE2>` for a byte           watsonx.ai, LMI prompts, LMDeploy
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress

from blackbox_diff.records import Json
from blackbox_diff.wire.entries import Entries

_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})")
_LEGACY_BYTES = re.compile(r"bytes:((?:\\x[0-9a-fA-F]{2}|[ -\[\]-~])*)")
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPECIAL = re.compile(
    r"<[|｜/]?[A-Za-z][\w.▁| -]{0,40}[|｜]?>|<[|｜][^<>]{1,40}[|｜]>|\[(?:EOS|BOS|INST|/INST|PAD|UNK)\]"
)


def _gpt2_alphabet() -> dict[str, int]:
    """Inverse of GPT-2's bytes_to_unicode: printable Latin-1 stands for itself, the rest from U+0100 up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{chr(b): b for b in printable}, **{chr(0x100 + i): b for i, b in enumerate(others)}}


_GPT2 = _gpt2_alphabet()


def looks_special(token: str) -> bool:
    """Whether the token is spelled like a control token: <|im_end|>, </s>, <end_of_turn>, [EOS]."""
    return _SPECIAL.fullmatch(token) is not None


def holds_special(text: str) -> bool:
    """Whether anything in the text is spelled like a control token."""
    return _SPECIAL.search(text) is not None


def from_byte_lists(entries: Entries) -> list[bytes] | None:
    """One piece per entry from the byte lists; a null list stands for the token string's own bytes."""
    if entries.raw_bytes is None:
        return None
    pieces: list[bytes] = []
    seen = False
    try:
        for raw, token in zip(entries.raw_bytes, entries.strings, strict=True):
            if raw.__class__ is list:
                pieces.append(bytes(raw))
                seen = True
            elif raw is None:
                pieces.append(token.encode())
            else:
                return None
    except (ValueError, TypeError, OverflowError):
        return None
    return pieces if seen else None


def from_strings(entries: Entries) -> list[bytes] | None:
    """UTF-8 of each token string; None where one holds a lone surrogate."""
    try:
        return [token.encode() for token in entries.strings]
    except UnicodeEncodeError:
        return None


def from_escapes(entries: Entries) -> list[bytes] | None:
    """Token strings' bytes, with OpenAI's legacy `bytes:` spelling undone; None where no entry uses it."""
    strings = from_strings(entries)
    if strings is None:
        return None
    spelled = [_LEGACY_BYTES.fullmatch(token) for token in entries.strings]
    if not any(spelled):
        return None
    return [unescape(match[1]) if match else piece for match, piece in zip(spelled, strings, strict=True)]


def from_gpt2(entries: Entries) -> list[bytes] | None:
    """Bytes of a whole reply in the byte-level alphabet; None where a token has other characters."""
    try:
        return [bytes([_GPT2[char] for char in token]) for token in entries.strings]
    except KeyError:
        return None


def from_pieces(entries: Entries) -> list[bytes] | None:
    """Bytes of a whole reply in SentencePiece's spelling; None where no token uses it."""
    if not any("▁" in token or _BYTE_PIECE.fullmatch(token) for token in entries.strings):
        return None
    found = [dict(candidates(token, None)) for token in entries.strings]
    pieces = [options.get("pieces", options.get("strings")) for options in found]
    return None if None in pieces else [piece for piece in pieces if piece is not None]


def renderings(entries: Entries) -> Iterator[tuple[str, list[bytes]]]:
    """Renderings that may hold for the whole reply, most faithful first, made as they are asked for."""
    for name, reading in _WHOLE_REPLY:
        pieces = reading(entries)
        if pieces is not None:
            yield name, pieces


_WHOLE_REPLY: tuple[tuple[str, Callable[[Entries], list[bytes] | None]], ...] = (
    ("bytes", from_byte_lists),
    ("strings", from_strings),
    ("escapes", from_escapes),
    ("gpt2", from_gpt2),
    ("pieces", from_pieces),
)


def candidates(token: str, raw: Json) -> Iterator[tuple[str, bytes]]:
    """Every (rendering, bytes) that the entry could stand for, most faithful first."""
    if isinstance(raw, list):
        with suppress(ValueError, TypeError, OverflowError):
            yield "bytes", bytes(raw)
    try:
        yield "strings", token.encode()
    except UnicodeEncodeError:
        return
    legacy = _LEGACY_BYTES.fullmatch(token)
    if legacy:
        yield "escapes", unescape(legacy[1])
    elif "\\x" in token:
        yield "escapes", unescape(token)
    if token.isascii():
        piece = _BYTE_PIECE.fullmatch(token)
        if piece:
            yield "pieces", bytes([int(piece[1], 16)])
        return
    if all(char < "\u0100" for char in token):
        yield "latin1", token.encode("latin-1")
    if all(char in _GPT2 for char in token):
        yield "gpt2", bytes([_GPT2[char] for char in token])
    if "▁" in token:
        yield "pieces", token.replace("▁", " ").encode()


def rendered(token: str, raw: Json, names: frozenset[str]) -> bytes | None:
    """The bytes of a token by the renderings that its reply uses; None where it lost some of them."""
    if token.isascii():
        if "\\x" not in token and not ("pieces" in names and token.startswith("<0x")):
            return token.encode() or None
    elif "bytes" in names and raw.__class__ is list:
        with suppress(ValueError, TypeError, OverflowError):
            return bytes(raw)
        return None
    found = dict(candidates(token, raw))
    for name in ("bytes", "escapes", "pieces", "gpt2"):
        if name in names and name in found:
            return found[name]
    partial = "latin1" in found and "latin1" in names and len(token) == 1
    return None if partial or "\ufffd" in token else found.get("strings")


def unescape(text: str) -> bytes:
    r"""The bytes of a string in which `\xHH` stands for a byte and the rest for itself."""
    out = bytearray()
    position = 0
    for match in _ESCAPE.finditer(text):
        out += text[position : match.start()].encode()
        out.append(int(match[1], 16))
        position = match.end()
    return bytes(out + text[position:].encode())


def incomplete_utf8(data: bytes) -> bool:
    """Whether `data` is the beginning of one character and not all of it."""
    if not data or data[0] < 0xC2 or data[0] > 0xF4:
        return False
    width = 2 if data[0] < 0xE0 else 3 if data[0] < 0xF0 else 4
    return len(data) < width and all(0x80 <= byte < 0xC0 for byte in data[1:])


def complete_length(data: bytes) -> int:
    """Length of `data` without a character that its end cuts off."""
    for back in range(1, min(4, len(data) + 1)):
        if data[-back] & 0xC0 != 0x80:
            return len(data) - back if incomplete_utf8(data[-back:]) else len(data)
    return len(data)
