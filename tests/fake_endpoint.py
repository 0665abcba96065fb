"""A server with a toy language model, honest unless told to misbehave. It answers at the HTTP transport."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import pairwise
from typing import Any

import httpx2

CONTINUATION = [" Friday", ",", " 🧑‍🚀", " and", " on", " it", " goes", "."]
NEW_TURN = ["Sure", ",", " here", " is", " something", " to", " read", "."]
TEMPLATE = ["<|system|>", "You", " help", "<|user|>", "Tell", " me", "<|assistant|>"]
OTHERS = [" the", " a", " of", " x"]
VOCABULARY: dict[int, str] = {}  # of every toy: the ids that any of them gave out


def split(text: str) -> list[str]:
    return re.findall(r"<\|\w+\|>| ?\w+| ?[^\w\s]+|\s+", text)


def surprise(before: str, token: str) -> float:
    """The toy model's logprob: fixed by the two tokens alone."""
    digest = hashlib.sha256(f"{before}\0{token}".encode()).digest()
    return -0.5 - digest[0] / 64


class FakeEndpoint:
    """faults: words that name what is wrong with the server; see the tests.

    later: (calls, faults): after so many calls these are wrong with it too.
    """

    models: tuple[str, ...] = ("m",)

    def __init__(
        self, *faults: str, fields: set[str] | None = None, later: tuple[int, tuple[str, ...]] | None = None
    ) -> None:
        self.faults = set(faults)
        self.later = later
        self.fields = fields  # the only fields it takes, None for any
        self.calls: list[dict[str, Any]] = []

    def transport(self) -> httpx2.MockTransport:
        return httpx2.MockTransport(self.answer)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if "bad key" in self.faults:
            return self.error(401, "Incorrect API key provided", None)
        if request.url.path.endswith("/models"):
            return httpx2.Response(200, json={"data": [{"id": "m", "owned_by": "acme"}]})
        body = json.loads(request.content)
        self.calls.append(body)
        if self.later is not None and len(self.calls) > self.later[0]:
            self.faults |= set(self.later[1])
        problem = self.problem(request.url.path, body)
        if problem is not None:
            return problem
        headers = {"x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "499"}
        return httpx2.Response(
            200,
            json=self.reply(request.url.path, body),
            headers=headers if "limited rate" in self.faults else {},
        )

    def error(self, status: int, message: str, param: str | None) -> httpx2.Response:
        return httpx2.Response(status, json={"error": {"message": message, "param": param, "code": None}})

    def problem(self, path: str, body: dict[str, Any]) -> httpx2.Response | None:
        if body["model"] not in self.models:
            return self.error(404, f"The model `{body['model']}` does not exist", "model")
        if "busy once" in self.faults:
            self.faults.remove("busy once")
            return self.error(503, "loading", None)
        if path.endswith("/chat/completions") and "no template" in self.faults:
            return self.error(400, "m has no chat template", "messages")
        if path.endswith("/v1/completions") and "chat only" in self.faults:
            return httpx2.Response(404, json={"detail": "Not Found"})
        if "error at 200" in self.faults:
            error = {"message": "No endpoints found that support logprobs", "code": 404}
            return httpx2.Response(200, json={"error": error, "user_id": "u"})
        if self.fields is not None:
            for name in body:
                if name not in self.fields:
                    return self.error(400, f"Unrecognized request argument supplied: {name}", None)
        if "new limit field" in self.faults and "max_tokens" in body:
            return self.error(
                400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.", "max_tokens"
            )
        asked = body.get("top_logprobs", body.get("logprobs"))
        if "top five" in self.faults and isinstance(asked, int) and asked > 5:
            return self.error(400, "logprobs must be less than or equal to 5", None)
        scored = body.get("prompt_logprobs", body.get("logprobs") if body.get("echo") else None)
        if "scores list three" in self.faults and isinstance(scored, int) and scored > 3:
            return self.error(400, "prompt_logprobs: at most 3 for prompts", None)
        if "scores list one, unsaid" in self.faults and isinstance(scored, int) and scored > 1:
            return self.error(400, "Bad request", None)
        if "echo rejected" in self.faults and body.get("echo"):
            message = "Setting 'echo' and 'logprobs' at the same time is not supported for this model."
            return self.error(400, message, None)
        if "logprobs rejected" in self.faults and "logprobs" in body:
            return self.error(400, "`logprobs` is not supported with this model", "logprobs")
        return None

    def prompt(self, body: dict[str, Any]) -> list[str]:
        if "messages" not in body:
            text = body["prompt"]
            return self.spell(text) if isinstance(text, list) else split(text)
        last = body["messages"][-1]
        if last["role"] != "assistant":
            return TEMPLATE
        real = body.get("continue_final_message") and "fake prefill" not in self.faults
        return TEMPLATE + split(last["content"]) + ([] if real else ["<|end|>", "\n", "<|assistant|>"])

    def reply(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        chat = path.endswith("/chat/completions")
        prompt = self.prompt(body)
        written = self.write(prompt, body)
        echo = bool(body.get("echo")) and "echo ignored" not in self.faults
        entries = self.entries(prompt, written, body, echo)
        logprobs = self.shape(entries, chat, body)
        text = ("".join(prompt) if echo else "") + "".join(written)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length", "logprobs": logprobs}
        message = {"role": "assistant", "content": text}
        if "reasoning" in self.faults:
            message["reasoning_content"] = "The user wants me to go on."
        choice |= {"message": message} if chat else {"text": text}
        fingerprint = "other fp" if "other fingerprint" in self.faults else "fp"
        several = 1 if "one choice" in self.faults else body.get("n", 1)
        reply: dict[str, Any] = {"choices": [choice] * several, "system_fingerprint": fingerprint}
        reply["usage"] = {"prompt_tokens": len(prompt), "completion_tokens": several * len(written)}
        if "cached" in self.faults:
            reply["usage"] |= {"prompt_tokens_details": {"cached_tokens": 0}, "cost": 0.0}
        if body.get("return_token_ids") and "no ids" not in self.faults:
            choice["token_ids"] = self.ids(written)
            (reply if chat else choice)["prompt_token_ids"] = self.ids(prompt)
        if body.get("prompt_logprobs") and "no prompt logprobs" not in self.faults:
            reply["prompt_logprobs"] = [None, *self.rows(prompt)]
        return reply

    def write(self, prompt: list[str], body: dict[str, Any]) -> list[str]:
        limit = body.get("max_tokens", body.get("max_completion_tokens", 8))
        written = (NEW_TURN if prompt[-1] == "<|assistant|>" else CONTINUATION)[:limit]
        if "no seed" in self.faults and body["temperature"] == 1.0 and not body.get("echo"):
            written = [*written[: len(self.calls) % 3], *OTHERS][:limit]
        return written

    def ids(self, tokens: list[str]) -> list[int]:
        found = [int.from_bytes(hashlib.sha256(token.encode()).digest()[:5]) for token in tokens]
        VOCABULARY.update(zip(found, tokens, strict=True))
        return found

    def spell(self, numbers: list[int]) -> list[str]:
        return [VOCABULARY[number] for number in numbers]

    def rows(self, prompt: list[str]) -> list[dict[str, Any]]:
        wrong = "off by one" in self.faults
        return [
            {
                str(self.ids([token])[0]): {
                    "logprob": surprise(token if wrong else before, token),
                    "decoded_token": token,
                }
            }
            for before, token in pairwise(prompt)
        ]

    def entries(
        self, prompt: list[str], written: list[str], body: dict[str, Any], echo: bool
    ) -> list[tuple[str, float | None, dict[str, float]]]:
        tokens = [*prompt, *written]
        start = 0 if echo else len(prompt)
        found: list[tuple[str, float | None, dict[str, float]]] = []
        for index in range(start, len(tokens)):
            before = tokens[index - 1] if index else ""
            if "off by one" in self.faults and echo:
                before = tokens[index]
            scale = 1 / body["temperature"] if "processed" in self.faults and body["temperature"] else 1.0
            shift = 0.02 * (len(self.calls) % 2) if "noisy" in self.faults else 0.0
            shift += 0.3 if "other model" in self.faults else 0.0
            listed = self.listed(body["model"], before)
            top = {token: scale * value - shift for token, value in listed.items()}
            value = scale * self.logprob(body["model"], before, tokens[index]) - shift
            top |= {tokens[index]: value} if tokens[index] in top else {}
            found.append((tokens[index], None if index == 0 else value, top))
        return found

    def listed(self, model: str, before: str) -> dict[str, float]:
        return {token: surprise(before, token) - 2 for token in OTHERS}

    def logprob(self, model: str, before: str, token: str) -> float:
        return surprise(before, token)

    def shape(
        self, entries: list[tuple[str, float | None, dict[str, float]]], chat: bool, body: dict[str, Any]
    ) -> dict[str, Any] | None:
        if "no logprobs" in self.faults or not body.get("logprobs"):
            return None
        values: list[Any] = [value for _, value, _ in entries]
        if "zeros" in self.faults:
            values = [0.0] * len(values)
        if "placeholders" in self.faults:
            values = [0.0 if i % 2 else -9999.0 for i in range(len(values))]
        if "logits" in self.faults:
            entries = [(token, value, dict.fromkeys(top, 12.5)) for token, value, top in entries]
            values = [None if value is None else value + 9 for value in values]
        tokens = [token for token, _, _ in entries]
        if "lost bytes" in self.faults:
            tokens = [re.sub(r"[^\x00-\x7f]", "\ufffd", token) for token in tokens]
        count = body.get("top_logprobs", body["logprobs"]) if chat else body["logprobs"]
        tops = [dict(list(top.items())[: int(count)]) for _, _, top in entries]
        if not chat:
            return {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops}
        return {
            "content": [
                {
                    "token": token,
                    "logprob": value,
                    "bytes": list(token.encode()),
                    "top_logprobs": [
                        {"token": t, "logprob": v, "bytes": list(t.encode())} for t, v in top.items()
                    ],
                }
                for token, value, top in zip(tokens, values, tops, strict=True)
            ]
        }
