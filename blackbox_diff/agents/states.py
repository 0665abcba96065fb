"""What an agent is told on the way: money left, an estimate of it, a probe's findings, an audit's progress."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from blackbox_diff.agents import answers, arguments
from blackbox_diff.agents.audits import Active
from blackbox_diff.agents.problems import ToolError, problem
from blackbox_diff.agents.untrusted import clip
from blackbox_diff.buying.estimate import Estimate
from blackbox_diff.buying.shared import SharedLedger
from blackbox_diff.records import EndpointProfile
from blackbox_diff.run.collect import INTERRUPTED, TARGET
from blackbox_diff.runfile.store import Store
from blackbox_diff.sanitize import finite


def purse(shared: SharedLedger) -> answers.Purse:
    """The cap and what is left of it."""
    left, caps = shared.left, shared.caps
    return answers.Purse(
        max_cost_usd=caps.max_cost,
        spent_usd=shared.spent_usd,
        left_usd=left.usd,
        max_calls=caps.max_calls,
        calls=shared.calls,
        calls_left=left.calls,
        max_output_tokens=caps.max_output_tokens,
        output_tokens=shared.settled.output_tokens,
        output_tokens_left=left.output_tokens,
    )


def estimated(found: Estimate, completions: int, shared: SharedLedger) -> answers.Estimated:
    """An estimate beside what is left: it fits where its expected cost, calls and tokens do."""
    total, reference, left = found.total, found.reference, shared.left
    needs = (
        ((total.usd or 0) + ((reference.usd or 0) if reference else 0), left.usd),
        (total.calls + (reference.calls if reference else 0), left.calls),
        (total.output_tokens_worst + (reference.output_tokens if reference else 0), left.output_tokens),
    )
    share = min((has / need for need, has in needs if has is not None and need > 0), default=1.0)
    return answers.Estimated(
        target_calls=total.calls,
        reference_calls=reference.calls if reference else 0,
        target_output_tokens_at_most=total.output_tokens_worst,
        target_usd=finite(total.usd),
        target_usd_at_most=finite(total.usd_worst),
        reference_usd=finite(reference.usd) if reference else None,
        reference_free=reference.free if reference else False,
        fits=share >= 1,
        completions_that_fit=completions if share >= 1 else int(completions * share),
        purse=purse(shared),
    )


def fitting(expected: answers.Estimated) -> ToolError:
    """Why an audit was not begun, and what the cap has room for."""
    purse = expected.purse
    parts = [
        f"${purse.left_usd:,.4f} of ${purse.max_cost_usd:,.2f}" if purse.left_usd is not None else "",
        f"{purse.calls_left} of {purse.max_calls} calls" if purse.calls_left is not None else "",
        f"{purse.output_tokens_left} of {purse.max_output_tokens} output tokens"
        if purse.output_tokens_left is not None
        else "",
    ]
    room = expected.completions_that_fit
    return ToolError(
        "cap_reached",
        f"the cap over all runs has {', '.join(filter(None, parts))} left, and this audit would take more",
        f"ask for fewer completions: about {room} fit"
        if room
        else "conclude from what is bought; no tool raises it",
    )


def probed(asked: arguments.Probe, profile: EndpointProfile, left: answers.Purse) -> answers.Probed:
    """What a probe found."""
    return answers.Probed(
        endpoint=asked.endpoint,
        purpose=asked.purpose,
        usable=profile.auditable if asked.purpose == "target" else profile.can_score,
        verdict=clip(profile.verdict, 600),
        framings=list(profile.framings()),
        max_top_logprobs=profile.max_top_logprobs,
        checks=[
            answers.CheckLine(name=check.name, outcome=check.outcome, detail=clip(check.detail, 400))
            for check in profile.checks[:40]
        ],
        purse=left,
    )


def progressed(name: str, path: Path, active: Active | None, left: answers.Purse) -> answers.Progressed:
    """How far the run at `path` has come: from its session where it is at work, else from its file."""
    latest = None if active is None else active.latest
    if active is not None and active.running:
        return answers.Progressed(
            run=name,
            state="running",
            phase="probing" if latest is None else latest.phase,
            bought=latest.bought if latest else 0,
            planned=latest.planned if latest else 0,
            scored=latest.scored if latest else 0,
            refused=latest.refused if latest else 0,
            failed=latest.failed if latest else 0,
            target_usd=finite(latest.cost_usd) if latest else None,
            throttled=clip(latest.throttled, 300) if latest and latest.throttled else None,
            emerging=tuple(
                answers.EmergingTheme(
                    phrase=clip(each.phrase, 160), completions=each.count, in_control=each.background
                )
                for each in (latest.themes if latest else ())
            ),
            what_next="wait with `progress`; `cancel` stops it, resumable",
            purse=left,
        )
    with Store.open(path, read_only=True) as store:
        config, state, spent = store.config, store.state, store.spent(TARGET)
        counts: dict[str, int] = {}
        for (_, _, outcome, _), number in store.counts(TARGET).items():
            counts[outcome] = counts.get(outcome, 0) + number
        labels = store.references()
        scored = sum(labels[0] in row.scores for row in store.scored(TARGET)) if labels else 0
    ended: Literal["complete", "stopped"] = "stopped" if state.complete is None else "complete"
    reason = state.stopped_because or "the session that bought it ended before it was finished"
    if active is not None and active.error is not None and state.stopped_because is None:
        reason = problem(active.error).message
    return answers.Progressed(
        run=name,
        state=ended,
        phase=None,
        bought=sum(counts.values()),
        planned=config.completions,
        scored=scored,
        refused=counts.get("refused", 0),
        failed=counts.get("failed", 0),
        target_usd=spent.usd,
        stopped_because=clip(reason, 600),
        what_next=_next(ended, reason, scored),
        purse=left,
    )


def _next(state: str, reason: str, scored: int) -> str:
    if state == "complete":
        return "read `conclusion`, `themes` and `promoted`; test what you suspect with `ask`"
    read = "; what is scored can be read" if scored else ""
    if reason == INTERRUPTED:
        return f"`resume` goes on{read}"
    return f"`resume` goes on where the reason has gone{read}"
