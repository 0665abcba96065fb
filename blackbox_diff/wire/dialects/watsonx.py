"""IBM watsonx.ai's text generation. Read from its Node SDK 1.7's types; not called live.

- POST /ml/v1/text/generation?version=... {model_id, project_id | space_id, input, parameters} for IBM's models;
  /ml/v1/deployments/ID/text/generation {input, parameters} for a customer's own deployment, whose id is the
  model's name. A model's id has a slash, a deployment's has none. The project is given as the provider
  (--target-provider), `space:ID` for a space.
- The key is an IAM access token, which is good for an hour; an API key is no key here.
- parameters.return_options: generated_tokens and input_tokens, each {text, logprob, rank, top_tokens[{text,
  logprob}]}. At most 5 alternatives, more at a tie. The first input token has no logprob.
- Token texts are the vocabulary's own spelling, such as `▁day` or `Ġday`. No ids.
- Names of its own: decoding_method, random_seed, max_new_tokens; top_k from 1, so left out, which means off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import quote

from blackbox_diff.records import Call, EndpointProfile, Framing, Json, Sampling, Usage
from blackbox_diff.wire.body import items, mapping, string
from blackbox_diff.wire.completion import Meta
from blackbox_diff.wire.counts import read_usage
from blackbox_diff.wire.dialects.base import ScoreItem, root_url, score_prefix, without
from blackbox_diff.wire.dialects.native import Native, Told
from blackbox_diff.wire.entries import Entries, from_records
from blackbox_diff.wire.identity import named

VERSION = "2024-05-31"  # of the contract that is spoken here
MOST_ALTERNATIVES = 5
SPACE = "space:"


class Watsonx(Native):
    name = "watsonx"
    finish: ClassVar[Mapping[str, str]] = {
        "max_tokens": "length",
        "token_limit": "length",
        "eos_token": "stop",
        "stop_sequence": "stop",
        "time_limit": "timeout",
        "not_finished": "aborted",
    }

    def sample(
        self, profile: EndpointProfile, prefill: str, framing: Framing, sampling: Sampling, seed: int | None
    ) -> Call:
        pinned = profile.logprobs == "processed"
        parameters: dict[str, Json] = {"decoding_method": "greedy"}
        if sampling.temperature > 0:
            parameters = {
                "decoding_method": "sample",
                "temperature": 1.0 if pinned else sampling.temperature,
                "top_p": 1.0 if pinned else sampling.top_p,
            }
        if seed is not None:
            parameters["random_seed"] = seed
        top = self.top(profile, sampling, floor=0)
        return self.generation(profile, prefill, sampling.max_tokens, parameters, top, scores=False)

    def score(self, profile: EndpointProfile, item: ScoreItem) -> Call:
        text = score_prefix(item, self.context(profile, item)) + item.text
        top = self.scored_top(profile, item)
        return self.generation(profile, text, 1, {"decoding_method": "greedy"}, top, scores=True)

    def generation(
        self,
        profile: EndpointProfile,
        text: str,
        max_tokens: int,
        parameters: dict[str, Json],
        top: int,
        *,
        scores: bool,
    ) -> Call:
        options = {
            "input_text": False,
            "input_tokens": scores,
            "generated_tokens": True,
            "token_logprobs": True,
            "top_n_tokens": min(top, MOST_ALTERNATIVES),
        }
        wanted = {"max_new_tokens": max_tokens, "min_new_tokens": 0, "repetition_penalty": 1.0, **parameters}
        wanted = without(wanted, profile.dropped) | {"return_options": options}
        route = "/text/generation"
        body: dict[str, Json] = {}
        if "/" in profile.model:
            body = {"model_id": profile.model, **owner(profile.provider)}
        else:
            route = f"/deployments/{quote(profile.model, safe='')}{route}"
        body |= {"input": text, "parameters": wanted}
        return Call(route, body, f"{root_url(profile.base_url)}/ml/v1{route}?version={VERSION}")

    def told(self, body: dict[str, Json]) -> Told:
        results = items(body.get("results"))
        result = mapping(results[0]) if results else {}
        return Told(
            string(result.get("generated_text")),
            _entries(result.get("generated_tokens")),
            _entries(result.get("input_tokens")),
            Meta(
                self.finish_reason((string(result.get("stop_reason")) or "").lower() or None),
                read_usage(body) if results else Usage(),
                model=named({"model": body.get("model_id")}),
            ),
        )


def owner(provider: str | None) -> dict[str, Json]:
    """Whom a request for one of IBM's models is booked to."""
    if not provider:
        return {}
    if provider.startswith(SPACE):
        return {"space_id": provider.removeprefix(SPACE)}
    return {"project_id": provider}


def _entries(rows: Json) -> Entries | None:
    found = items(rows)
    return from_records(found, [mapping(row).get("top_tokens") for row in found]) if found else None
