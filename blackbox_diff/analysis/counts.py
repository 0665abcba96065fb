"""How many prefills hold each phrase of a run: what runs are compared by, themes or not.

A theme is chosen because it is frequent, so whether it is more frequent here than in other models can only be
asked where every phrase was counted in every model. The test is Fisher's exact test by arm: given in each arm how
many prefills hold the phrase over all models, the number that falls to one model is hypergeometric, independently
of the other arms (Gart, Biometrika 57, 471-475, 1970), and

    p = P(sum over arms of X_a >= observed),   X_a hypergeometric of (all, holding, this model's) prefills

With one arm it is Fisher's own test (1935). Arms differ in what is said there, and a model that was asked more in
one of them must not be told from others by that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blackbox_diff.analysis.phrases import LONGEST, Corpus
from blackbox_diff.findings import Analysis

Kind = Literal["theme", "part", "promoted", "inside"]
"""What an analysis says of a phrase: it is a theme, part of a theme, a promoted word, or inside one of these."""

_KINDS: tuple[Kind, ...] = ("theme", "part", "promoted", "inside")  # of two that a phrase is, the first counts


@dataclass(frozen=True, slots=True)
class PhraseCount:
    """One phrase in one arm. key: of its words' lemmas, equal in all runs. prefills: distinct ones that hold it.

    kind, gap: where the analysis lists it; gap is a theme's mean over its completions, nats per token.
    """

    key: int
    phrase: str
    arm: str
    prefills: int
    kind: Kind | None = None
    gap: float | None = None


@dataclass(frozen=True, slots=True)
class PhraseCounts:
    """Every phrase of a run's completions, by key and arm. sizes: arm -> distinct prefills with a completion."""

    sizes: dict[str, int]
    rows: tuple[PhraseCount, ...]


def phrase_counts(analysis: Analysis) -> PhraseCounts:
    """Count the phrases of an analysis' completions, near-duplicates among them, loops left out."""
    said = [
        (arm, prefill or name, text)
        for row in analysis.ranking
        if "degenerate" not in row.flags
        for arm, name, prefill, text in (
            (f"{row.source}/{row.framing}", row.id, row.prefill, row.completion),
            *((copy.arm, copy.id, copy.prefill, copy.completion) for copy in row.copies),
        )
    ]
    if not said:
        return PhraseCounts({}, ())
    listed = _listed(analysis)
    # In one language, for which language a word is in depends on the texts, and keys must be equal in all runs.
    corpus, _ = Corpus.of([*(text for *_, text in said), *(phrase for phrase, *_ in listed)], language="en")
    arms, arm_of = np.unique([arm for arm, *_ in said], return_inverse=True)
    _, first, prefill_of = np.unique(
        [f"{arm}\0{prefill}" for arm, prefill, _ in said], return_index=True, return_inverse=True
    )
    arm_of_prefill = arm_of[first]
    lengths = np.diff(corpus.words.offsets)
    kinds: dict[int, tuple[Kind, float | None, str]] = {}
    found: list[tuple[int, str, int, int]] = []  # key, phrase, arm, prefills
    for n in range(1, LONGEST + 1):
        at, hashes = corpus.phrases(n)
        keys, rows = hashes.view(np.int64), corpus.words.rows[at]
        ours = rows < len(said)
        for key, row, place in zip(keys[~ours].tolist(), rows[~ours].tolist(), at[~ours].tolist(), strict=True):
            _, own, gap = listed[row - len(said)]
            kind: Kind = own if lengths[row] == n else "inside"
            if key not in kinds or _KINDS.index(kind) < _KINDS.index(kinds[key][0]):
                kinds[key] = (kind, gap if kind != "inside" else None, corpus.written(place, n))
        found.extend(_counted(keys[ours], prefill_of[rows[ours]], arm_of_prefill, at[ours], n, corpus))
    written = {key for key, *_ in found}
    found.extend((key, phrase, 0, 0) for key, (_, _, phrase) in kinds.items() if key not in written)
    none = (None, None, "")
    return PhraseCounts(
        dict(zip(arms.tolist(), np.bincount(arm_of_prefill, minlength=arms.size).tolist(), strict=True)),
        tuple(
            PhraseCount(key, phrase, str(arms[arm]), count, kind, gap)
            for key, phrase, arm, count in found
            for kind, gap, _ in (kinds.get(key, none),)
        ),
    )


def _listed(analysis: Analysis) -> list[tuple[str, Kind, float | None]]:
    """The phrases that the analysis shows as content, with their kind and gap."""
    found: list[tuple[str, Kind, float | None]] = []
    for theme in analysis.themes:
        found.append((theme.phrase, "theme", theme.mean_gap))
        found.extend((part.phrase, "part", part.mean_gap) for part in theme.parts)
    return [*found, *((each.word, "promoted", None) for each in analysis.promoted if not each.style)]


def _counted(
    keys: NDArray[np.int64],
    prefills: NDArray[np.int64],
    arms: NDArray[np.int64],
    at: NDArray[np.int64],
    n: int,
    corpus: Corpus,
) -> list[tuple[int, str, int, int]]:
    """(key, phrase as it is first written, arm, distinct prefills) for places `at` of phrases of n words."""
    order = np.lexsort((at, prefills, keys))
    keys, prefills, at = keys[order], prefills[order], at[order]
    fresh = np.ones(keys.size, dtype=bool)
    fresh[1:] = (keys[1:] != keys[:-1]) | (prefills[1:] != prefills[:-1])
    pairs, first, counts = np.unique(
        np.stack([keys[fresh], arms[prefills[fresh]]]), axis=1, return_index=True, return_counts=True
    )
    places = at[fresh][first].tolist()
    return [
        (key, corpus.written(place, n), arm, count)
        for key, arm, count, place in zip(*pairs.tolist(), counts.tolist(), places, strict=True)
    ]


def commoner_p(tables: Sequence[tuple[int, int, int, int]]) -> float:
    """One-sided p-value that a model holds a phrase no more often than the others; see the module.

    tables: for each arm this model's prefills that hold it, this model's prefills, and both over all models.
    """
    chances = np.ones(1)
    least = 0  # the fewest that can fall to the model
    for _, ours, holding, everything in tables:
        low = max(0, ours + holding - everything)
        fell = np.arange(low, min(ours, holding) + 1)
        ways = _log_choose(holding, fell) + _log_choose(everything - holding, ours - fell)
        chances = np.convolve(chances, np.exp(ways - _log_choose(everything, np.asarray([ours]))[0]))
        least += low
    return float(min(1.0, chances[sum(hits for hits, *_ in tables) - least :].sum()))


def _log_choose(n: int, k: NDArray[np.int64]) -> NDArray[np.float64]:
    logs = _log_factorials(n)
    return np.asarray(logs[n] - logs[k] - logs[n - k])


_LOGS = [np.zeros(1)]


def _log_factorials(n: int) -> NDArray[np.float64]:
    """log k! for k up to at least n."""
    if _LOGS[0].size <= n:
        _LOGS[0] = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, 2 * n + 1)))])
    return _LOGS[0]
