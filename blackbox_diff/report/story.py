"""What was asked again, why, and what came back on both sides, as sentences for every form of the report."""

from __future__ import annotations

from collections.abc import Iterator

from blackbox_diff.findings import Amplified, Analysis, Answer, FollowUp
from blackbox_diff.report import wording
from blackbox_diff.sanitize import shorten, visible

FOLLOWED = "at places chosen for what the target does there: leads, and no rate"
AMPLIFIED = "drawn towards what the target says more than the reference: leads, no evidence and no rate"
NOTHING = "Nothing came back that the reference does not say there, too."
_WIDTH = 110


def amplified(found: Amplified, width: int = _WIDTH) -> Iterator[str]:
    """What was written, what of it is of no use, what recurs, and some texts, as safe text."""
    if found.skipped:
        yield f"skipped: {found.skipped}"
        return
    counts = ((found.ended, "ended early"), (found.junk, "loop or hold no word"), (found.lost, "broke off"))
    aside = "".join(f"; {number:,} {what}" for number, what in counts if number)
    yield f"{wording.plural(found.rows, 'text')} of {found.tokens:,} tokens, one call each on both sides{aside}"
    names = ", ".join(f"“{shorten(wording.theme_name(theme), 40)}” ×{theme.count:,}" for theme in found.themes)
    yield f"recurs in them: {names}" if names else "nothing recurs in them that the reference lacks"
    for each in found.texts:
        yield f"{shorten(visible(each.prefill), 40)} | {shorten(visible(each.text).strip(), width)}"


def followed(found: FollowUp) -> str:
    """What was asked again, why, and what came back."""
    name = f"“{shorten(visible(found.phrase), 50)}”, {found.why}" if found.phrase else found.why
    back = ", ".join(f"“{shorten(visible(each), 40)}”" for each in found.returned)
    return f"{name}: asked again {wording.plural(found.asked, 'time')}; " + (
        f"came back: {back}" if back else "nothing came back"
    )


def came_back(analysis: Analysis) -> Iterator[str]:
    """What recurs in the target's answers, beside the reference's to the same prefills."""
    asked = sum(each.asked for each in analysis.follow_ups)
    for theme in analysis.returned:
        yield (
            f"“{shorten(wording.theme_name(theme), 60)}”: in {theme.count:,} of the target's {asked:,} answers, "
            f"after {wording.plural(theme.prefills, 'prefill')}; in {theme.background:,} of the reference's"
        )


def sides(answer: Answer, width: int = _WIDTH) -> tuple[str, str, str]:
    """A prefill and both answers to it, as safe text."""
    target, reference = (
        "(no answer)" if text is None else shorten(visible(text).strip(), width)
        for text in (answer.target, answer.reference)
    )
    return shorten(visible(answer.prefill), width), target, reference
