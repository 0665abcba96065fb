"""What the rounds of a run have brought so far: the completions that a look is taken at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from blackbox_diff.analysis.analyse import analyse
from blackbox_diff.analysis.lexicon import content_words
from blackbox_diff.analysis.words import words_of
from blackbox_diff.design import validation
from blackbox_diff.findings import Analysis, Question
from blackbox_diff.records import Completion, Listed, ReferenceScore, Refusal, Sample, ScoredCompletion
from blackbox_diff.run.bank import shipped_bank
from blackbox_diff.run.collect import TARGET
from blackbox_diff.run.steps import Drawn
from blackbox_diff.runfile.store import Store

PART_OF, LIFT = 3, 2.0  # texts, and times as often, from which on a word goes with what it stands beside


@dataclass(slots=True)
class Seen:
    """Rounds that were read. lost: by arm, how many were refused and failed."""

    store: Store
    reference: str
    target: list[ScoredCompletion] = field(default_factory=list)
    control: list[ScoredCompletion] = field(default_factory=list)
    listed: list[Listed] = field(default_factory=list)
    lost: dict[str, list[int]] = field(default_factory=dict)

    def read(self, batch: Drawn) -> None:
        """Take in what became of a round."""
        for sample in batch.samples:
            outcome = self.store.outcome(sample.id, TARGET)
            if isinstance(outcome, Completion):
                self.target += self._scored(sample, outcome, TARGET)
                self.listed += self._lists(sample, outcome)
            else:
                lost = self.lost.setdefault(sample.arm.name, [0, 0])
                lost[0 if isinstance(outcome, Refusal) else 1] += 1
        for sample in batch.controls:
            outcome = self.store.outcome(sample.id, self.reference)
            if isinstance(outcome, Completion):
                self.control += self._scored(sample, outcome, self.reference)

    def _scored(self, sample: Sample, completion: Completion, origin: str) -> Iterator[ScoredCompletion]:
        score = self.store.scores(sample.id, origin).get(self.reference)
        if isinstance(score, ReferenceScore):
            yield ScoredCompletion(sample, completion, {self.reference: score})

    def _lists(self, sample: Sample, completion: Completion) -> Iterator[Listed]:
        own = self.store.alternatives(sample.id, TARGET)
        other = self.store.alternatives(sample.id, TARGET, self.reference)
        if own is not None and other is not None:
            yield Listed(sample, completion.text, own, other)

    def analysis(self, known: Sequence[Question], seed: int) -> Callable[[], Analysis]:
        """What they say beside what is known; for another thread to work out.

        Completions that speak of it are left out, and elsewhere the words that go with it there.
        """
        rows, control, listed = list(self.target), list(self.control), list(self.listed)

        def work() -> Analysis:
            names = _names(known, control)

            def holds(text: str) -> bool:
                spoken = not names.isdisjoint(words_of(text))
                return spoken or any(validation.holds(question, text) for question in known)

            about = [row for row in rows if holds(row.completion.text)]
            ids = {row.sample.id for row in about}
            left = [row for row in rows if row.sample.id not in ids]
            beside = goes_with(*([row.completion.text for row in part] for part in (about, left)))
            pieces = {name[:end] for name in names for end in range(1, len(name))}  # likely where it begins
            return analyse(
                left,
                control,
                self.reference,
                seed=seed,
                arms={name: (each[0], each[1], 0) for name, each in self.lost.items()},
                listed=[each for each in listed if not holds(each.text)],
                bank=shipped_bank(self.reference),
                aside=beside | pieces,
            )

        return work


def goes_with(holding: Sequence[str], others: Sequence[str]) -> frozenset[str]:
    """Words that are written twice as often where something is, and in three texts there: they are part of it."""
    inside, outside = (Counter(chain.from_iterable(map(set, map(words_of, texts)))) for texts in (holding, others))
    return frozenset(
        word
        for word, n in inside.items()
        if n >= PART_OF and n / len(holding) >= LIFT * (outside[word] + 1) / (len(others) + 1)
    )


def _names(known: Sequence[Question], control: Sequence[ScoredCompletion]) -> frozenset[str]:
    """Words of what is known that the reference never writes: alone they speak of it, in whatever wording."""
    said = frozenset(chain.from_iterable(content_words(question.phrase) for question in known))
    return said.difference(*(words_of(row.completion.text) for row in control))
