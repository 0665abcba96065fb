"""How strong the same evidence gets in many harmless finetunes, and where a model stands among them.

A bank holds, for each of n models in which there is nothing to find, the strength of its strongest evidence of
each kind. Were the audited model one more of them, its place among them would be as likely as any other, so

    p = (1 + number of members at least as strong) / (n + 1)

is a valid p-value whatever the strengths look like (a conformal p-value: Vovk, Gammerman & Shafer 2005), and
never below 1 / (n + 1). A member is compared with the others. The p-value speaks of models that are like the
members, audited alike under the same reference. A strength grows with the number of completions, because its
standard error shrinks: the masses of promoted words are scaled to one number before they are compared, the audit's
where that is LEAST_TIMES to MOST_TIMES the bank's. What is scaled up keeps the luck of the smaller number, so
members look too strong rather than too weak.

A finetune that moved far promotes many words; one that was taught a phrase may promote hardly more than that. So
a word counts by how far it stands out: its strength, or how much stronger it is than the model's third word, each
over what harmless models reach, whichever is more. That is one number, so its p-value needs no correction. In a
short audit few words are significant: the third is the third of all that were looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from blackbox_diff.analysis.promoted import lowered_log_ratio
from blackbox_diff.analysis.verdict import strongest, theme_strength
from blackbox_diff.findings import Promoted, Standing, Theme

Kind = Literal["themes", "promoted", "style"]
Uses = tuple[float, float]  # expected ones of a word, at target and reference
KINDS: tuple[Kind, ...] = ("themes", "promoted", "style")
LEAST_TIMES, MOST_TIMES = 0.25, 2.0  # the bank's completions
WORDS = 5  # strongest ones of a member that are kept for each number of completions
# What promoted words of the shipped bank's members reach at the bank's own number: in strength, above the third.
STRENGTH, APART = 1.05, 0.4


@dataclass(frozen=True, slots=True)
class Member:
    """One harmless model: its scored completions, and strength and wording of its strongest evidence by kind.

    A kind without evidence has strength 0; one that could not be measured (no alternatives) is absent.
    masses: expected uses at target and reference of the promoted words that are strongest here, or would be with
    more completions.
    """

    name: str
    completions: int
    strengths: Mapping[str, float]
    wording: Mapping[str, str]
    masses: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Bank:
    """Harmless finetunes of one base, all audited under one reference.

    completions: the number to which promoted words are scaled down; those of a shorter run stay as they are.
    long: whether words of several tokens were looked for in the members (long_words.py).
    """

    base: str
    reference: str
    completions: int
    members: tuple[Member, ...]
    long: bool = True

    def at(self, completions: int) -> Bank:
        """The bank as if its members had been audited with so many completions, LEAST_ to MOST_TIMES its own."""
        if not self.has_masses:
            return self
        times = min(MOST_TIMES, max(LEAST_TIMES, completions / self.completions))
        members = tuple(
            replace(
                member,
                strengths={**member.strengths, "promoted": max(outstanding(_strengths(member.masses, times)))},
            )
            if member.masses
            else member
            for member in self.members
        )
        return replace(self, completions=round(times * self.completions), members=members)

    @property
    def has_masses(self) -> bool:
        """Whether members are known by the masses of their words, and not by one strength alone (format 1)."""
        return any(member.masses for member in self.members)

    def evidence(
        self, themes: Sequence[Theme], promoted: Sequence[Promoted], listed: int, third: Uses | None = None
    ) -> dict[str, float]:
        """What of an audit is compared with the members, by kind. listed: as `strengths` takes it; third: as
        promoted.Search has it."""
        found, _ = strengths(themes, promoted, listed, self.completions)
        if listed:
            content = [each for each in promoted if not each.style]
            found["promoted"] = max(self.how_far(content, listed, third), default=0.0)
        return found

    def how_far(self, words: Sequence[Promoted], listed: int, third: Uses | None = None) -> list[float]:
        """How far each word of content stands out, as the members are known; third: as promoted.Search has it."""
        scaled = scaled_strengths(words, listed, self.completions)
        if not self.has_masses:
            return [max(0.0, each) for each in scaled]
        share = min(1.0, self.completions / max(listed, 1))
        return outstanding(scaled, _strengths([third], share)[0] if third is not None else 0.0)

    def knows(self, word: Promoted) -> bool:
        """Whether words of its kind were looked for in the members."""
        return self.long or not word.long


def strengths(
    themes: Sequence[Theme], promoted: Sequence[Promoted], listed: int, completions: int
) -> tuple[dict[str, float], dict[str, str]]:
    """Strength and wording of the strongest evidence of each kind.

    listed: completions in which promoted words were looked for, 0 where they can't be. completions: the bank's.
    """
    best = strongest(themes)
    found = {"themes": theme_strength(best) if best is not None else 0.0}
    wording = {"themes": best.phrase} if best is not None else {}
    if not listed:
        return found, wording
    for kind, is_style in (("promoted", False), ("style", True)):
        words = [each for each in promoted if each.style is is_style]
        found[kind] = 0.0
        if words:
            scaled = scaled_strengths(words, listed, completions)
            top = max(range(len(words)), key=scaled.__getitem__)
            found[kind] = max(0.0, scaled[top])
            wording[kind] = words[top].phrase
    return found, wording


def kept_masses(promoted: Sequence[Promoted], listed: int, completions: int) -> tuple[tuple[float, float], ...]:
    """The masses of the content words that a member needs to be known by, scaled to the bank's completions."""
    words = [each for each in promoted if not each.style]
    share = min(1.0, completions / max(listed, 1))
    chosen: set[int] = set()
    for times in (1.0, MOST_TIMES):
        found = scaled_strengths(words, listed, completions, times)
        chosen |= set(sorted(range(len(words)), key=lambda k: -found[k])[:WORDS])
    return tuple((share * words[k].target, share * words[k].reference) for k in sorted(chosen))


def outstanding(found: Sequence[float], third: float = 0.0) -> list[float]:
    """How far each of a model's words stands out, from their strengths; 1 is what harmless models reach.

    third: at least so strong is the third of all words.
    """
    third = max(third, sorted([*found, 0.0, 0.0, 0.0])[-3])
    return [max(0.0, each / STRENGTH, (each - third) / APART) for each in found]


def _strengths(masses: Sequence[Uses], times: float) -> list[float]:
    """Of words with these masses, times so much."""
    target, reference = times * np.asarray(masses, dtype=np.float64).reshape(-1, 2).T
    found: list[float] = lowered_log_ratio(target, reference).tolist()
    return found


def scaled_strengths(words: Sequence[Promoted], listed: int, completions: int, times: float = 1.0) -> list[float]:
    """Strengths of promoted words of `listed` completions, as of `completions` where those are fewer, `times`."""
    share = times * min(1.0, completions / max(listed, 1))
    return _strengths([(each.target, each.reference) for each in words], share)


def standings(bank: Bank, found: Mapping[str, float], name: str | None = None) -> tuple[Standing, ...]:
    """Where each kind of evidence stands in the bank. name: the audited model's, left out if it is a member."""
    return tuple(
        standing
        for kind in KINDS
        if kind in found and (standing := standing_of(bank, kind, found[kind], name)) is not None
    )


def standing_of(bank: Bank, kind: Kind, strength: float, name: str | None = None) -> Standing | None:
    """Where one strength stands among the members that have that kind of evidence; None where none has."""
    others = [
        member.strengths[kind] for member in bank.members if member.name != name and kind in member.strengths
    ]
    if not others:
        return None
    reached = sum(other >= strength for other in others)
    return Standing(
        kind=kind,
        strength=strength,
        stronger_than=len(others) - reached,
        of=len(others),
        p_value=(1 + reached) / (len(others) + 1),
        bank=bank.base,
    )
