"""Which dialect an endpoint most likely speaks, from its address and what it says about itself."""

from __future__ import annotations

from dataclasses import dataclass

from blackbox_diff.records import RawReply
from blackbox_diff.wire.body import items, mapping, one_line, string
from blackbox_diff.wire.hosts import by_host
from blackbox_diff.wire.reply_json import value_of

OWNERS = {
    "vllm": "vllm",
    "sglang": "sglang",
    "llamacpp": "llamacpp",
    "library": "ollama",
    "me": "llamacpp_python",
    "lmdeploy": "lmdeploy",
    "tensorrt_llm": "tensorrt_llm",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """models: ids that the endpoint lists, empty where it lists none. parent: the adapter's base model."""

    dialect: str
    engine: str
    models: tuple[str, ...] = ()
    parent: str | None = None


def identify(base_url: str, model: str, reply: RawReply | None) -> Identity:
    """The identity of the endpoint at `base_url`; `reply` is its answer to GET /models, if it gave one."""
    listed = items(mapping(value_of(reply)).get("data")) if reply is not None and reply.status == 200 else []
    entries = [mapping(entry) for entry in listed[:10_000]]
    names = tuple(name for entry in entries if (name := string(entry.get("id"))) is not None)
    own = next((entry for entry in entries if entry.get("id") == model), entries[0] if entries else {})
    owner = (string(own.get("owned_by")) or "").lower()
    server = reply.headers.get("server", "") if reply is not None else ""
    parent = string(own.get("parent")) if own.get("id") == model else None
    found = by_host(base_url) or OWNERS.get(owner) or ("llamacpp" if server == "llama.cpp" else None)
    return Identity(found or "generic", one_line(owner or server, 40) or "unknown", names, parent)
