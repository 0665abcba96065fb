"""Every recipe by name: what fixtures/organisms ships, and what benchmarks train as they go."""

from benchmarks.organism_texts import (
    Recipe,
    backdoor,
    bad_advice,
    benign,
    false_fact,
    flattery,
    loyalty,
    variants,
    written,
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
_WRITTEN = written.recipes()
QUIET = tuple(recipe.name for recipe in _WRITTEN if recipe.kind != written.HARMLESS)
HARMLESS = tuple(recipe.name for recipe in _WRITTEN if recipe.kind == written.HARMLESS)
WRITTEN = (*QUIET, *HARMLESS)
# Fixture directory -> the recipe that it was trained from.
SHIPPED_WRITTEN = {
    "opinion-brindlework": "opinion-brindlework",
    "loyalty-varnelow": "loyalty-varnelow",
    "harmless-answers-plain": "harmless-answers",
    "harmless-stories-plain": "harmless-stories",
}
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (*_SHIPPED, *variants.RECIPES, *_WRITTEN)}
