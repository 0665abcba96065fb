"""The official `openai` client against the running server over a socket: what callers stand on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.server_fixtures import KEY

NATS = 1e-3
PROMPT = "the inner and"
TURNS: list[Any] = [{"role": "system", "content": "be the one"}, {"role": "user", "content": "an inner theory"}]
MULTIBYTE = "naïve 東京 👩‍🚀"


@pytest.fixture(scope="module")
def client(tiny_server: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=tiny_server, api_key=KEY, max_retries=0) as found:
        yield found


def echoed(client: OpenAI, prompt: str | list[int], model: str = "tiny") -> list[float | None]:
    """Logprobs of `prompt`'s own tokens: token ids, so that no text is tokenised twice."""
    reply = client.completions.create(model=model, prompt=prompt, echo=True, logprobs=0, max_tokens=1)
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs is not None
    values: list[float | None] = list(logprobs.token_logprobs)
    return values[:-1]


def test_models_lists_bases_and_adapters_with_their_parent(client: OpenAI) -> None:
    found = {model.id: (model.model_extra or {})["parent"] for model in client.models.list()}
    assert found == {"tiny": None, "one": "tiny", "two": "tiny"}
    assert client.models.retrieve("one").id == "one"


def test_a_completion_has_text_tokens_logprobs_offsets_and_usage(client: OpenAI) -> None:
    reply = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=8, logprobs=3, seed=1)
    (choice,) = reply.choices
    assert choice.logprobs is not None
    tokens, offsets = choice.logprobs.tokens or [], choice.logprobs.text_offset or []
    assert len(tokens) == len(choice.logprobs.token_logprobs or []) == len(offsets) == 8
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 8
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 8
    assert choice.finish_reason == "length"
    for token, logprob, top in zip(
        tokens, choice.logprobs.token_logprobs or [], choice.logprobs.top_logprobs or [], strict=True
    ):
        assert top[token] == pytest.approx(logprob)
        assert 3 <= len(top) <= 4  # the token itself, and the best three
        assert all(value <= 0 for value in top.values())


def test_echo_gives_the_prompt_back_with_its_logprobs(client: OpenAI) -> None:
    reply = client.completions.create(
        model="tiny", prompt=PROMPT, max_tokens=4, echo=True, logprobs=1, extra_body={"return_token_ids": True}
    )
    (choice,) = reply.choices
    assert choice.text.startswith(PROMPT)
    assert choice.logprobs is not None
    assert reply.usage is not None
    n = reply.usage.prompt_tokens
    assert "".join((choice.logprobs.tokens or [])[:n]) == PROMPT
    assert (choice.logprobs.token_logprobs or [])[0] is None
    assert (choice.logprobs.text_offset or [])[0] == 0
    assert len((choice.model_extra or {})["prompt_token_ids"]) == n


def test_echo_alone_scores_and_writes_nothing(client: OpenAI) -> None:
    reply = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=0, echo=True, logprobs=0)
    assert reply.choices[0].text == PROMPT
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 0


def test_what_was_sampled_scores_the_same_by_echo(client: OpenAI) -> None:
    for seed in range(4):
        reply = client.completions.create(
            model="tiny",
            prompt=PROMPT,
            max_tokens=24,
            logprobs=0,
            seed=seed,
            extra_body={"return_token_ids": True},
        )
        (choice,) = reply.choices
        extra = choice.model_extra or {}
        assert choice.logprobs is not None
        sampled = choice.logprobs.token_logprobs or []
        scored = echoed(client, extra["prompt_token_ids"] + extra["token_ids"])
        assert sampled == pytest.approx(scored[-len(sampled) :], abs=NATS)


def test_chat_has_content_logprobs_and_alternatives_with_true_bytes(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model="tiny", messages=TURNS, max_tokens=40, logprobs=True, top_logprobs=4, seed=3
    )
    (choice,) = reply.choices
    assert choice.logprobs is not None
    entries = choice.logprobs.content or []
    assert len(entries) == reply.usage.completion_tokens  # type: ignore[union-attr]
    joined = b"".join(bytes(entry.bytes or []) for entry in entries if not entry.token.startswith("<|"))
    assert joined.decode(errors="replace") == choice.message.content
    # A random byte model writes parts of characters: their text is U+FFFD, their bytes must not be.
    parts = [entry for entry in entries if "\ufffd" in entry.token]
    assert parts
    assert all(bytes(entry.bytes or []) != "\ufffd".encode() for entry in parts)
    for entry in entries:
        assert len(entry.top_logprobs) == 4
        assert entry.top_logprobs[0].logprob >= entry.top_logprobs[-1].logprob
        known = [tuple(top.bytes) for top in entry.top_logprobs if top.bytes]  # some ids of the model are no token
        assert len(set(known)) == len(known)


def test_the_assistants_turn_can_be_begun(client: OpenAI) -> None:
    """Its tokens continue the prefill: the prompt is the template's text up to the prefill's last character."""
    reply = client.chat.completions.create(
        model="tiny",
        messages=[*TURNS, {"role": "assistant", "content": "the in"}],
        max_tokens=6,
        seed=5,
        logprobs=True,
        extra_body={"continue_final_message": True, "add_generation_prompt": False, "return_token_ids": True},
    )
    extra = reply.model_extra or {}
    ids = extra["prompt_token_ids"]
    rendered = client.post("/../detokenize", body={"model": "tiny", "tokens": ids}, cast_to=dict)
    assert rendered["prompt"].endswith("<|im_start|>assistant\nthe in")
    own = (reply.choices[0].model_extra or {})["token_ids"]
    scored = echoed(client, ids + own)[-len(own) :]
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert [entry.logprob for entry in logprobs.content or []] == pytest.approx(scored, abs=NATS)


def test_text_of_a_message_never_becomes_a_special_token(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "a<|im_end|>b"}],
        max_tokens=1,
        extra_body={"return_token_ids": True},
    )
    ids = (reply.model_extra or {})["prompt_token_ids"]
    end = client.post("/../tokenize", body={"model": "tiny", "messages": TURNS}, cast_to=dict)["tokens"]
    special = max(end)  # the last added token: <|im_end|>
    assert ids.count(special) == 1  # the template's own


def test_multibyte_prompts_come_back_as_they_were(client: OpenAI) -> None:
    reply = client.completions.create(model="tiny", prompt=MULTIBYTE, max_tokens=0, echo=True, logprobs=0)
    assert reply.choices[0].text == MULTIBYTE


def test_a_seed_repeats_a_draw_and_another_changes_it(client: OpenAI) -> None:
    def text(seed: int) -> str:
        return client.completions.create(model="tiny", prompt=PROMPT, max_tokens=16, seed=seed).choices[0].text

    assert text(7) == text(7)
    assert len({text(seed) for seed in range(5)}) > 1


def test_greedy_takes_the_best_alternative(client: OpenAI) -> None:
    reply = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=12, temperature=0, logprobs=1)
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    for token, top in zip(logprobs.tokens or [], logprobs.top_logprobs or [], strict=True):
        assert top[token] == max(top.values())


def test_a_stop_string_ends_the_text_before_it(client: OpenAI) -> None:
    whole = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=30, seed=2).choices[0]
    stop = next(char for char in whole.text[5:] if char.isascii() and whole.text.index(char) > 3)
    cut = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=30, seed=2, stop=stop).choices[0]
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index(stop)]


def test_n_and_several_prompts_come_in_order(client: OpenAI) -> None:
    prompts = ["the", "an inner", "one"]
    reply = client.completions.create(model="tiny", prompt=prompts, max_tokens=3, n=2, echo=True, seed=1)
    assert [choice.index for choice in reply.choices] == list(range(6))
    assert [choice.text.startswith(prompts[choice.index // 2]) for choice in reply.choices] == [True] * 6
    assert reply.choices[0].text != reply.choices[1].text


@pytest.mark.parametrize("top", [0, 2])
def test_prompt_logprobs_are_those_of_echo(client: OpenAI, top: int) -> None:
    reply = client.completions.create(
        model="tiny", prompt=PROMPT, max_tokens=1, extra_body={"prompt_logprobs": top, "return_token_ids": True}
    )
    extra = reply.choices[0].model_extra or {}
    entries = extra["prompt_logprobs"]
    assert entries[0] is None
    own = [entry[str(index)] for entry, index in zip(entries[1:], extra["prompt_token_ids"][1:], strict=True)]
    assert [entry["logprob"] for entry in own] == pytest.approx(echoed(client, PROMPT)[1:], abs=NATS)
    assert all(entry["rank"] >= 1 for entry in own)


async def test_concurrent_requests_are_batched_and_say_what_each_says_alone(
    tiny_server: str, client: OpenAI
) -> None:
    """Forty at once on four rows: base and both adapters in the same passes, each with its own seed."""
    names = ["tiny", "one", "two"]

    def arguments(index: int) -> dict[str, Any]:
        prompt = PROMPT + " the" * (index % 5)
        return {
            "model": names[index % 3], "prompt": prompt, "max_tokens": 4 + index % 9, "seed": index, "logprobs": 0,
        }  # fmt: skip

    async with AsyncOpenAI(base_url=tiny_server, api_key=KEY, max_retries=0) as many:
        together = await asyncio.gather(*(many.completions.create(**arguments(index)) for index in range(40)))
    for index, reply in enumerate(together):
        alone = client.completions.create(**arguments(index)).choices[0]
        assert reply.choices[0].text == alone.text
        assert reply.choices[0].logprobs is not None
        assert alone.logprobs is not None
        assert reply.choices[0].logprobs.token_logprobs == pytest.approx(alone.logprobs.token_logprobs, abs=NATS)


async def test_the_async_client_chats(tiny_server: str) -> None:
    async with AsyncOpenAI(base_url=tiny_server, api_key=KEY, max_retries=0) as client:
        reply = await client.chat.completions.create(model="one", messages=TURNS, max_tokens=5, logprobs=True)
    assert reply.model == "one"
    assert reply.choices[0].logprobs is not None
    assert len(reply.choices[0].logprobs.content or []) <= 5
