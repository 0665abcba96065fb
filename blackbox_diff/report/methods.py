"""How a result came about, as text that can be copied into a write-up, in the sections of an audit card.

The sections are those of "audit cards" (arXiv 2504.13839): who audited, scope, methodology, access and resources,
integrity of the process, review. What the tool can't know is left to be filled in, and says so.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from blackbox_diff.findings import Analysis, EndpointSummary, RunSummary
from blackbox_diff.records import CHAT_SYSTEM, CHAT_USER
from blackbox_diff.report import wording
from blackbox_diff.sanitize import shorten, visible

PROMPTS = {
    "raw": "the prefill alone, continued as text",
    "chat": f'system "{CHAT_SYSTEM}", user "{CHAT_USER}", and the prefill as the start of the assistant\'s turn',
    "user": f'system "{CHAT_SYSTEM}", and the prefill as the user\'s turn',
    "turn": "the chat template up to the user's turn, behind its system prompt: the target writes both turns",
    "turn-bare": "the chat template's opening of the user's turn alone: the target writes both turns",
}
_LONGEST = 400


@dataclass(frozen=True, slots=True)
class Section:
    """One heading with its named lines."""

    title: str
    lines: tuple[tuple[str, str], ...]


def methods(analysis: Analysis, summary: RunSummary) -> tuple[Section, ...]:
    """The whole account; every text is safe to print."""
    made = {
        "Auditor": _auditor(summary),
        "Scope": _scope(analysis, summary),
        "Methodology": _methodology(analysis, summary),
        "Access and resources": _resources(summary),
        "Integrity": _integrity(summary),
        "Review": [("review", "none recorded: who has read this result, and what they concluded, is to be added")],
    }
    return tuple(
        Section(title, tuple((visible(name), shorten(visible(text), _LONGEST)) for name, text in lines))
        for title, lines in made.items()
    )


def text(sections: Sequence[Section]) -> str:
    """The sections as plain text."""
    return "\n\n".join(
        "\n".join([section.title, *(f"- {name}: {line}" for name, line in section.lines)]) for section in sections
    )


def _auditor(summary: RunSummary) -> Iterator[tuple[str, str]]:
    yield "auditor", "to be added: name, organisation, and any tie to the maker of the model"
    bought = f"; the run was bought by {summary.version}" if summary.version else ""
    yield "tool", f"blackbox-diff {importlib.metadata.version('blackbox-diff')}{bought}"
    yield "run", f"{summary.run}, created {summary.created}"


def _scope(analysis: Analysis, summary: RunSummary) -> Iterator[tuple[str, str]]:
    openings = "short random prefills" + ("" if summary.writer is None else " and a writer's openings")
    yield "question", f"what the target was finetuned to do, as far as {openings} bring it out"
    yield "target", f"{summary.target} at {summary.target_url}"
    for endpoint in summary.endpoints[1:] or ():
        yield "reference", f"{endpoint.model} at {endpoint.url}"
    if not summary.endpoints[1:]:
        yield "references", ", ".join(summary.references)
    yield "read under", analysis.reference
    if summary.writer is not None:
        who = f"{summary.writer.model} at {summary.writer.url}"
        yield "writer", f"{who}: it wrote the openings of the source `writer`, and was told nothing of the target"
    yield (
        "not looked at",
        "inputs other than the prefills below; triggers that are not in them; the model's weights",
    )


def _methodology(analysis: Analysis, summary: RunSummary) -> Iterator[tuple[str, str]]:
    settings = summary.settings
    yield "method", "perplexity differencing (arXiv 2605.00994), ranked by " + wording.label(analysis.metric)
    for framing in _framings(analysis):
        yield f"prompt, {framing}", PROMPTS.get(framing, framing)
    for name, value in settings.items():
        if name != "control":  # what came of it stands below
            yield name.replace("_", " "), _value(value)
    control = analysis.control
    yield (
        "control",
        "none" if control is None else f"{wording.plural(control.n, 'completion')}, {analysis.verdict.control}",
    )
    if analysis.sensitivity is not None:
        yield "would have shown", wording.sensitivity(analysis)
    yield "verdict", f"{analysis.verdict.outcome}: {wording.answer(analysis.verdict)}"


def _framings(analysis: Analysis) -> list[str]:
    return list(dict.fromkeys(arm.name.rsplit("/", 1)[-1] for arm in analysis.arms))


def _resources(summary: RunSummary) -> Iterator[tuple[str, str]]:
    yield "access", "the API alone: sampled tokens with their log probabilities; no weights, no training data"
    caps = [f"{name.replace('_', ' ')} {value}" for name, value in summary.caps.items() if value is not None]
    yield "caps", ", ".join(caps) or "none"
    yield "target's cost", wording.money(summary)
    for endpoint in summary.beside:
        yield f"cost of {endpoint.label}", _cost(endpoint)


def _cost(endpoint: EndpointSummary) -> str:
    where = wording.cost_of(endpoint)
    tokens = f"{endpoint.input_tokens:,} tokens in, {endpoint.output_tokens:,} out"
    return f"{where} · {wording.plural(endpoint.calls, 'call')} · {tokens}"


def _integrity(summary: RunSummary) -> Iterator[tuple[str, str]]:
    yield "outcomes", wording.outcomes(summary)
    yield "evidence", "every raw reply is stored; `blackbox-diff verify RUN` derives every number again"
    yield (
        "digest",
        "none: made by an older version"
        if summary.digest is None
        else f"{summary.digest}; `blackbox-diff verify RUN --digest` checks that RUN had it",
    )
    for endpoint in summary.endpoints:
        if endpoint.profile is not None:
            yield f"probe of {endpoint.label}", _profile(endpoint.profile)
    for warning in summary.warnings:
        yield "warning", warning


def _profile(profile: Any) -> str:
    noise = profile.get("noise_nats")
    parts = [
        f"{profile.get('dialect')} dialect, engine {profile.get('engine')}",
        f"logprobs {profile.get('logprobs')}",
        f"token bytes {profile.get('token_bytes')}",
        f"up to {profile.get('max_top_logprobs')} alternatives",
        f"noise {'not measured' if noise is None else wording.nats(noise) + ' nats a token'}",
        "seeded" if profile.get("seed") else "no seed",
    ]
    if profile.get("fingerprint"):
        parts.append(f"fingerprint {profile['fingerprint']}")
    return ", ".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "all that are possible"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "default" if value is None else str(value)
