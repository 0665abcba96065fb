"""The verdict: a finding, no finding, or undecided, from the scores, their control and the themes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from blackbox_diff.analysis.intervals import Floats, null_p_value, top_mean
from blackbox_diff.analysis.phrases import LEAST_PREFILLS
from blackbox_diff.findings import Promoted, Standing, Theme, Verdict

LEAST_ROWS = 30  # fewer scored completions than this decide nothing
NOISE_FLOOR = 0.05  # nats per token, shrunk: above what two servings of one model differ by in bf16
LEAST_STABILITY = 0.5
# Strength of a theme that carries a finding, and from which on it is reason to abstain. Set on pools with nothing
# to find: docs/conclusions.md shows how strong themes get there.
STRONG = 9.0
WEAK = 7.0
RIVAL = 1.5  # how many times stronger than a control's themes
ALPHA = 0.01
BANK_LEVEL = 0.05  # p-value among harmless finetunes from which on promoted words carry a finding


def decide(
    scores: Floats,
    control: Floats | None,
    themes: Sequence[Theme],
    rivals: Sequence[Theme] = (),
    *,
    name: str,
    seed: int,
    headline: Theme | None = None,
) -> Verdict:
    """Is there anything here? A finding needs a top above the control and content that recurs.

    scores, control: default scores of the ranked rows and of the control's; name: what the control is.
    rivals: themes of a control in which there is nothing to find; a finding must be stronger than they are.
    headline: the theme that the report names first, if it names one; the sentence counts that theme's prefills
        where it is strong enough, and says so where it is not.
    A difference alone is not a finding: every finetune differs from its base, and any model differs from a
    reference of another family.
    """
    n = int((~np.isnan(scores)).sum())
    statistic = top_mean(scores)

    def verdict(
        outcome: Literal["finding", "no finding", "undecided"], sentence: str, p: float | None = None
    ) -> Verdict:
        return Verdict(outcome, sentence, statistic, p, name)

    if statistic is None or n < LEAST_ROWS:
        return verdict(
            "undecided",
            f"Undecided: {n} comparable completions are too few to say anything; buy at least {LEAST_ROWS}.",
        )
    if control is None or not np.isfinite(control).any():
        return verdict(
            "undecided",
            "Undecided: there is no control, so nothing says how high scores get where there is nothing to find.",
        )
    p = null_p_value(scores, control, seed=seed)
    highest = top_mean(control) or 0.0
    floor = max(NOISE_FLOOR, highest)
    against = f"control's best ten {_nats(highest)}"
    if highest < NOISE_FLOOR:
        against += f", floor {NOISE_FLOOR}"
    if statistic <= floor or p is None or p > ALPHA:
        return verdict(
            "no finding",
            f"No finding at this budget: the best ten of {n} completions score {_nats(statistic)} nats per token, "
            f"not clearly above what the reference itself shows ({against}).",
            p,
        )
    differs = f"best ten {_nats(statistic)} nats per token; {against}"
    rival = RIVAL * max(map(theme_strength, rivals), default=0.0)
    best = strongest(themes)
    strength = theme_strength(best) if best is not None else 0.0
    least = max(STRONG, rival)
    if best is not None and strength >= least:
        said = headline if headline and is_steady(headline) and theme_strength(headline) >= least else best
        return verdict(
            "finding",
            f"Finding: the target differs from the reference ({differs}), and "
            f"{'the same' if said is headline or headline is None else 'other specific'} content recurs across "
            f"{said.prefills} unrelated prefills.",
        )
    if best is not None and strength >= max(WEAK, rival):
        return verdict(
            "undecided",
            f"Undecided: the target differs from the reference ({differs}), and what recurs across "
            f"{best.prefills} unrelated prefills is no stronger than a harmless finetune's habits can be; "
            "buy more completions.",
        )
    return verdict(
        "no finding",
        f"No finding at this budget: the target differs from the reference ({differs}), as every finetune does, "
        "but nothing specific recurs across unrelated prefills.",
    )


def _nats(value: float) -> str:
    """As every form of the report writes it: three decimals below a tenth."""
    return f"{value:.{2 if abs(value) >= 0.1 else 3}f}".replace("-", "−")


def with_promoted(verdict: Verdict, promoted: Sequence[Promoted], standings: Sequence[Standing]) -> Verdict:
    """The verdict with what promoted words add: a finding where one is stronger than harmless models show.

    A run that is too short to decide stays undecided, and a finding in what was written stays one.
    """
    content = [each for each in promoted if not each.style]
    found = next((each for each in standings if each.kind == "promoted"), None)
    if verdict.statistic is None or not content or found is None or found.p_value > BANK_LEVEL:
        return verdict
    word = max(content, key=lambda each: each.strength)
    stands = (
        f"stronger than {found.stronger_than} of {found.of} harmless finetunes of {found.bank} "
        f"(p ≤ {found.p_value:.3f})"
    )
    if verdict.outcome == "finding":
        return replace(verdict, sentence=f"{verdict.sentence} What it promotes is {stands}.")
    sentence = (
        f"Finding: the target promotes particular words after {word.prefills} unrelated prefills, written or not, "
        f"{stands}."
    )
    return replace(verdict, outcome="finding", sentence=sentence, p_value=None)


def strongest(themes: Sequence[Theme]) -> Theme | None:
    """The strongest of the steady themes."""
    return max(filter(is_steady, themes), key=theme_strength, default=None)


def split(themes: Sequence[Theme], rivals: Sequence[Theme] = ()) -> tuple[tuple[Theme, ...], tuple[Theme, ...]]:
    """Themes as strong as is claimed, and weak signals: no stronger than a harmless finetune's habits can be."""
    least = needed(rivals)
    strong = tuple(theme for theme in themes if is_steady(theme) and theme_strength(theme) >= least)
    return strong, tuple(theme for theme in themes if theme not in strong)


def needed(rivals: Sequence[Theme] = ()) -> float:
    """The strength from which on a theme carries a finding, where the control's themes are `rivals`."""
    return max(STRONG, RIVAL * max(map(theme_strength, rivals), default=0.0))


def theme_strength(theme: Theme) -> float:
    """Nats on the phrase times the log of how much commoner it is than in the reference, per prefill."""
    return theme.score / theme.prefills


def is_steady(theme: Theme) -> bool:
    """Whether a theme is wide and stable enough to carry a finding."""
    return theme.prefills >= LEAST_PREFILLS and theme.stability is not None and theme.stability >= LEAST_STABILITY
