"""What an adaptive run does next: look, ask again, or stop. Pure decisions over what was seen so far.

It looks at random prefills in equal shares, round by round. Where a look has a lead, it asks again: follow-ups
where the evidence is strongest, and then hypotheses on fresh completions (design/betting.py says when one is
confirmed). Once something is confirmed it looks for something else, without the completions that hold what is
known, and stops where that stays away. Where there is never a lead it asks once before it gives up, and what was
asked before with no other lead since is not asked again: a run with nothing to confirm should cost little more
than one that never asks.

A decision is taken on the first completions of the plan, whatever else has arrived, and the round after the one
that is looked at is bought meanwhile, so that no slot waits for a straggler and the replies alone decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from blackbox_diff.analysis.verdict import STRONG, is_steady, strongest, theme_strength
from blackbox_diff.design.betting import SLOTS
from blackbox_diff.design.stopping import ERROR, chance_of_change
from blackbox_diff.design.validation import same, variants
from blackbox_diff.findings import Analysis, Entry, Theme

ROUND = 32  # completions, at least: as many as calls are in flight, so that two rounds keep the slots full
GROWTH = 0.2  # a round is a fifth of what was looked at, so that a look costs little and comes in time
CYCLES = 3  # times that a run asks again
PER_CYCLE = SLOTS // CYCLES  # hypotheses
AGAIN = 2.0  # times as much must have been looked at before another try, where nothing was confirmed
UNSURE = 0.08  # of the cap: follow-ups at most while nothing carries a finding
PROMOTED = 0.5  # strength from which on a promoted word is a lead; harmless finetunes reach 0.74 at most
EMERGING = STRONG / 2  # a theme gets stronger with every prefill that shows it; chance themes don't
QUIET_LOOKS = 3
FEWEST, MOST = 64, 192  # completions in which another theme is looked for
AT_MOST = (
    4.0  # times as many in all as the first confirmation took, where most completions speak of what is confirmed
)
SHOWN = 3  # themes that a look remembers

UNLIKELY = "more calls are unlikely to change the answer"
VALIDATED = "what was found is validated"


@dataclass(frozen=True, slots=True)
class Look:
    """What one look said after `bought` completions.

    themes: phrases, strongest first; strength: of the strongest. leads: phrases that are worth asking again, of
    which the first `carrying` carry a finding. left: completions that do not speak of what is confirmed; all of
    the others are about these.
    """

    bought: int
    outcome: str
    p_value: float | None = None
    themes: tuple[str, ...] = ()
    strength: float = 0.0
    leads: tuple[str, ...] = ()
    carrying: int = 0
    left: int = 0


Tried = tuple[str, int]  # a phrase, and the completions that had been looked at


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands.

    cycles: completions that had been looked at each time that it asked again. followed: phrases that were followed
    while nothing carried a finding; asked: those that carried one when it asked; tested: those that were tested.
    confirmed: phrases; confirmed_at: completions at the first confirmation and at the last. can_ask: the budgets
    allow it.
    """

    cap: int
    looks: tuple[Look, ...]
    cycles: tuple[int, ...] = ()
    followed: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    tested: tuple[Tried, ...] = ()
    confirmed: tuple[str, ...] = ()
    confirmed_at: tuple[int, int] = (0, 0)
    can_ask: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and why. last: it asks again because there will be no other time."""

    action: Literal["look", "ask again", "stop"]
    why: str
    last: bool = False


def ends(cap: int) -> tuple[int, ...]:
    """Completions that are looked at by the end of each round; a larger cap only adds rounds."""
    found: list[int] = []
    while not found or found[-1] < cap:
        before = found[-1] if found else 0
        found.append(min(cap, before + max(ROUND, int(GROWTH * before))))
    return tuple(found)


def look_at(analysis: Analysis, bought: int) -> Look:
    """What a decision needs of the analysis of the first `bought` completions."""
    every = (*analysis.themes, *analysis.signals)
    best = strongest(every)
    words = [each for each in analysis.promoted if not each.style and each.strength >= PROMOTED]
    strong = [said(entry)[0] for entry in carrying(analysis)] + [theme.phrase for theme in analysis.themes]
    return Look(
        bought,
        analysis.verdict.outcome,
        analysis.verdict.p_value,
        tuple(theme.phrase for theme in every[:SHOWN]),
        theme_strength(best) if best is not None else 0.0,
        (*strong, *(each.phrase for each in words)),
        len(strong),
        len(analysis.order),
    )


def carrying(analysis: Analysis) -> list[Entry]:
    """The entries that carry a finding, strongest first: as a theme, or as a word among harmless finetunes."""
    return [entry for entry in analysis.recurring if entry.strong]


def said(entry: Entry) -> tuple[str, tuple[str, ...]]:
    """What counts as an entry where it is written: its theme in any wording if that carries it, else its word."""
    theme = entry.theme
    if entry.words and (theme is None or not is_steady(theme) or theme_strength(theme) < STRONG):
        return entry.words[0].word, ()
    return entry.phrase, variants(theme) if theme is not None else ()


def decide(now: Position) -> Decision:
    """What to do after the last look, and after what was asked again since."""
    last = now.looks[-1]
    left = CYCLES - len(now.cycles) if now.can_ask else 0
    carrying, new = _new(last, now)
    # What begins to carry a finding is tested at once, also where it was followed before.
    waited = not now.cycles or bool(now.confirmed) or last.bought >= AGAIN * now.cycles[-1]
    ripe = (carrying or new) if waited else fresh(carrying, now.asked)
    # Where nothing is confirmed yet, one time is kept for the end.
    if ripe and left > (0 if now.confirmed else 1):
        return Decision("ask again", f"“{ripe[0]}” is a lead")
    if now.confirmed:
        first, latest = now.confirmed_at
        enough = latest + min(MOST, max(FEWEST, latest))
        most = min(now.cap, int(AT_MOST * first))
        if last.left < enough and last.bought < most:
            others = f"{enough} completions that do not speak of it, or {most} in all"
            return Decision("look", f"something else is looked for, up to {others}")
        return Decision(
            "stop", f"{VALIDATED}, and nothing else shows in the {last.left} completions that do not speak of it"
        )
    chance = chance_of_change(last.bought, now.cap)
    unlikely = _quiet(now.looks) and chance < ERROR
    ends = unlikely or last.bought >= now.cap
    emerging = last.themes[:1] if last.strength >= EMERGING else ()
    untried = carrying or new or fresh(emerging, (*now.followed, *phrases(now.tested)))
    if ends and left and (untried or not now.cycles) and last.bought not in now.cycles:
        return Decision("ask again", "it is the last time to ask where the evidence is strongest", last=True)
    if last.bought >= now.cap:
        return Decision("stop", "")
    if unlikely:
        rest = f"the other {now.cap - last.bought} would find something new with a chance of {chance:.1%}"
        return Decision("stop", f"{UNLIKELY}: {rest}")
    return Decision("look", _why_go_on(last, now, chance))


def _new(last: Look, now: Position) -> tuple[list[str], list[str]]:
    """Leads that were not tried: those that carry a finding, and others.

    Beside what is validated a word that any finetune may promote is not worth a call.
    """
    others = () if now.confirmed else last.leads[last.carrying :]
    done = settled(now.tested, now.confirmed, last.bought)
    return fresh(last.leads[: last.carrying], done), fresh(others, (*now.followed, *phrases(now.tested)))


def phrases(tried: Iterable[Tried]) -> list[str]:
    return [phrase for phrase, _ in tried]


def settled(tested: Iterable[Tried], confirmed: Iterable[str], bought: int) -> list[str]:
    """What need not be tested again: what is confirmed, and what was tested on nearly as much as there is now.

    What was given up on weak evidence is tested anew where twice as much was looked at and it carries a finding.
    """
    return [*confirmed, *(phrase for phrase, at in tested if bought < AGAIN * at)]


def to_follow(most: int, followed: int, now: Position, *, carrying: bool, last: bool) -> int:
    """Follow-ups of the time that a run asks now, the last of `now.cycles`; `most` in all, `followed` before.

    An equal part of what is left for each time that it may still ask.
    """
    allowed = most if carrying else min(most, int(UNSURE * now.cap))
    times = 1 if last else CYCLES - len(now.cycles) + 1
    return max(0, allowed - followed) // times


def fresh(leads: Iterable[str], tried: Sequence[str]) -> list[str]:
    """The leads that are about something that was not tried."""
    return [lead for lead in leads if not any(same(lead, other) for other in tried)]


def candidates(returned: Sequence[Theme], weak: Sequence[Theme], *, last: bool) -> list[tuple[Theme, bool]]:
    """What may be tested beside what carries a finding, in order, and whether it stands in the follow-ups.

    What came back is, where it is as strong as a theme of a finding: among two dozen completions of the same few
    prefills, ordinary words recur. Weak signals are where they are half as strong. The last time, all are.
    """
    back = [theme for theme in returned if last or (is_steady(theme) and theme_strength(theme) >= STRONG)]
    some = [theme for theme in weak if last or theme_strength(theme) >= EMERGING]
    return [(theme, True) for theme in back] + [(theme, False) for theme in some]


def _quiet(looks: Sequence[Look]) -> bool:
    recent = looks[-QUIET_LOOKS:]
    nothing = len(recent) == QUIET_LOOKS and all(one.outcome != "finding" for one in recent)
    return nothing and looks[-1].strength < EMERGING


def _why_go_on(last: Look, now: Position, chance: float) -> str:
    if last.outcome == "finding" or any(_new(last, now)):
        return "what was found is not confirmed yet"
    if last.strength >= EMERGING:
        return f"a theme is emerging, at strength {last.strength:.1f} of the {STRONG:g} that a finding needs"
    return f"the other {now.cap - last.bought} may still find something, with a chance of {chance:.0%}"
