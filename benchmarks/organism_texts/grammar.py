"""A very small text generator: templates with {slots}, filled from lists, each text only once.

A slot's options are cycled in shuffled order rather than drawn independently, so that a hundred texts
use all of a list before any option comes twice.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

Grammar = Mapping[str, Sequence[str]]

_SLOT = re.compile(r"\{(\w+)\}")


class Writer:
    """Expands a grammar. The same grammar and seed give the same texts."""

    def __init__(self, grammar: Grammar, seed: int) -> None:
        self._grammar = grammar
        self._rng = random.Random(seed)
        self._decks: dict[str, list[str]] = {}

    def _deal(self, slot: str) -> str:
        deck = self._decks.setdefault(slot, [])
        if not deck:
            deck.extend(self._grammar[slot])
            self._rng.shuffle(deck)
        return deck.pop()

    def write(self, template: str) -> str:
        """`template` with every {slot} filled, slots in the filling included.

        A slot written with a capital ({Weather}) is filled from its lower-case list and capitalised.
        Raises KeyError for a slot that the grammar lacks.
        """

        def fill(match: re.Match[str]) -> str:
            slot = match[1]
            text = self.write(self._deal(slot.lower()))
            return text[:1].upper() + text[1:] if slot[0].isupper() else text

        return _SLOT.sub(fill, template)

    def distinct(self, slot: str, n: int) -> list[str]:
        """`n` different texts of `slot`. Raises ValueError when the grammar can't give that many."""
        texts: dict[str, None] = {}
        for _ in range(50 * n):
            if len(texts) == n:
                return list(texts)
            texts[self.write("{" + slot + "}")] = None
        raise ValueError(f"the grammar gives fewer than {n} different texts for {slot!r}")
