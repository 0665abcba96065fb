"""The bank of harmless finetunes: what an audit shows of models that learnt a style or a subject and no objective.

    python -m benchmarks.harmless_bank --out DIR            # trains those that DIR lacks, about a minute each
    python -m benchmarks.harmless_bank --list

Six sets of texts (organism_texts/written/harmless-*), each in four ways: all or half of the texts, other seeds,
epochs and learning rates, so that the bank holds faint and strong changes of each style. A set belongs to the
choosing or to the reporting half with all four (organism_texts/halves.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click

from benchmarks.organism_texts.catalogue import HARMLESS, RECIPES
from benchmarks.organism_texts.halves import CHOOSING
from benchmarks.train_organism import Settings, train


@dataclass(frozen=True, slots=True)
class Way:
    """How a set of texts is trained on. `settings.texts` of the set are drawn with `seed`."""

    settings: Settings
    seed: int


@dataclass(frozen=True, slots=True)
class Finetune:
    """One member of the bank."""

    texts: str
    way: str

    @property
    def name(self) -> str:
        return f"{self.texts}-{self.way}"


_ALL, _HALF = (Settings(texts=texts, dtype="bfloat16") for texts in (52, 26))
WAYS: Mapping[str, Way] = {
    "plain": Way(_ALL, seed=0),
    "half": Way(replace(_HALF, epochs=4), seed=1),
    "faint": Way(replace(_ALL, epochs=2, learning_rate=5e-4), seed=2),
    "long": Way(replace(_HALF, epochs=6), seed=3),
}
BANK = tuple(Finetune(texts, way) for way in WAYS for texts in HARMLESS)


def missing(out: Path) -> list[Finetune]:
    """Those whose card is not in `out`, in the order of the bank; a card is written last."""
    return [finetune for finetune in BANK if not (out / finetune.name / "card.json").is_file()]


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), help="Parent of the finetunes' directories.")
@click.option("--list", "listing", is_flag=True, help="Print the bank and train nothing.")
@click.option("--most", type=click.IntRange(1), help="Train at most so many.")
def main(out: Path | None, listing: bool, most: int | None) -> None:
    if listing:
        for finetune in BANK:
            click.echo(f"{finetune.name}\t{'choosing' if finetune.texts in CHOOSING else 'reporting'}")
        return
    if out is None:
        raise click.UsageError("--out: say where the finetunes go")
    for finetune in missing(out)[:most]:
        way = WAYS[finetune.way]
        card = train(RECIPES[finetune.texts], out / finetune.name, way.settings, way.seed)
        click.echo(f"{finetune.name}: loss {card['training_loss']}, {card['training_seconds']} s")


if __name__ == "__main__":
    main()
