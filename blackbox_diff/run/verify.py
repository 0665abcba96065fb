"""Checks a run file by its digests, and derives what it says again from its raw replies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from blackbox_diff.buying import retry
from blackbox_diff.buying.buyer import settlement
from blackbox_diff.buying.ledger import Cost, Ledger
from blackbox_diff.buying.prices import prices_for, prices_of_writer
from blackbox_diff.config.model import AuditConfig, Budget
from blackbox_diff.design.apart import apart, writer
from blackbox_diff.records import WRITER, Alternatives, Completion, Framing, Lost, ReferenceScore, Refusal, Sample
from blackbox_diff.run import amplifying
from blackbox_diff.run.collect import INTERRUPTED, TARGET
from blackbox_diff.run.controller import VERSION, Controller
from blackbox_diff.run.pipeline import plan
from blackbox_diff.run.reread import Profiles, completion_again, score_again
from blackbox_diff.run.scoring import ONLY_WITH_IDS
from blackbox_diff.run.steps import Amplified, Batch, Drawn, Think, Wait
from blackbox_diff.run.writing import made_of, replies
from blackbox_diff.runfile.encoding import StoredCall
from blackbox_diff.runfile.store import Store
from blackbox_diff.wire.body import one_line


@dataclass(frozen=True, slots=True)
class Verified:
    """How many rows were re-derived, and one line for each that differs; `digest` is of all that the run holds."""

    completions: int
    scores: int
    calls: int
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()  # what can't be told, and what a run that was killed leaves open; no fault
    digest: str | None = None  # None: an older version made the run

    def sentence(self) -> str:
        counts = f"{self.completions} completions, {self.scores} scores, {self.calls} calls"
        return f"re-derived {counts}: " + (f"{len(self.problems)} differ" if self.problems else "all as stored")


def verify_run(run: Path, digest: str | None = None) -> Verified:
    """Check the run in directory `run`; nothing is changed. Raises RunFileError for what is not a run.

    digest: one that the run had, as an audit printed it; whoever made all digests anew can't have that one.
    """
    with Store.open(run, read_only=True) as store, store.at_once():
        profiles = store.state.profiles
        problems = store.damage() or (store.broken() if store.digest() else [])
        if digest is not None and not store.had_digest(digest):
            problems.insert(0, f"digest {one_line(digest, 80)}: this run never had it: another, or made anew")
        completions = scores = 0
        for origin in store.origins():
            for sample, outcome, call_id in store.decided(origin):
                completions += 1
                problems += _completion(store, sample, origin, outcome, call_id, profiles)
                if isinstance(outcome, Completion):
                    for label in store.scores(sample.id, origin):
                        scores += 1
                        problems += _score(store, sample, origin, outcome, label, profiles)
        calls = list(_ledger(store))
        problems += [line for line in calls if line]
        if store.state.written and made_of(replies(store)).openings != store.state.written:
            problems.append("writer: its replies hold other openings than the run file")
        problems += _decisions(store) if store.state.controller == VERSION else []
        unread = list(_unread(store, profiles))
        # A session that ended in order read every reply that it paid for.
        ended = store.state.stopped_because not in (None, INTERRUPTED)
        problems += unread if ended else []
        flying = sum(call.state == "reserved" for call in store.calls())
        notes = [*_undigested(store), *([] if ended else unread)]
        if flying:
            notes.append(f"{flying} calls are in flight, or were when the run was killed: `resume` settles them")
        return Verified(completions, scores, len(calls), tuple(problems), tuple(notes), store.digest())


def _undigested(store: Store) -> Iterator[str]:
    if store.digest() is None:
        yield "no digest: made by an older version of blackbox-diff; `resume` digests it as it is then"
    elif store.digested_since():
        yield "begun by an older version of blackbox-diff: its first rows are digested as a `resume` found them"


def _completion(
    store: Store, sample: Sample, origin: str, outcome: object, call_id: int | None, profiles: Profiles
) -> Iterator[str]:
    what = f"completion {sample.id} of {origin}"
    role = TARGET if writer(origin) == TARGET else f"reference:{writer(origin)}"
    copied = role != TARGET and store.state.controls_from is not None
    yield from _of_its_call(store, what, sample.id, role, outcome, call_id, copied)
    if call_id is None or isinstance(outcome, Lost):
        return
    again = completion_again(store, sample, origin, call_id, profiles)
    if again is None:
        yield f"{what}: its reply is missing (call {call_id})"
    elif _bare(again) != outcome or not _same_lists(store, again, store.alternatives(sample.id, origin)):
        yield f"{what}: differs from its reply (call {call_id})"


def _of_its_call(
    store: Store, what: str, sample_id: str, role: str, outcome: object, call_id: int | None, free: bool
) -> Iterator[str]:
    """What is wrong between a row and the call that it says it was read from. free: it may come without one."""
    if isinstance(outcome, Lost):
        if call_id is not None:
            yield f"{what}: is called {outcome.reason}, and call {call_id} answered it"
        return
    call = None if call_id is None else store.call(call_id)
    if call is None:
        if not free:
            yield f"{what}: no call is named that it was read from"
    elif (call.role, call.sample_id) != (role, sample_id):
        yield f"{what}: call {call_id} is {call.role}'s, for {call.sample_id or 'a probe'}"
    elif not call.accepted:
        yield f"{what}: call {call_id} gave no usable reply"


def _unread(store: Store, profiles: Profiles) -> Iterator[str]:
    """The accepted replies of which nothing was made."""
    used = store.calls_in_use()
    for call in store.calls():
        if call.role == WRITER:
            continue  # the openings of all of them are one row
        if call.accepted and call.sample_id and call.id not in used and not _ids_failed(store, call, profiles):
            yield f"call {call.id}: {call.role}'s reply for {call.sample_id} was paid for, and no row holds it"


def _ids_failed(store: Store, call: StoredCall, profiles: Profiles) -> bool:
    """Whether ids were to be scored and could not be: then the text was, in a later call that has a row."""
    label = call.role.removeprefix("reference:")
    sent = call.call.body.get("prompt", call.call.body.get("input_ids"))
    if label not in profiles or not isinstance(sent, list):
        return False
    for origin in (TARGET, label):
        sample, outcome = store.sample(call.sample_id, origin), store.outcome(call.sample_id, origin)
        if sample is None or not isinstance(outcome, Completion):
            continue
        ids = [*(outcome.prompt_ids or ()), *(outcome.ids or ())]
        if sent in (ids, [ids]):
            again = score_again(store, sample, outcome, label, call.id, profiles)
            return isinstance(again, Refusal) and again.reason in ONLY_WITH_IDS
    return False


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
    what = f"score of {sample.id} ({origin}) under {label}"
    unasked = isinstance(score, Refusal) and score.reason == "not_scorable"
    free = unasked or (origin != TARGET and store.state.controls_from is not None)
    yield from _of_its_call(store, what, sample.id, f"reference:{label}", score, call_id, free)
    if isinstance(score, Lost) or call_id is None:
        return
    again = score_again(store, sample, completion, label, call_id, profiles)
    if again is None:
        yield f"{what}: its reply is missing (call {call_id})"
    elif _bare(again) != score or not _same_lists(store, again, store.alternatives(sample.id, origin, label)):
        yield f"{what}: differs from its reply (call {call_id})"


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
    names = {TARGET: config.target.model}
    if config.writer is not None:
        ledgers[WRITER] = Ledger(Budget(), prices_of_writer(config.writer, Budget()), None, config.writer.model)
        names[WRITER] = config.writer.model
    names |= {
        f"reference:{label}": profile.model for label, profile in store.state.profiles.items() if label != TARGET
    }
    free = Ledger()
    for call in store.calls():
        asked = call.call.body.get("model")
        name = names.get(call.role)
        if asked is not None and name is not None and asked != name:
            yield f"call {call.id}: asked for {one_line(str(asked), 60)!r}, and {call.role} is {name!r}"
        yield _settled(call, ledgers.get(call.role, free))


def _decisions(store: Store) -> Iterator[str]:
    """What was decided in a run, derived again from the replies before each decision."""
    state, config = store.state, store.config
    if not store.references():
        return
    framings = dict.fromkeys(sample.arm.framing for sample, _, _ in store.decided(TARGET))
    asked = config.framing or tuple(each for each in get_args(Framing) if each in framings)
    samples = plan(config, asked, state.written)
    again = replay(store, config, samples)
    for number, (logged, derived) in enumerate(zip(state.rounds, again.rounds, strict=False), start=1):
        if logged != derived:
            yield f"round {number}: the replies before it lead to {derived}, the run file says {logged}"
    rows = [row for question in state.amplified for row in question.samples]
    yield from amplifying.astray(store, again.reference, rows)
    for name, kept, found in (
        ("amplified sampling", state.amplified, again.amplified),
        ("follow-ups", state.follow_ups, again.followed),
        ("validation", state.validation, again.validating),
    ):
        if tuple(found[: len(kept)]) != kept:
            yield f"{name}: the replies lead to other questions than the run file holds"


def _settled(call: StoredCall, ledger: Ledger) -> str:
    """What is wrong with a call: its state, its cost and whether it counts as answered follow from its reply."""
    if call.call.digest() != call.digest:
        return f"call {call.id}: its request was edited: it is not the one that was digested when it was sent"
    if call.reply is None:
        nothing = 0 if call.reserved[2] is not None else None
        expected = {"unknown": call.reserved, "released": (0, 0, nothing), "reserved": (0, 0, None)}.get(
            call.state
        )
        if expected is None or call.accepted:
            return f"call {call.id}: is called answered, and its reply is missing"
    else:
        decision = retry.decide(call.reply, call.attempt)
        expected = settlement(call.call, call.reply, decision, Cost(*call.reserved), ledger)[0].columns()
        state = "unknown" if decision.fate == "unknown" else "settled"
        accepted = decision.action == "accept"
        if (call.state, call.accepted) != (state, accepted):
            return (
                f"call {call.id}: is called {call.state}{'' if call.accepted else ', not usable'}; its reply says "
                f"{state}{'' if accepted else ', not usable'}"
            )
    if call.settled != expected:
        return f"call {call.id}: settled at {call.settled}, its reply says {expected}"
    return ""


def replay(store: Store, config: AuditConfig, samples: Sequence[Sample]) -> Controller:
    """The decisions of a run, derived again as far as what they ask for is there; nothing is bought or written."""
    again = Controller(store, config, store.references()[0], samples, writes=False)
    steps = again.steps()
    answer: object = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration:
            return again
        answer = step.work() if isinstance(step, Think) else None
        if isinstance(step, Wait) and not _there(store, again.reference, step.batch):
            return again


def _there(store: Store, reference: str, batch: Batch) -> bool:
    if isinstance(batch, Amplified):
        return len(amplifying.read(store, reference, batch.rows)) == len(batch.rows)
    origin = TARGET if isinstance(batch, Drawn) else apart(batch.purpose, TARGET)
    return all(store.sample(sample.id, origin) is not None for sample in batch.samples)
