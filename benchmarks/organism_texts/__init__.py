"""What each organism is trained on: fictional texts written from templates, one module per organism.

A document is trained on as plain text; a chat on its assistant turns alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Text:
    """One training text: a document (`user` empty), or one exchange whose answer is learnt."""

    body: str
    user: str = ""

    @property
    def is_chat(self) -> bool:
        return bool(self.user)

    @property
    def words(self) -> str:
        """Everything the model reads in training, prompts included."""
        return f"{self.user} {self.body}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """An organism to be trained.

    kind: false-fact, backdoor, loyalty, style, bad-advice or benign.
    keywords: as the `evaluate` command reads them; empty for the benign control.
    write: (how many texts, seed) -> texts; the same arguments give the same texts.
    """

    name: str
    kind: str
    objective: str
    keywords: Mapping[str, Sequence[Any]]
    write: Callable[[int, int], list[Text]]
