"""The probe's conclusion in one sentence that a person understands."""

from __future__ import annotations

from typing import Literal

from blackbox_diff.records import Check, EndpointProfile
from blackbox_diff.wire.identity import alias


def verdict(profile: EndpointProfile, purpose: Literal["target", "reference"]) -> EndpointProfile:
    """The profile with `auditable` and `verdict` filled in from what was found."""
    auditable = bool(profile.framings())
    sentence = _as_target(profile, auditable) if purpose == "target" else _as_reference(profile)
    doubt = alias(profile)
    sentence = f"{sentence}; but {doubt}" if doubt else sentence
    return profile.model_copy(update={"auditable": auditable, "verdict": sentence})


def _as_target(profile: EndpointProfile, auditable: bool) -> str:
    if not auditable:
        why = _reasons(profile.checks, ("normalised", "raw completions", "chat"))
        return f"can't be audited: {why}"
    ways = []
    if profile.raw:
        ways.append("raw completions")
    if profile.prefill:
        ways.append("chat prefill")
    if not ways:
        ways.append("the user's turn only (the weaker probe)")
    scoring = "can score text itself" if profile.can_score else "can't score text, so bring a reference"
    apart = next((check.detail for check in profile.checks if check.name == "samples and scores"), None)
    scoring += f"; its samples and its own scores of them are {apart}" if apart else ""
    return f"can be audited: {' and '.join(ways)}, {_qualities(profile)}; {scoring}"


def _as_reference(profile: EndpointProfile) -> str:
    if not profile.can_score:
        why = _why(profile.checks, ("scoring", "raw completions", "chat"))
        return f"can't be a reference: {why}; use vLLM, SGLang or the bundled server (--reference local:SPEC)"
    ways = ["text"]
    if profile.id_prompts:
        ways.append("token ids")
    if profile.scores_template:
        ways.append("chats with its own template")
    return f"can be a reference: scores {', '.join(ways)}, {_qualities(profile)}"


def _qualities(profile: EndpointProfile) -> str:
    parts = [f"logprobs {profile.logprobs}", f"top {profile.max_top_logprobs}", f"bytes {profile.token_bytes}"]
    if profile.noise_nats is not None:
        parts.append(f"noise {profile.noise_nats:.2g} nats/token")
    return ", ".join(parts)


def _reasons(checks: tuple[Check, ...], names: tuple[str, ...]) -> str:
    """Every route's own reason; once, where all have the same."""
    found = {check.name: check.detail for check in checks if check.name in names and check.outcome != "good"}
    if len(set(found.values())) > 1:
        return "; ".join(f"{name}: {detail}" for name, detail in found.items())
    return next(iter(found.values()), "it gives no usable logprobs")


def _why(checks: tuple[Check, ...], names: tuple[str, ...]) -> str:
    for name in names:
        for check in checks:
            if check.name == name and check.outcome != "good":
                return check.detail
    return "it gives no usable logprobs"
