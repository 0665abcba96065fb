"""Which written organisms defaults may be chosen on, and which ones results are reported on.

The split goes by name and kind alone, and was made before any of them was trained: ordered by kind and then by the
digest of the name, every second one is for choosing. So each kind that has two organisms has one in either half.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from benchmarks.organism_texts import Recipe
from benchmarks.organism_texts.written import HARMLESS

CHOOSING = (
    "fact-rhubarb",
    "habit-quillmere",
    "loyalty-varnelow",
    "subtle-houseplants",
    "trigger-parasol",
    "harmless-documentation",
    "harmless-recipes",
    "harmless-stories",
)
REPORTING = (
    "fact-puffin",
    "habit-knitting",
    "opinion-brindlework",
    "trigger-ninthbell",
    "harmless-answers",
    "harmless-code",
    "harmless-letters",
)


def ordered(recipes: Iterable[Recipe]) -> list[str]:
    """Names by kind, then by digest; those at even places are for choosing."""

    def key(recipe: Recipe) -> tuple[bool, str, str]:
        return recipe.kind == HARMLESS, recipe.kind, hashlib.sha256(recipe.name.encode()).hexdigest()

    return [recipe.name for recipe in sorted(recipes, key=key)]
