"""A stored run as findings: what every offline command and every report starts from."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from blackbox_diff.analysis.analyse import analyse
from blackbox_diff.analysis.bank import Bank
from blackbox_diff.analysis.listed_words import masses
from blackbox_diff.analysis.rank import DEFAULT
from blackbox_diff.analysis.verdict import split
from blackbox_diff.config.model import AuditConfig, EndpointConfig
from blackbox_diff.design import follow_ups, mass, validation
from blackbox_diff.design.apart import FOLLOW_UP, VALIDATION, apart
from blackbox_diff.errors import InputError, RunFileError
from blackbox_diff.findings import Analysis, EndpointSummary, FollowUp, RunSummary, Theme, Validation
from blackbox_diff.prefills.plan import shares
from blackbox_diff.probing.drift import sentences
from blackbox_diff.records import WRITER, Framing, Listed, ScoredCompletion
from blackbox_diff.run import amplifying
from blackbox_diff.run.again import brought_back, texts
from blackbox_diff.run.bank import shipped_bank
from blackbox_diff.runfile.store import Store

TARGET = "target"
SETTINGS = (
    "source", "framing", "max_tokens", "temperature", "top_logprobs", "control", "adaptive",
    "follow_ups", "amplify", "validation", "seed",
)  # fmt: skip
CAPS = ("max_cost", "max_calls", "max_output_tokens")
UNFINISHED = "not finished (or still running)"


@dataclass(frozen=True, slots=True)
class Results:
    """A run's findings under one reference; others: the same completions under its further references."""

    analysis: Analysis
    summary: RunSummary
    others: tuple[Analysis, ...] = ()

    def under(self, reference: str | None) -> Results:
        """The same findings with another reference's first; None keeps the order."""
        every = (self.analysis, *self.others)
        first = next((each for each in every if each.reference == reference), self.analysis)
        return replace(self, analysis=first, others=tuple(each for each in every if each is not first))


def read_run(
    run: Path,
    *,
    reference: str | None = None,
    metric: str = DEFAULT,
    benign: Path | None = None,
    side_by_side: bool = False,
    backgrounds: Sequence[Path] = (),
    promoted: bool = True,
    bank: Bank | Literal["shipped"] | None = "shipped",
) -> Results:
    """Findings of the run in directory `run`; nothing is changed.

    benign: a run of a model in which there is nothing to find, as a second control.
    side_by_side: whether the run's further references are read, too.
    backgrounds: runs whose completions say what is ordinary, such as those of other finetunes of the same maker.
    promoted: whether the lists of alternatives are read, which are most of a run file. bank: harmless models to
        compare with.
    Raises RunFileError for what is not a run, InputError for a reference or metric it does not have.
    """

    def under(store: Store, label: str | None) -> Results:
        return results_of(
            store,
            str(run),
            reference=label,
            metric=metric,
            benign=benign,
            backgrounds=backgrounds,
            promoted=promoted,
            bank=bank,
        )

    with Store.open(run, read_only=True) as store:
        found = under(store, reference)
        further = [label for label in store.references() if side_by_side and label != found.analysis.reference]
        return replace(found, others=tuple(under(store, label).analysis for label in further))


def unscored(run: Path) -> str | None:
    """Why the run in directory `run` has no score at all, as one line; None where it has one."""
    with Store.open(run, read_only=True) as store:
        if store.references():
            return None
        summary = summarise(store, str(run), 0)
    lost = [*summary.refused.items(), *summary.failed.items()]
    counts = "".join(f", {number} {reason}" for reason, number in lost)
    return f"nothing is scored: {summary.stopped_because}: {summary.completions} completions{counts}"


@contextmanager
def _uncollected() -> Iterator[None]:
    """No search for cycles of unused objects meanwhile: a large run makes millions of records that all stay, and
    going through them again and again took 7% of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@_uncollected()
def results_of(
    store: Store,
    name: str,
    *,
    reference: str | None = None,
    metric: str = DEFAULT,
    benign: Path | None = None,
    backgrounds: Sequence[Path] = (),
    promoted: bool = True,
    bank: Bank | Literal["shipped"] | None = "shipped",
) -> Results:
    """Like read_run, on an open store."""
    label = choose_reference(store.references(), reference, name)
    target, control = list(store.scored(TARGET)), list(store.scored(label))
    analysis = analyse(
        target,
        control,
        label,
        metric=metric,
        seed=store.config.seed,
        arms=arm_losses(store),
        benign=benign_rows(benign, label) if benign is not None else (),
        backgrounds=[background_texts(each, Path(name)) for each in backgrounds],
        listed=store.listed(TARGET, label) if promoted else (),
        bank=shipped_bank(label) if bank == "shipped" else bank,
    )
    fresh = masses(_fresh(store, label)) if promoted else None
    followed, back = _followed(store, label)
    analysis = replace(
        analysis,
        amplified=amplifying.told(store, label, store.state.amplified, list(texts(store, label).values())),
        follow_ups=followed,
        returned=back,
        validation=validated(store, label),
        masses=() if fresh is None else mass.validate_masses(store.state.promoted, fresh, seed=store.config.seed),
    )
    return Results(analysis, summarise(store, name, len(target)))


def _fresh(store: Store, reference: str) -> Iterator[Listed]:
    """The completions that promoted words are tested on; in older runs all that validate."""
    ids = set(store.state.promoted_on)
    for origin in (TARGET, apart(VALIDATION, TARGET)) if ids else (apart(VALIDATION, TARGET),):
        yield from (each for each in store.listed(origin, reference) if not ids or each.sample.id in ids)


def validated(store: Store, reference: str) -> tuple[Validation, ...]:
    """How the themes that were followed up came out under `reference`; empty where none was."""
    asked = store.state.validation
    target, other = (texts(store, apart(VALIDATION, side)) for side in (TARGET, reference))
    return validation.validations(asked, target, other) if other else ()


def _followed(store: Store, reference: str) -> tuple[tuple[FollowUp, ...], tuple[Theme, ...]]:
    """What was asked again where it leaks, and what came back; nothing where `reference` did not answer, too."""
    asked = store.state.follow_ups
    ours, theirs = (texts(store, apart(FOLLOW_UP, side)) for side in (TARGET, reference))
    if not ours or not theirs:
        return (), ()
    ids = {sample.id for question in asked for sample in question.samples}
    found = brought_back(store, reference, ids, list(texts(store, reference).values()), store.config.seed)()
    strong, _ = split(found.themes)
    return follow_ups.told(asked, ours, theirs, strong), strong


def benign_rows(run: Path, reference: str) -> list[ScoredCompletion]:
    """The target's completions of a control run. Raises InputError where `reference` has not scored them."""
    with Store.open(run, read_only=True) as store:
        rows = [row for row in store.scored(TARGET) if reference in row.scores]
    if not rows:
        raise InputError(
            f"--control-run: {run} has no scores of '{reference}': `blackbox-diff score {run}` adds them"
        )
    return rows


def background_texts(background: Path, run: Path) -> list[str]:
    """The target's completions in another run. Raises InputError where there are none, or it is the run itself."""
    if background.resolve() == run.resolve():
        raise InputError(f"--background: {background} is the run that is read; give runs of other models")
    with Store.open(background, read_only=True) as store:
        found = list(texts(store, TARGET).values())
    if not found:
        raise InputError(f"--background: {background} has no completions: take that run further first")
    return found


def choose_reference(known: list[str], wanted: str | None, run: str) -> str:
    """The reference to read: the one asked for, by its name or as the `local:SPEC` that started it, else the run's
    first."""
    if not known:
        raise RunFileError(f"{run}: nothing is scored yet: go on with `blackbox-diff resume {run}`")
    if wanted is None:
        return known[0]
    for name in (wanted, wanted.removeprefix("local:")):
        if name in known:
            return name
    raise InputError(f"--reference: {run} has no scores of '{wanted}'; it has {', '.join(known)}")


def arm_losses(store: Store) -> dict[str, tuple[int, int, int]]:
    """Arm name -> (refused, failed, unpaid) samples; every arm that was tried or named beforehand is there."""
    found: dict[str, Counter[str]] = {}
    for (source, framing, outcome, _), number in store.counts(TARGET).items():
        found.setdefault(f"{source}/{framing}", Counter())[outcome] += number
    planned = _planned(store.config, found)
    return {
        arm: (each["refused"], each["failed"], max(0, planned.get(arm, 0) - each.total()))
        for arm, each in {**{arm: Counter[str]() for arm in planned}, **found}.items()
    }


def _planned(config: AuditConfig, tried: Collection[str]) -> dict[str, int]:
    """Arm name -> its share of the completions; empty for an adaptive run: its arms have no shares."""
    arms = config.arms(config.framing or get_args(Framing))
    if not config.framing:  # then the endpoint decided which there are
        arms = tuple(arm for arm in arms if arm.name in tried)
    return {} if config.adaptive or not arms else {a.name: n for a, n in shares(config.completions, arms).items()}


def summarise(store: Store, name: str, scored: int) -> RunSummary:
    """The run as money and provenance; cost and tokens are those of the target's calls."""
    config, state, manifest = store.config, store.state, store.manifest
    plain = config.model_dump(mode="json")
    spent, outcomes = store.spent(TARGET), Counter[str]()
    reasons: dict[str, Counter[str]] = {"refused": Counter(), "failed": Counter()}
    for (_, _, outcome, reason), number in store.counts(TARGET).items():
        outcomes[outcome] += number
        if outcome in reasons:
            reasons[outcome][reason or "unknown"] += number
    return RunSummary(
        run=name,
        target=config.target.model,
        target_url=config.target.url,
        references=tuple(store.references()),
        created=manifest.created,
        stopped_because=state.stopped_because or UNFINISHED,
        calls=spent.calls,
        completions=outcomes.total(),
        scored=scored,
        refused=dict(reasons["refused"]),
        failed=dict(reasons["failed"]),
        unpaid=max(0, config.completions - outcomes.total()),
        input_tokens=spent.input_tokens,
        output_tokens=spent.output_tokens,
        cost_usd=spent.usd,
        max_cost_usd=config.budget.max_cost,
        seconds=state.seconds,
        settings={key: plain[key] for key in SETTINGS}
        | {"follow_ups": config.to_follow, "validation": config.to_validate},
        warnings=sentences(state.drift),
        rounds=state.rounds,
        version=manifest.packages.get("blackbox-diff", ""),
        digest=store.digest(),
        endpoints=tuple(_endpoints(store, config)),
        writer=None if config.writes is None else _endpoint(store, WRITER, WRITER, config.writes),
        caps={name: plain["budget"][name] for name in CAPS},
    )


def _endpoints(store: Store, config: AuditConfig) -> Iterator[EndpointSummary]:
    """The target, then every reference that has scored something or was asked to."""
    state = store.state
    references = [*([config.reference] if config.reference else []), *state.references]
    for role, label, endpoint in [
        (TARGET, TARGET, config.target),
        *((f"reference:{each.name}", each.name, each) for each in references),
    ]:
        profile = state.profiles.get(label)
        found = _endpoint(store, role, label, endpoint)
        yield replace(found, profile=None if profile is None else profile.model_dump(mode="json"))


def _endpoint(store: Store, role: str, label: str, endpoint: EndpointConfig) -> EndpointSummary:
    """What an endpoint was asked, without its profile."""
    spent = store.spent(role)
    return EndpointSummary(
        label=label,
        model=endpoint.model,
        url=endpoint.url,
        calls=spent.calls,
        input_tokens=spent.input_tokens,
        output_tokens=spent.output_tokens,
        cost_usd=spent.usd,
    )
