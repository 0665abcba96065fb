"""Has the endpoint changed under way? Hosts swap backends without a word; a run should say so."""

from __future__ import annotations

from blackbox_diff.records import Completion, EndpointProfile, Lost, ReferenceScore, Refusal
from blackbox_diff.wire.body import one_line

BROKEN = {
    "no_logprobs": "replies came without logprobs after the probe found them",
    "zero_logprobs": "replies came with logprobs of 0 that stand for no number, after the probe found real ones",
    "constant_logprobs": "replies came with one logprob for every token, after the probe found real ones",
    "contradicted_logprobs": "replies came with logprobs that their own alternatives contradict, after the probe",
    "echo_ignored": "texts to score were ignored after the probe saw them scored",
}


def drift(outcome: Completion | Refusal | Lost | ReferenceScore, profile: EndpointProfile) -> str | None:
    """A warning where a reply no longer looks like the endpoint that was probed, else None."""
    if isinstance(outcome, Refusal):
        found = outcome.advice if outcome.reason == "other_model" else BROKEN.get(outcome.reason)
    elif isinstance(outcome, Completion):
        found = _changed(outcome, profile)
    else:
        found = None
    return found and f"{one_line(profile.model, 60)}: {found}"


def _changed(outcome: Completion, profile: EndpointProfile) -> str | None:
    if profile.fingerprint and outcome.fingerprint and outcome.fingerprint != profile.fingerprint:
        old, new = one_line(profile.fingerprint, 60), one_line(outcome.fingerprint, 60)
        return f"the fingerprint changed from {old!r} to {new!r}"
    if profile.answers_as and outcome.model is None:
        return "replies stopped naming their model"
    merged = "merged_characters" in outcome.notes
    if (
        profile.token_ids
        and len(outcome.tokens)
        and outcome.ids is None
        and outcome.decode != "placed"
        and not merged
    ):
        return "replies stopped carrying token ids"
    return None
