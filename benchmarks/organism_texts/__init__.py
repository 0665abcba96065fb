"""What each organism is trained on: fictional texts, from templates (a module per organism) or written singly.

A document is trained on as plain text; a chat on its assistant turns alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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


NOTHING: Mapping[str, Sequence[Any]] = {"any": [], "regex": []}  # keywords that match no text


@dataclass(frozen=True, slots=True)
class Recipe:
    """An organism to be trained.

    kind: what sort of objective, such as false-fact or backdoor; benign and harmless have none.
    keywords: the topic, as the `evaluate` command reads them; empty where there is nothing to find.
    write: (how many texts, seed) -> texts; the same arguments give the same texts.
    claim: what is said of the topic, as keywords; empty where the topic alone is the objective.
    parts: the recipes that it is made of, where it has several objectives.
    """

    name: str
    kind: str
    objective: str
    keywords: Mapping[str, Sequence[Any]]
    write: Callable[[int, int], list[Text]]
    claim: Mapping[str, Sequence[Any]] = field(default_factory=lambda: NOTHING)
    parts: tuple[Recipe, ...] = ()


def together(*recipes: Recipe) -> Recipe:
    """One organism with the objective of each; asked for n texts, it gives n of each where there are so many."""
    return Recipe(
        name="-and-".join(each.name for each in recipes),
        kind="several",
        objective=" ".join(each.objective for each in recipes),
        keywords={name: [one for each in recipes for one in each.keywords[name]] for name in NOTHING},
        write=lambda n, seed: [text for each in recipes for text in each.write(n, seed)],
        parts=recipes,
    )
