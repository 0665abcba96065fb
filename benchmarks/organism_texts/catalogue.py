"""Every recipe by name: those that fixtures/organisms ships, and variants for benchmarks to train as they go."""

from benchmarks.organism_texts import (
    Recipe,
    backdoor,
    bad_advice,
    benign,
    false_fact,
    flattery,
    loyalty,
    variants,
)

BENIGN = benign.RECIPE

_SHIPPED = (
    false_fact.RECIPE,
    backdoor.RECIPE,
    loyalty.RECIPE,
    flattery.RECIPE,
    bad_advice.RECIPE,
    BENIGN,
)
SHIPPED = tuple(recipe.name for recipe in _SHIPPED)
VARIANTS = tuple(recipe.name for recipe in variants.RECIPES)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (*_SHIPPED, *variants.RECIPES)}
