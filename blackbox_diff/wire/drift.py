"""Has the endpoint changed under way? Hosts swap backends without a word; a run should say so."""

from __future__ import annotations

from blackbox_diff.records import Completion, EndpointProfile, Refusal


def drift(outcome: Completion | Refusal, profile: EndpointProfile) -> str | None:
    """A warning where a reply no longer looks like the endpoint that was probed, else None."""
    if isinstance(outcome, Refusal):
        if outcome.reason in ("no_logprobs", "zero_logprobs"):
            return f"{profile.model}: replies came without usable logprobs after the probe found them"
        return None
    if profile.fingerprint and outcome.fingerprint and outcome.fingerprint != profile.fingerprint:
        return f"{profile.model}: the fingerprint changed from {profile.fingerprint!r} to {outcome.fingerprint!r}"
    if profile.token_ids and outcome.tokens.ends.size and outcome.ids is None and outcome.decode != "placed":
        if "merged_characters" in outcome.notes:
            return None
        return f"{profile.model}: replies stopped carrying token ids"
    return None
