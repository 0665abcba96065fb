"""A reply that came in parts although it was not asked for so: server-sent events, or one JSON value a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from blackbox_diff.records import Json
from blackbox_diff.wire.body import items, mapping, string
from blackbox_diff.wire.identity import akin, named

FIELDS = (b"data", b"event", b"id", b"retry")
END = b"[DONE]"
Load = Callable[[bytes], Json | None]


class _LostPart(Exception):  # noqa: N818 - never leaves this module
    """A part that can't be read: what the others say would miss words in its middle."""


def assembled(lines: Sequence[bytes], load: Load) -> dict[str, Json] | None:
    """The reply that the parts add up to; None where `lines` are no such parts, or not all of them.

    lines: without white space around them and without comment lines. Logprob lists and texts are joined in order,
    other fields are taken from the last part that has them. A stream must end: with a finish reason, [DONE], or
    an error.
    """
    reply = _Reply()
    ended = False
    try:
        for name, data in _events(lines):
            if data == END:
                ended = True
                continue
            part = load(data)
            if not isinstance(part, dict):
                raise _LostPart
            if name == b"error" and "error" not in part:
                part = {"error": part}
            reply.add(part)
    except _LostPart:
        return None
    return reply.whole() if ended or reply.ended else None


def _events(lines: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """(event name, data) of each part. A part's data may run over several lines, up to a blank one."""
    name, data = b"", list[bytes]()
    for line in [*lines, b""]:
        field, colon, rest = line.partition(b":")
        if field in FIELDS and colon:
            if field == b"event":
                name = rest.strip()
            elif field == b"data" and rest.strip() == END:
                data.append(END)
            elif field == b"data":
                data.append(rest.removeprefix(b" "))
        elif line.startswith(b"{"):
            data.append(line)
        elif line:
            raise _LostPart
        elif data:
            whole = b"\n".join(data)
            single = all(each == END or (each.startswith(b"{") and each.endswith(b"}")) for each in data)
            for each in data if single else [whole]:  # some servers leave the blank lines out
                yield name, each
            name, data = b"", []


class _Choice:
    """A choice under construction."""

    def __init__(self) -> None:
        self.rest: dict[str, Any] = {}
        self.message: dict[str, Any] = {}
        self.logprobs: dict[str, Any] = {}
        self.text: list[str] = []
        self.chat = False

    def add(self, part: dict[str, Json]) -> None:
        delta = mapping(part.get("delta", part.get("message")))
        self.chat = self.chat or "delta" in part or "message" in part
        self.text.append(string(part.get("text")) or string(delta.get("content")) or "")
        _join(self.message, {name: value for name, value in delta.items() if name not in ("content", "role")})
        _join(self.logprobs, mapping(part.get("logprobs")))
        own = ("text", "delta", "message", "logprobs")
        _join(self.rest, {name: value for name, value in part.items() if name not in own})

    def whole(self) -> dict[str, Any]:
        text = "".join(self.text)
        said = {"message": {**self.message, "content": text}} if self.chat else {"text": text}
        return {**said, **self.rest, "logprobs": self.logprobs or None}


class _Reply:
    """A reply under construction."""

    def __init__(self) -> None:
        self.top: dict[str, Any] = {}
        self.choices: dict[str, _Choice] = {}  # by their index
        self.ended = False
        self.tokens: list[Json] = []  # of servers that send one event a token: TGI, DeepInfra

    def add(self, part: dict[str, Json]) -> None:
        before, now = named(self.top), named(part)
        self.top |= {name: value for name, value in part.items() if name != "choices" and value is not None}
        if before and now and not akin(before, now):
            self.top["model"] = f"{before}, then {now}"  # which is neither
        failed = part.get("error") or part.get("object") == "error"
        self.ended = self.ended or bool(failed or part.get("details"))
        if isinstance(part.get("token"), dict):
            self.tokens.append(part["token"])
        for given in items(part.get("choices")):
            choice = mapping(given)
            self.choices.setdefault(str(choice.get("index") or 0)[:20], _Choice()).add(choice)
            self.ended = self.ended or bool(choice.get("finish_reason")) or bool(choice.get("error"))

    def whole(self) -> dict[str, Json]:
        if self.tokens and not self.choices:
            return self._by_token()
        if not self.choices:
            return self.top  # parts of another API: the last one tells the most
        return {**self.top, "choices": [self.choices[index].whole() for index in sorted(self.choices)]}

    def _by_token(self) -> dict[str, Json]:
        """TGI's reply in one piece; a text that no event holds is that of the tokens that are not special."""
        shown = [mapping(token) for token in self.tokens]
        text = "".join(string(token.get("text")) or "" for token in shown if not token.get("special"))
        return {
            "generated_text": text,
            **{name: value for name, value in self.top.items() if name != "token"},
            "details": {**mapping(self.top.get("details")), "tokens": self.tokens},
        }


def _join(into: dict[str, Any], more: dict[str, Json]) -> None:
    """Add a part's fields: lists and texts go on, anything else is replaced unless it is null."""
    for name, value in more.items():
        held = into.get(name)
        if isinstance(value, list) and isinstance(held, list):
            held.extend(value)
        elif isinstance(value, list):
            into[name] = list(value)
        elif isinstance(value, str) and isinstance(held, str) and name != "finish_reason":
            into[name] = held + value
        elif value is not None:
            into[name] = value
