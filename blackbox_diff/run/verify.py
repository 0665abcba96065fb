"""Re-derives what a run file says from the raw replies in it: completions, scores and the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from blackbox_diff.buying import retry
from blackbox_diff.buying.buyer import settlement
from blackbox_diff.buying.ledger import Cost, Ledger
from blackbox_diff.buying.prices import prices_for
from blackbox_diff.config.model import Budget
from blackbox_diff.records import Alternatives, Completion, Lost, ReferenceScore, Sample
from blackbox_diff.run import rounds
from blackbox_diff.run.collect import TARGET
from blackbox_diff.run.reread import Profiles, completion_again, score_again
from blackbox_diff.runfile.encoding import StoredCall
from blackbox_diff.runfile.store import Store


@dataclass(frozen=True, slots=True)
class Verified:
    """How many rows were re-derived, and one line for each that differs."""

    completions: int
    scores: int
    calls: int
    problems: tuple[str, ...]

    def sentence(self) -> str:
        counts = f"{self.completions} completions, {self.scores} scores, {self.calls} calls"
        return f"re-derived {counts}: " + (f"{len(self.problems)} differ" if self.problems else "all as stored")


def verify_run(run: Path) -> Verified:
    """Check the run in directory `run`; nothing is changed. Raises RunFileError for what is not a run."""
    with Store.open(run, read_only=True) as store:
        profiles = store.state.profiles
        problems: list[str] = []
        completions = scores = 0
        for origin in store.origins():
            for sample, outcome, call_id in store.decided(origin):
                if call_id is not None:
                    completions += 1
                    problems += _completion(store, sample, origin, outcome, call_id, profiles)
                if isinstance(outcome, Completion):
                    for label in store.scores(sample.id, origin):
                        scores += 1
                        problems += _score(store, sample, origin, outcome, label, profiles)
        calls = list(_ledger(store))
        problems += [line for line in calls if line]
        problems += _rounds(store)
        return Verified(completions, scores, len(calls), tuple(problems))


def _completion(
    store: Store, sample: Sample, origin: str, outcome: object, call_id: int, profiles: Profiles
) -> Iterator[str]:
    again = completion_again(store, sample, origin, call_id, profiles)
    if again is None:
        yield f"completion {sample.id} of {origin}: its reply is missing (call {call_id})"
    elif _bare(again) != outcome or not _same_lists(store, again, store.alternatives(sample.id, origin)):
        yield f"completion {sample.id} of {origin}: differs from its reply (call {call_id})"


def _score(
    store: Store,
    sample: Sample,
    origin: str,
    completion: Completion,
    label: str,
    profiles: Profiles,
) -> Iterator[str]:
    score = store.scores(sample.id, origin)[label]
    call_id = store.score_call(sample.id, origin, label)
    if isinstance(score, Lost) or call_id is None:
        return
    again = score_again(store, sample, completion, label, call_id, profiles)
    if again is None:
        yield f"score of {sample.id} ({origin}) under {label}: its reply is missing (call {call_id})"
    elif _bare(again) != score or not _same_lists(store, again, store.alternatives(sample.id, origin, label)):
        yield f"score of {sample.id} ({origin}) under {label}: differs from its reply (call {call_id})"


def _bare(found: object) -> object:
    """What was read without its lists, which the run file keeps apart."""
    return replace(found, alternatives=None) if isinstance(found, Completion | ReferenceScore) else found


def _same_lists(store: Store, again: object, stored: Alternatives | None) -> bool:
    if stored is None and not store.keeps_all_lists():
        return True
    return (again.alternatives if isinstance(again, Completion | ReferenceScore) else None) == stored


def _ledger(store: Store) -> Iterator[str]:
    """One line per call: empty where the settlement follows from reply and reservation."""
    config = store.config
    ledgers = {TARGET: Ledger(Budget(), prices_for(config.target, config.budget), None, config.target.model)}
    for reference in [*([config.reference] if config.reference else []), *store.state.references]:
        uncapped = reference.budget().model_copy(update={"max_cost": None})
        ledgers[f"reference:{reference.name}"] = Ledger(
            Budget(), prices_for(reference, uncapped), None, reference.model
        )
    free = Ledger()
    spent = 0
    for call in store.calls():
        ledger = ledgers.get(call.role, free)
        spent += call.role == TARGET and call.state != "released"
        yield _settled(call, ledger)
    if spent != store.spent(TARGET).calls:
        yield f"ledger: {spent} target calls are stored and {store.spent(TARGET).calls} are counted"


def _rounds(store: Store) -> Iterator[str]:
    """The rounds of an adaptive run, planned again from the replies before each."""
    log = store.state.rounds
    if log:
        again = rounds.replay(store, store.config, log)
        for number, (logged, derived) in enumerate(zip(log, again, strict=True), start=1):
            if logged != derived:
                yield f"round {number}: the replies before it lead to {derived}, the run file says {logged}"


def _settled(call: StoredCall, ledger: Ledger) -> str:
    if call.reply is None:
        expected = call.reserved if call.state in ("unknown", "reserved") else None
    else:
        decision = retry.decide(call.reply, call.attempt)
        expected = settlement(call.call, call.reply, decision, Cost(*call.reserved), ledger)[0].columns()
    if expected is not None and call.settled != expected:
        return f"call {call.id}: settled at {call.settled}, its reply says {expected}"
    return ""
