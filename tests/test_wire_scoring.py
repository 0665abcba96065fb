"""A given text's logprobs, located in what servers echo."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_diff.records import EndpointProfile, ReferenceScore, Refusal
from blackbox_diff.wire import DIALECTS, ScoreItem
from tests.replies import entry, legacy, raw

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\ufffd\\"), min_size=1, max_size=12)


def profile(dialect: str, **changes: Any) -> EndpointProfile:
    given_: dict[str, Any] = {"base_url": "http://s/v1", "model": "m", "dialect": dialect, "scoring": "echo"}
    return EndpointProfile(**{**given_, **changes})


def score(body: Any, item: ScoreItem, dialect: str = "vllm", **changes: Any) -> ReferenceScore | Refusal:
    at = profile(dialect, **changes)
    speaks = DIALECTS[dialect]
    return speaks.read_score(raw(body), call=speaks.score(at, item), profile=at, item=item)


def scored(body: Any, item: ScoreItem, dialect: str = "vllm", **changes: Any) -> list[tuple[int, float]]:
    found = score(body, item, dialect, **changes)
    assert isinstance(found, ReferenceScore), found
    return list(zip(found.tokens.ends.tolist(), found.tokens.logprobs.tolist(), strict=True))


def reason(body: Any, item: ScoreItem, dialect: str = "vllm", **changes: Any) -> str:
    found = score(body, item, dialect, **changes)
    assert isinstance(found, Refusal), found
    return found.reason


def echo(tokens: list[str], logprobs: list[Any], **more: Any) -> dict[str, Any]:
    return legacy("".join(tokens), tokens, logprobs, **more)


ITEM = ScoreItem("A wet", "raw", " day in May")
TOKENS = ["A", " wet", " day", " in", " May", "."]
VALUES = [None, -4.0, -1.0, -2.0, -3.0, -0.5]


def usage(prompt: int, completion: int = 1) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def test_the_text_is_the_suffix_and_the_generated_token_is_cut() -> None:
    assert scored(echo(TOKENS, VALUES, **usage(5)), ITEM) == [(4, -1.0), (7, -2.0), (11, -3.0)]


def test_without_usage_the_generated_token_is_still_cut() -> None:
    assert scored(echo(TOKENS, VALUES), ITEM) == [(4, -1.0), (7, -2.0), (11, -3.0)]


def test_a_server_that_drops_the_generated_token_is_read_too() -> None:
    assert scored(echo(TOKENS[:5], VALUES[:5]), ITEM) == [(4, -1.0), (7, -2.0), (11, -3.0)]


def test_text_that_repeats_at_the_end_is_not_shifted() -> None:
    item = ScoreItem("a", "raw", " a a")
    body = echo(["a", " a", " a", " a"], [None, -1.0, -2.0, -3.0], **usage(3))
    assert scored(body, item) == [(2, -1.0), (4, -2.0)]
    assert scored(echo(["a", " a", " a", " a"], [None, -1.0, -2.0, -3.0]), item) == [(2, -1.0), (4, -2.0)]


def test_a_start_token_is_passed_over() -> None:
    assert scored(echo(["<bos>", *TOKENS], [None, -9.0, *VALUES[1:]]), ITEM)[0] == (4, -1.0)


def test_a_second_start_token_is_refused() -> None:
    assert reason(echo(["<bos>", "<bos>", *TOKENS], [None, -1.0, *VALUES]), ITEM) == "double_bos"


def test_a_token_across_the_join_keeps_its_bytes_and_loses_its_number() -> None:
    found = scored(echo(["A", " we", "t day", " in", " May", "."], VALUES), ITEM)
    assert found[0][0] == 4
    assert np.isnan(found[0][1])
    assert found[1:] == [(7, -2.0), (11, -3.0)]


def test_an_echo_that_was_ignored_is_named() -> None:
    assert reason(legacy(" and", [" and"], [-1.0]), ITEM) == "echo_ignored"


def test_an_echo_of_other_text_is_refused() -> None:
    assert reason(echo(["B", *TOKENS[1:]], VALUES), ITEM) == "echo_misaligned"
    assert reason(echo(["A", " wet", " day", " in", " June", "."], VALUES), ITEM) == "echo_misaligned"


def test_an_echo_without_its_first_token_is_read() -> None:
    content = [entry(token, value) for token, value in zip(TOKENS[1:5], VALUES[1:5], strict=True)]
    body = {"choices": [{"text": "A wet day in May", "logprobs": {"content": content}}]}
    assert scored(body, ITEM, "fireworks") == [(4, -1.0), (7, -2.0), (11, -3.0)]


def test_zeros_are_no_score() -> None:
    assert reason(echo(TOKENS, [None, 0, 0, 0, 0, 0]), ITEM) == "zero_logprobs"


@pytest.mark.parametrize("bad", [-9999.0, None, float("nan"), 3.5, -3.4028234663852886e38, -100.0, "x"])
def test_placeholders_in_an_echo_are_refused_and_not_averaged(bad: Any) -> None:
    body = json.dumps(echo(TOKENS, [None, -4.0, -1.0, bad, -3.0, -0.5])).encode()
    assert reason(body, ITEM) == "missing_logprobs"


def test_prompt_logprobs_pick_the_prompts_token_by_its_id() -> None:
    rows: list[Any] = [None]
    for number, (token, value) in enumerate(zip(TOKENS[1:5], VALUES[1:5], strict=True), start=1):
        best = {"logprob": -0.01, "rank": 1, "decoded_token": "best"}
        rows.append({"999": best, str(number): {"logprob": value, "rank": 7, "decoded_token": token}})
    body = {
        "choices": [{"message": {"content": "x"}, "logprobs": None}],
        "prompt_logprobs": rows,
        "prompt_token_ids": [0, 1, 2, 3, 4],
        **usage(5),
    }
    item = ScoreItem(" wet", "chat", " day in May")
    assert scored(body, item, scores_template=True) == [(4, -1.0), (7, -2.0), (11, -3.0)]


def test_white_space_that_the_template_trims_has_no_number() -> None:
    rows: list[Any] = [
        None,
        *({str(i): {"logprob": -1.0, "decoded_token": t}} for i, t in enumerate(["Hi", " you"])),
    ]
    body = {"choices": [{"message": {"content": "x"}}], "prompt_logprobs": rows, **usage(3)}
    found = score(body, ScoreItem("Hi", "chat", " you \n"), scores_template=True)
    assert isinstance(found, ReferenceScore)
    assert found.tokens.ends.tolist() == [4, 6]
    assert found.tokens.logprobs[0] == -1.0
    assert np.isnan(found.tokens.logprobs[1])
    assert found.context == "template"


def test_ids_are_scored_by_their_count() -> None:
    item = ScoreItem("A wet", "chat", " day in May", (7, 8), (9, 10, 11))
    found = score(echo(TOKENS, VALUES), item, id_prompts=True)
    assert isinstance(found, ReferenceScore)
    assert found.context == "ids"
    assert found.tokens.logprobs.tolist() == [-1.0, -2.0, -3.0]


def test_ids_that_came_back_in_another_number_are_refused() -> None:
    item = ScoreItem("A wet", "chat", " day in May", (7, 8), (9, 10, 11))
    assert reason(echo(TOKENS[:4], VALUES[:4]), item, id_prompts=True) == "too_many_ids"


def test_ids_that_spell_another_text_are_refused() -> None:
    item = ScoreItem("A wet", "chat", " day in June", (7, 8), (9, 10, 11))
    assert reason(echo(TOKENS, VALUES), item, id_prompts=True) == "echo_misaligned"


def test_sglang_triples_are_read() -> None:
    rows = [
        [value, number, token] for number, (value, token) in enumerate(zip(VALUES[:5], TOKENS[:5], strict=True))
    ]
    body = {"text": ".", "meta_info": {"prompt_tokens": 5, "input_token_logprobs": rows}}
    assert scored(body, ITEM, "sglang", scoring="generate") == [(4, -1.0), (7, -2.0), (11, -3.0)]


def test_togethers_separate_prompt_is_read() -> None:
    lists = {"tokens": TOKENS[:5], "token_logprobs": VALUES[:5], "token_ids": [1.0, 2.0, 3.0, 4.0, 5.0]}
    body = {"prompt": [{"text": "A wet day in May", "logprobs": lists}], "choices": [{"text": "."}], **usage(5)}
    assert scored(body, ITEM, "together") == [(4, -1.0), (7, -2.0), (11, -3.0)]


def test_tgis_prefill_details_are_read() -> None:
    rows = [
        {"id": 1, "text": token, "logprob": value} for token, value in zip(TOKENS[:5], VALUES[:5], strict=True)
    ]
    body = {"generated_text": ".", "details": {"prefill": rows, "tokens": []}}
    assert scored(body, ITEM, "tgi", scoring="generate") == [(4, -1.0), (7, -2.0), (11, -3.0)]


def test_an_error_at_status_200_is_a_refusal() -> None:
    assert reason({"error": {"code": 400, "message": "no"}}, ITEM) == "error_reply"


@given(TEXT, TEXT, st.integers(0, 3), st.randoms(use_true_random=False))
def test_any_cut_covers_exactly_the_text(prefill: str, text: str, start: int, random: Any) -> None:
    whole = prefill + text
    edges = sorted({0, len(whole), *(random.randrange(len(whole) + 1) for _ in range(6))})
    tokens = [whole[a:b] for a, b in pairwise(edges)]
    specials = ["<s>", "<|x|>", "<bos>"][:start]
    values = [None, *([-1.0] * (len(tokens) + len(specials)))]
    body = echo([*specials, *tokens, "!"], values[: len(tokens) + len(specials) + 1])
    found = score(body, ScoreItem(prefill, "raw", text))
    if isinstance(found, Refusal):
        assert found.reason in ("missing_logprobs", "echo_misaligned", "double_bos")
        return
    assert found.tokens.ends[-1] == len(text.encode())
    assert (np.diff(found.tokens.ends) > 0).all()
