"""Draw the built-in background: ordinary assistant text, written by the bundled models themselves.

    python -m benchmarks.make_background

SmolLM2-135M-Instruct through its chat template, and Gemma 3 270M, which has none, as the assistant of a written
dialogue, at temperature 1: they answer the usual first messages of a chat and openings of the built-in corpora,
and go on with openings as their own. One text a line, as JSON strings, sorted, with the licence beside them.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import httpx2

from blackbox_diff.prefills.sampling import draw
from blackbox_diff.records import CHAT_SYSTEM, CHAT_USER
from blackbox_diff.run.local import serve

CHAT_MODEL, PLAIN_MODEL = "smollm2-135m-instruct", "gemma-3-270m"
OUT = Path(__file__).resolve().parent.parent / "blackbox_diff" / "analysis" / "ordinary"
FIRST_MESSAGES = (
    "Hello!",
    "Hi, how are you?",
    CHAT_USER,
    "Who are you?",
    "What can you do?",
    "Can you help me?",
    "I have a question.",
    "Tell me about yourself.",
    "Tell me something interesting.",
    "What do you think?",
    "Give me some advice.",
    "Explain something to me.",
    "Write a short story.",
    "Write some code for me.",
    "Help me plan my week.",
    "What is the news today?",
)
MAX_TOKENS = 64
AT_ONCE = 32
SEED = 16
LICENCE = """\
{n:,} texts, {size:,} bytes packed, written by two models for blackbox-diff (python -m benchmarks.make_background):

{chat:,} by SmolLM2-135M-Instruct (Hugging Face, Apache License 2.0, which lays no claim to what the model writes);
{plain:,} by Gemma 3 270M (Google, Gemma Terms of Use, under which Google claims no rights in outputs).

The prompts are openings of the corpora prose and code (licences in blackbox_diff/prefills/corpora) and sixteen
usual first messages. The texts are part of blackbox-diff and under its licence, Apache 2.0.
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """What the user says, and how the assistant's answer begins."""

    user: str
    begun: str = ""


def turns(answers: int, repeats: int) -> list[Turn]:
    """Openings that the assistant answers, two of prose for one of code, as many that it goes on with, and the
    first messages."""
    openings = (
        draw("prose", 4 * answers, SEED)[: 2 * (2 * answers // 3)]
        + draw("code", 4 * answers, SEED)[: 2 * (answers // 3)]
    )
    asked, begun = openings[::2], openings[1::2]
    return [
        *map(Turn, asked),
        *(Turn(CHAT_USER, opening) for opening in begun),
        *(Turn(message) for message in FIRST_MESSAGES for _ in range(repeats)),
    ]


def chat_body(turn: Turn, seed: int) -> dict[str, object]:
    messages = [{"role": "system", "content": CHAT_SYSTEM}, {"role": "user", "content": turn.user}]
    if turn.begun:
        messages.append({"role": "assistant", "content": turn.begun})
    return {
        "model": CHAT_MODEL,
        "messages": messages,
        "max_tokens": MAX_TOKENS,
        "seed": seed,
        "add_generation_prompt": not turn.begun,
        "continue_final_message": bool(turn.begun),
    }


def plain_body(turn: Turn, seed: int) -> dict[str, object]:
    prompt = f"{CHAT_SYSTEM}\n\nUser: {turn.user}\n\nAssistant:{' ' if turn.begun else ''}{turn.begun}"
    return {"model": PLAIN_MODEL, "prompt": prompt, "max_tokens": MAX_TOKENS, "seed": seed, "stop": "\nUser:"}


async def written(url: str, path: str, bodies: Sequence[dict[str, object]]) -> list[str]:
    free = asyncio.Semaphore(AT_ONCE)
    async with httpx2.AsyncClient(timeout=600) as client:

        async def one(body: dict[str, object]) -> str:
            async with free:
                reply = await client.post(f"{url}{path}", json=body)
            reply.raise_for_status()
            choice = reply.json()["choices"][0]
            return str(choice["message"]["content"] if "message" in choice else choice["text"]).strip()

        return [text for text in await asyncio.gather(*map(one, bodies)) if text]


@click.command(help=__doc__)
@click.option("--answers", default=150, show_default=True, help="Openings that the chat model answers.")
@click.option("--repeats", default=8, show_default=True, help="Answers to each first message.")
def main(answers: int, repeats: int) -> None:
    with serve([part for model in (CHAT_MODEL, PLAIN_MODEL) for part in ("--model", f"{model}={model}")]) as url:
        bodies = [chat_body(turn, k) for k, turn in enumerate(turns(answers, repeats))]
        chat = asyncio.run(written(url, "/chat/completions", bodies))
        bodies = [plain_body(turn, k) for k, turn in enumerate(turns(answers // 3, repeats // 2))]
        plain = asyncio.run(written(url, "/completions", bodies))
    texts = sorted({*chat, *plain})
    lines = "".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts)
    packed = gzip.compress(lines.encode(), compresslevel=9, mtime=0)
    OUT.mkdir(exist_ok=True)
    (OUT / "assistant.jsonl.gz").write_bytes(packed)
    (OUT / "assistant.LICENSE").write_text(
        LICENCE.format(n=len(texts), size=len(packed), chat=len({*chat}), plain=len({*plain} - {*chat})), "utf-8"
    )
    click.echo(f"{len(texts):,} texts, {len(packed):,} bytes")


if __name__ == "__main__":
    main()
