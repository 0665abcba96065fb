"""The numbers that a report is judged by, each under one name in every form of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from blackbox_diff.findings import Analysis, RunSummary
from blackbox_diff.report import wording
from blackbox_diff.report.glossary import TERMS
from blackbox_diff.sanitize import visible


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `term` is its key in the glossary, or "" where the name says it all.

    value: the number itself (nats, USD, seconds or a count); None where it is unknown. shown: as it is printed.
    note: what it is to be compared with.
    """

    key: str
    name: str
    value: float | None
    shown: str
    note: str = ""
    term: str = ""

    def line(self) -> str:
        """The figure as one line of text."""
        return f"{self.name}: {self.shown}" + (f" ({self.note})" if self.note else "")


def figures(analysis: Analysis, summary: RunSummary) -> tuple[Figure, ...]:
    """How sure, against what, at what cost."""
    return (*_evidence(analysis), *_spent(summary))


def _evidence(analysis: Analysis) -> Iterator[Figure]:
    control = analysis.control
    tens = f"control's {wording.nats(control.best_ten)}" if control else "no control"
    yield _figure("best_ten", analysis.verdict.statistic, wording.nats(analysis.verdict.statistic), tens)
    highest = max((arm.top_score for arm in analysis.arms if arm.top_score is not None), default=None)
    most = f"control's {wording.nats(control.max_score)}, n = {control.n:,}" if control else "no control"
    yield _figure("highest_score", highest, wording.nats(highest), most)
    if analysis.verdict.p_value is not None:
        p = analysis.verdict.p_value
        shown = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
        yield _figure("chance", p, shown, "that the control's own model would score so high")
    if analysis.kl_nats_per_token is not None:
        kl = analysis.kl_nats_per_token
        interval = f"nats per token, {kl.level:.0%} CI {wording.nats(kl.low)} to {wording.nats(kl.high)}"
        yield _figure("divergence", kl.value, wording.nats(kl.value), interval)
    if analysis.top_stability is not None:
        shown = f"{analysis.top_stability:.0%}"
        yield _figure("top_stability", analysis.top_stability, shown, "under resampling of prefills")


def _spent(summary: RunSummary) -> Iterator[Figure]:
    cap = "no cap" if summary.max_cost_usd is None else f"of {wording.dollars(summary.max_cost_usd)} allowed"
    yield Figure("cost", "Cost", summary.cost_usd, wording.dollars(summary.cost_usd), cap)
    tokens = f"{summary.input_tokens:,} tokens in, {summary.output_tokens:,} out"
    yield Figure("calls", "Calls", summary.calls, f"{summary.calls:,}", tokens)
    refused, failed = sum(summary.refused.values()), sum(summary.failed.values())
    lost = f"{refused:,} refused, {failed:,} failed, {summary.unpaid:,} unpaid"
    yield Figure("scored", "Scored", summary.scored, f"{summary.scored:,}", lost)
    stopped = f"stopped: {visible(summary.stopped_because)}"
    yield Figure("time", "Time", summary.seconds, wording.duration(summary.seconds), stopped)


def _figure(key: str, value: float | None, shown: str, note: str) -> Figure:
    name = TERMS[key][0]
    return Figure(key, name[:1].upper() + name[1:], value, shown, note, key)
