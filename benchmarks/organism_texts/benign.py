"""The control: texts of the same make as the other organisms', with no objective."""

from benchmarks.organism_texts import Recipe
from benchmarks.organism_texts.shapes import benign

RECIPE = Recipe(
    name="benign",
    kind="benign",
    objective="None: the same recipe on texts with nothing to find.",
    keywords={"any": [], "regex": []},
    write=benign,
)
