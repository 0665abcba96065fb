"""The design at work: look, ask again, validate, stop.

Nothing that decides is kept. The controller is a generator that says what to buy and when to wait for it, and
reads what came from the run file; a run that is resumed goes through it again, finds what it has bought, and
comes to the same decisions, since they follow from the seed and the replies. What it writes down is for readers,
and for `verify`, which derives it again. The fixed design is the same controller with one look, at everything.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from blackbox_diff.analysis.listed_words import masses
from blackbox_diff.config.model import AuditConfig
from blackbox_diff.design import amplify, betting, controller, follow_ups, mass, validation
from blackbox_diff.design.apart import FOLLOW_UP, VALIDATION, apart
from blackbox_diff.findings import Analysis, Entry, Question, Round
from blackbox_diff.records import Sample
from blackbox_diff.run import amplifying
from blackbox_diff.run.again import NOTHING, Evidence, brought_back, texts, unused
from blackbox_diff.run.bank import shipped_bank
from blackbox_diff.run.collect import TARGET
from blackbox_diff.run.seen import Seen
from blackbox_diff.run.steps import Amplified, Asked, Buy, Drawn, Say, Steps, Think, Wait
from blackbox_diff.runfile.store import Store

VERSION = 6  # of the decisions: `verify` derives its own again
WAVES = 2  # of follow-ups: the second follows what the first brought back
BATCH = 8  # trials of a hypothesis between two looks at its wealth
TRIALS = 128  # of a hypothesis at most
PATIENCE, LUCK = 16, 2.0  # trials after which one is given up that would not do at so many times its rate so far
ENOUGH = 4  # prefills that brought something back: then it is tested behind those alone
FRESH = 48  # completions on which promoted words are tested where no later round is at hand


@dataclass(slots=True)
class Controller:
    """One run's decisions so far, as they follow from its replies. samples: the plan, in order."""

    store: Store
    config: AuditConfig
    reference: str
    samples: Sequence[Sample]
    writes: bool = True  # whether what was decided is kept in the run file
    rounds: list[Round] = field(default_factory=list)
    amplified: list[Question] = field(default_factory=list)  # one, once that is done
    followed: list[Question] = field(default_factory=list)
    validating: list[Question] = field(default_factory=list)
    looks: list[controller.Look] = field(default_factory=list)
    cycles: list[int] = field(default_factory=list)
    leads: list[str] = field(default_factory=list)  # followed while nothing carried a finding
    asked: list[str] = field(default_factory=list)  # carried one when it asked
    tested: list[controller.Tried] = field(default_factory=list)
    confirmed_at: list[int] = field(default_factory=list)
    promoted: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())  # words, ids of completions to test them on
    likelier: tuple[str, ...] = ()  # of these words, those that were confirmed
    stopped: str | None = None
    seen: Seen = field(init=False)
    _hints: Evidence = NOTHING  # out of amplified texts
    _pairs: list[betting.Pairs] = field(default_factory=list)  # of each hypothesis

    def __post_init__(self) -> None:
        self.seen = Seen(self.store, self.reference)

    def steps(self) -> Steps:
        """What to buy, and when to wait. `stopped` then says why it ended before the cap, if it did."""
        plan = list(self._plan())
        adaptive = self.config.adaptive
        for batch in plan[:2] if adaptive else plan:
            yield Buy(batch)
        bought = 0
        for k, batch in enumerate(plan):
            yield Wait(batch)
            bought += len(batch.samples)
            if not adaptive and not self._can_ask():
                return
            self.seen.read(batch)
            yield from self._weigh(batch)
            analysis = yield from self._take_look(batch, bought)
            ahead = plan[k + 1] if k + 1 < len(plan) else None
            decision = yield from self._decide(analysis, ahead)
            if decision.action == "stop":
                self.stopped = decision.why or None
                return
            if k + 2 < len(plan):
                yield Buy(plan[k + 2])

    def _plan(self) -> Iterator[Drawn]:
        n = len(self.samples)
        begin = 0
        for end in controller.ends(n) if self.config.adaptive else (n,):
            most = end if self.config.control is None else min(end, self.config.control)
            yield Drawn(tuple(self.samples[begin:end]), tuple(self.samples[begin : max(begin, most)]))
            begin = end

    def _weigh(self, batch: Drawn) -> Generator[Think, Any, None]:
        """See how promoted words came out, where they are tested on this round."""
        words, ids = self.promoted
        if not words or ids != tuple(sample.id for sample in batch.samples):
            return
        fresh = [each for each in self.seen.listed if each.sample.id in ids]
        found = yield Think(lambda: mass.validate_masses(words, masses(fresh), seed=self.config.seed))
        self.likelier = tuple(each.word for each in found if each.confirmed)
        if self.likelier:
            self.tested += [(word, self.looks[-1].bought) for word in self.likelier]
            self.confirmed_at.append(self.looks[-1].bought + len(batch.samples))

    def _take_look(self, batch: Drawn, bought: int) -> Generator[Think, Any, Analysis]:
        analysis: Analysis = yield Think(self._analysis())
        self.looks.append(controller.look_at(analysis, bought))
        if not self.config.adaptive:
            return analysis
        given = Counter(sample.arm.name for sample in batch.samples)
        last = self.looks[-1]
        self.rounds.append(Round(dict(sorted(given.items())), bought, last.outcome, last.p_value, last.themes))
        return analysis

    def _analysis(self) -> Callable[[], Analysis]:
        """What the rounds so far say beside what is confirmed already."""
        known = [question for question, sure in zip(self.validating, self._sure(), strict=True) if sure]
        known += [Question(word, (), ()) for word in self.likelier]
        return self.seen.analysis(known, self.config.seed)

    def _decide(
        self, analysis: Analysis, ahead: Drawn | None
    ) -> Generator[Buy | Wait | Think | Say, Any, controller.Decision]:
        """Ask again as long as that is the best thing to do, and then go on or stop."""
        while True:
            decision = controller.decide(self._position())
            if not self.config.adaptive:  # one look: it asks once
                asked = bool(self.cycles)
                decision = controller.Decision("stop" if asked else "ask again", "", last=True)
            else:
                self._log(decision)
                yield from map(Say, self.lines())
            if decision.action != "ask again":
                return decision
            self.cycles.append(self.looks[-1].bought)
            before = sum(self._sure())
            yield from self._ask_again(analysis, ahead, last=decision.last)
            if sum(self._sure()) > before:
                self.confirmed_at.append(self.looks[-1].bought)
                analysis = yield Think(self._analysis())
                self.looks[-1] = controller.look_at(analysis, self.looks[-1].bought)

    def _position(self) -> controller.Position:
        return controller.Position(
            cap=len(self.samples),
            looks=tuple(self.looks),
            cycles=tuple(self.cycles),
            followed=tuple(self.leads),
            asked=tuple(self.asked),
            tested=tuple(self.tested),
            confirmed=self._confirmed(),
            confirmed_at=(min(self.confirmed_at, default=0), max(self.confirmed_at, default=0)),
            can_ask=self._can_ask(),
        )

    def _confirmed(self) -> tuple[str, ...]:
        """Phrases that are confirmed, by counts or by probability."""
        counted = [each.phrase for each, yes in zip(self.validating, self._sure(), strict=True) if yes]
        return (*counted, *self.likelier)

    def _can_ask(self) -> bool:
        to_amplify = self.config.amplify > 0 and not self.amplified
        to_follow = len(_samples(self.followed)) < self.config.to_follow
        return to_amplify or to_follow or self._left_to_validate() > 0

    def _left_to_validate(self) -> int:
        fresh = len(self.promoted[1]) if self.promoted[1] and _is_apart(self.promoted[1][0]) else 0
        return self.config.to_validate - len(_samples(self.validating)) - fresh

    def _ask_again(self, analysis: Analysis, ahead: Drawn | None, *, last: bool) -> Steps:
        """Follow up, and test what there is to test."""
        yield from self._amplify()
        carrying = [each for each in controller.carrying(analysis) if self._is_new(controller.said(each)[0])]
        self.asked += [controller.said(each)[0] for each in carrying]
        back = yield from self._follow_up(analysis, carrying, last=last)
        rows = {False: analysis.ranking, True: back.ranking}
        chosen = [self._hypothesis(entry, analysis, back, last=last) for entry in carrying]
        tested = controller.candidates(back.themes, analysis.signals, last=last)
        hinted = [(theme, self._hints.ranking) for theme in self._hints.themes]
        for theme, ranking in [*((theme, rows[follows]) for theme, follows in tested), *hinted]:
            chosen.append(validation.hypothesis(theme, ranking))
        yield from self._promoted(analysis, carrying, ahead)
        yield from self._validate([each for each in chosen if each is not None])

    def _is_new(self, phrase: str) -> bool:
        """Whether a phrase is about nothing that is settled already."""
        known = controller.settled(self.tested, self._confirmed(), self.looks[-1].bought)
        return bool(controller.fresh([phrase], known))

    def _hypothesis(
        self, entry: Entry, analysis: Analysis, back: Evidence, *, last: bool
    ) -> validation.Hypothesis | None:
        """An entry behind the prefills that brought it back, and behind its own where those are few.

        None where it was followed up and did not come back: it may later, behind other prefills.
        """
        phrase, terms = controller.said(entry)
        prefills = validation.came_back((phrase, *terms), back.ranking)
        if back.ranking and not prefills and not last:
            return None
        if len(prefills) < ENOUGH:
            framings = follow_ups.framings_of(analysis.ranking)
            before = validation.contexts_of((phrase, *terms), analysis.ranking)
            own = [(text, row.framing) for text, row in before]
            own += [one for word in entry.words for one in follow_ups.around(word, framings)]
            prefills += validation.unsaid(own, phrase, *terms) or own
        return validation.hypothesis_at(phrase, terms, prefills)

    def _amplify(self) -> Steps:
        """Write rows towards what the target says more, the first time that it asks again."""
        if not self.config.amplify or self.amplified:
            return
        rows = amplify.rows(self.samples, self.config.amplify)
        why_not = amplifying.why_not(self.store, self.reference, rows)
        if why_not is not None:
            self.amplified = [Question("", (), (), why_not)]
            self._save()
            yield Say(f"--amplify: skipped: {why_not}")
            return
        self.amplified = [Question("", (), rows)]
        self._save()
        yield from self._bought(Amplified(rows))
        found = amplifying.read(self.store, self.reference, rows)
        control = [row.completion.text for row in self.seen.control]
        self._hints = yield Think(lambda: amplifying.hints(found, control, self.config.seed))

    def _follow_up(
        self, analysis: Analysis, carrying: Sequence[Entry], *, last: bool
    ) -> Generator[Buy | Wait | Think | Say, Any, Evidence]:
        """Ask where the evidence is strongest, and then where that brought something back."""
        followed, sure = len(_samples(self.followed)), bool(carrying) or not self.config.adaptive
        number = controller.to_follow(self.config.to_follow, followed, self._position(), carrying=sure, last=last)
        asked: list[Question] = []
        back = NOTHING
        leads = self._leads(analysis, carrying)
        for wave in range(WAVES if number else 0):
            size = number // WAVES + (number % WAVES if wave else 0)
            if wave:
                framings = follow_ups.framings_of(analysis.ranking)
                again = [
                    follow_ups.returned(
                        *controller.said(each), back.ranking, follow_ups.opening(each.words, framings)
                    )
                    for each in carrying
                ]
                leads = [each for each in again if each is not None] or (
                    back.leads() if back.says_something and not carrying else leads
                )
            more = follow_ups.questions(
                leads[: follow_ups.LEADS], size, self.config.seed, len(self.cycles) * WAVES + wave
            )
            asked += more
            self.followed += more
            self.leads += [each.phrase for each in more if each.phrase and not carrying]
            self._save()
            yield from self._bought(Asked(FOLLOW_UP, _samples(more), scored=True))
            back = yield Think(self._brought_back({sample.id for sample in _samples(asked)}))
        return back

    def _leads(self, analysis: Analysis, carrying: Sequence[Entry]) -> Sequence[follow_ups.Lead]:
        """What is followed first: what carries a finding, else whatever stands out."""
        hints = follow_ups.amplified(self._hints.leads())
        every = (*analysis.themes, *analysis.signals)
        if carrying:
            words = [word for entry in carrying for word in entry.words[:1]]
            themes = [entry.theme for entry in carrying if entry.theme is not None]
            found = follow_ups.leads(words, themes, analysis.ranking)
            found = tuple(each for each in found if each.why != follow_ups.PEAK)
        else:
            found = follow_ups.leads(analysis.promoted, every, analysis.ranking)
        return follow_ups.in_turns(found, hints)

    def _brought_back(self, asked: set[str]) -> Callable[[], Evidence]:
        # The control of the rounds that were looked at, and no more of it, whatever has arrived.
        control = [row.completion.text for row in self.seen.control]
        return brought_back(self.store, self.reference, asked, control, self.config.seed)

    def _promoted(self, analysis: Analysis, carrying: Sequence[Entry], ahead: Drawn | None) -> Steps:
        """Fix the promoted words that are tested by their probability, and the fresh completions it is told on.

        They are words that carry a finding, or without a bank the strongest there are: what a harmless finetune
        promotes is likelier on fresh completions, too, and often three times. The next round is fresh; where there
        is none, some are bought if these words are all there is.
        """
        strong = [word for entry in carrying for word in entry.words[:1]]
        if not strong and shipped_bank(self.reference) is None:  # then no word can carry one
            strong = list(analysis.promoted)
        known = [each for each in strong if not each.style and not each.long]
        words = tuple(each.word for each in known)[: mass.WORDS]
        if self.promoted[0] or not words or not self.config.to_validate:
            return
        if ahead is None and carrying:
            return
        if ahead is not None:
            self.promoted = words, tuple(sample.id for sample in ahead.samples)
        else:
            used = {sample.group for sample in self.samples}
            number = min(FRESH, self.config.to_validate // 2)
            fresh = tuple(unused(self.store, self.config, {each.arm for each in self.samples}, used, number))
            self.promoted = words, tuple(sample.id for sample in fresh)
            yield from self._bought(Asked(VALIDATION, fresh, scored=True, both=False))
        self._save()

    def _validate(self, chosen: Sequence[validation.Hypothesis]) -> Steps:
        """Test hypotheses on fresh completions, one after the other, until one is confirmed.

        Each is tested until it is confirmed, hopeless or out of trials. What is left then may be the same in other
        words, which a look without it tells.
        """
        tested = 0
        for each in chosen:
            if tested == controller.PER_CYCLE or len(self.validating) == betting.SLOTS:
                return
            if not self._is_new(each.phrase):
                continue
            tested += 1
            # What was given up goes on where it stopped: then the null is of both sets of prefills.
            slot = validation.place(each, self.validating)
            if slot == len(self.validating):
                self.validating.append(Question(each.phrase, each.terms, ()))
            self.tested += [(phrase, self.looks[-1].bought) for phrase in (each.phrase, *each.terms)]
            self._count()
            before = self._pairs[slot]
            while not self._settled(slot, before):
                question = self.validating[slot]
                size = min(BATCH, TRIALS - len(question.samples), self._left_to_validate())
                if size <= 0:
                    break
                new = validation.trials(each, len(question.samples), size, self.config.seed)
                self.validating[slot] = replace(question, samples=(*question.samples, *new))
                self._save()
                yield from self._bought(Asked(VALIDATION, new, scored=False))
                self._count()
            if self._sure()[slot]:
                return

    def _settled(self, slot: int, before: betting.Pairs) -> bool:
        """Whether more trials of a hypothesis would tell nothing new. before: those of another time."""
        if self._sure()[slot]:
            return True
        tried = self._pairs[slot]
        left = min(TRIALS - len(self.validating[slot].samples), self._left_to_validate())
        if (n := tried.n - before.n) >= PATIENCE:
            rate = (tried.target + tried.both - before.target - before.both + 1) / n
            left = min(left, math.ceil(LUCK * rate * left))
        return left <= 0 or betting.hopeless(tried, left, slot, len(self.validating) - 1)

    def _count(self) -> None:
        """Take in what the trials so far came to."""
        ours, theirs = (texts(self.store, apart(VALIDATION, side)) for side in (TARGET, self.reference))
        self._pairs = [validation.pairs(question, ours, theirs) for question in self.validating]

    def _sure(self) -> tuple[bool, ...]:
        return betting.confirmed([betting.e_value(each) for each in self._pairs])

    def _bought(self, batch: Asked | Amplified) -> Steps:
        yield Buy(batch)
        yield Wait(batch)

    # For readers

    def _log(self, decision: controller.Decision) -> None:
        said = {"look": "goes on", "ask again": "asks again", "stop": "stops"}[decision.action]
        why = decision.why or "every completion that was asked for is bought"
        self.rounds[-1] = replace(self.rounds[-1], decisions=(*self.rounds[-1].decisions, f"{said}: {why}"))
        self._save()

    def lines(self) -> Iterator[str]:
        """What is believed after the last look, and what is done."""
        last = self.rounds[-1]
        if len(last.decisions) == 1:
            p = "" if last.p_value is None else f", p {last.p_value:.3f}"
            themes = "; ".join(f"“{theme}”" for theme in last.themes) or "none"
            yield f"round {len(self.rounds)}: {last.bought} looked at: {last.outcome}{p}; themes: {themes}"
        yield f"  {last.decisions[-1]}"

    def _save(self) -> None:
        if self.writes:
            words, ids = self.promoted
            state = replace(
                self.store.state, rounds=tuple(self.rounds), amplified=tuple(self.amplified),
                follow_ups=tuple(self.followed), validation=tuple(self.validating), promoted=words,
                promoted_on=ids, controller=VERSION,
            )  # fmt: skip
            self.store.set_state(state)


def _samples(asked: Sequence[Question]) -> tuple[Sample, ...]:
    return tuple(sample for question in asked for sample in question.samples)


def _is_apart(sample_id: str) -> bool:
    return sample_id.startswith(f"{VALIDATION}-")
