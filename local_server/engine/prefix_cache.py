"""Starts that many texts share (a chat template, a system prompt), computed once and kept.

A start is worth keeping once it was seen between two pairs of neighbouring requests: chance overlaps of
two prompts come and go, a template comes back every time.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence

import torch

from local_server.engine.forward import layout_of, run
from local_server.engine.jobs import Token
from local_server.engine.logits import scored
from local_server.engine.packed_attention import Prefix, Segment
from local_server.model.load import LoadedModel

SHORTEST = 8  # tokens: chat templates start at about a dozen
KEPT = 16  # prefixes
SIGHTINGS = 2
REMEMBERED = 1024  # candidates whose sightings are counted

Name = tuple[str | None, tuple[int, ...]]


class PrefixCache:
    """The kept prefixes of one base model and its adapters."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.kept: OrderedDict[Name, Prefix] = OrderedDict()
        self.tokens: dict[Name, tuple[int, list[Token]]] = {}
        self.recent: dict[tuple[str | None, tuple[int, ...]], Sequence[int]] = {}
        self.sightings: Counter[Name] = Counter()

    def find(self, ids: Sequence[int], adapter: str | None) -> Prefix | None:
        """The longest kept prefix of `ids`, never all of it; computes one that has been seen often enough."""
        if len(ids) <= SHORTEST:
            return None
        start = (adapter, tuple(ids[:SHORTEST]))
        common = _common(ids[:-1], self.recent.get(start, ()))
        if len(self.recent) > REMEMBERED:
            self.recent.clear()
        self.recent[start] = ids
        if common >= SHORTEST:
            self._see((adapter, tuple(ids[:common])))
        fitting = [
            name
            for name, prefix in self.kept.items()
            if name[0] == adapter and len(prefix) < len(ids) and prefix.ids == tuple(ids[: len(prefix)])
        ]
        if not fitting:
            return None
        best = max(fitting, key=lambda name: len(name[1]))
        self.kept.move_to_end(best)
        return self.kept[best]

    def scores(self, prefix: Prefix, adapter: str | None, top: int) -> list[Token]:
        """The prefix's own tokens as scored, with at least `top` alternatives; the first has no logprob."""
        name = (adapter, prefix.ids)
        known = self.tokens.get(name)
        if known is None or known[0] < top:
            assert prefix.hidden is not None
            targets = torch.tensor(prefix.ids[1:])
            rows = scored(self.loaded, prefix.hidden[:-1], targets, top, ranked=True)
            tokens = [Token(prefix.ids[0], None, [])]
            tokens += [Token(index, *row) for index, row in zip(prefix.ids[1:], rows, strict=True)]
            known = (top, tokens)
            if name in self.kept:
                self.tokens[name] = known
        return known[1]

    def _see(self, name: Name) -> None:
        if name in self.kept:
            return
        if len(self.sightings) > REMEMBERED:
            self.sightings.clear()
        self.sightings[name] += 1
        if self.sightings[name] < SIGHTINGS:
            return
        prefix = Prefix(name[1])
        prefix.hidden = run(
            self.loaded, layout_of(self.loaded)(None, [], [], [Segment(name[1], name[0], into=prefix)])
        )
        self.kept[name] = prefix
        if len(self.kept) > KEPT:
            dropped, _ = self.kept.popitem(last=False)
            self.tokens.pop(dropped, None)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many leading ids two texts share."""
    for place, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return place
    return min(len(one), len(other))
