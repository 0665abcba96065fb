"""A run as a log of Inspect, a sample a completion, for its viewer and its data frames. Needs the extra `inspect`.

docs/inspect.md says what stands where. Text that a model wrote is made visible as everywhere; the exact bytes stay
in the tokens. What a log may carry is bounded, whatever the run is: completions, characters, logprobs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blackbox_diff.errors import InputError
from blackbox_diff.findings import Analysis, EndpointSummary, Ranked, RunSummary
from blackbox_diff.records import CHAT_SYSTEM, CHAT_USER, TURNS, Alternatives, Completion, ScoredCompletion
from blackbox_diff.report import wording
from blackbox_diff.report.conclusion import conclude
from blackbox_diff.report.figures import figures
from blackbox_diff.run.results import UNFINISHED, Results
from blackbox_diff.sanitize import cut, encoded, finite, shorten, visible_lines

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalResults, EvalSample, EvalSpec
    from inspect_ai.model import ChatMessage, Logprobs, ModelUsage, StopReason
    from inspect_ai.scorer import Score

SUFFIX = ".eval"
EXTRA = "pip install 'blackbox-diff[inspect]'"
MOST_SAMPLES = 20_000
MAX_TEXT = 20_000  # characters of one completion
MAX_ANSWER = 200  # characters of the text in the list of samples
LISTED = 5  # alternatives written per position
MOST_ENTRIES = 300_000  # logprobs and segments of all samples together, the top of the ranking first


@dataclass(frozen=True, slots=True)
class _Place:
    """A completion's place in the ranking: a near-duplicate stands in that of the row it is folded into."""

    row: Ranked
    values: Mapping[str, float | None]
    copy: bool = False


def write(path: Path, results: Results, completions: Iterable[ScoredCompletion]) -> int:
    """Write the log with Inspect's own writer; returns the number of samples.

    completions: those of the ranking, in any order, read once. Raises InputError where Inspect is missing, or
    where `path` can't be written.
    """
    try:
        from inspect_ai.log import write_eval_log
    except ImportError:
        raise InputError(f"{path}: an Inspect log needs inspect_ai: {EXTRA}") from None
    log = as_log(results, completions)
    if not path.parent.is_dir():  # Inspect would make it
        raise InputError(f"{path}: can't be written: there is no directory {path.parent}")
    try:
        # An absolute path: Inspect would take "s3:/..." for a bucket.
        write_eval_log(log, str(path.absolute()), format="eval")
    except OSError as error:
        raise InputError(f"{path}: can't be written: {error.strerror or error}") from None
    return len(log.samples or ())


def as_log(results: Results, completions: Iterable[ScoredCompletion]) -> EvalLog:
    """The log as Inspect's value. The same run gives the same log: ids are digests, times are the run's."""
    from inspect_ai.log import EvalLog, EvalStats

    analysis, summary = results.analysis, results.summary
    places = _places(analysis)
    control = {row.id: row.completion for row in analysis.controls}
    known = sorted(
        (row for row in completions if row.sample.id in places),
        key=lambda row: (places[row.sample.id].row.rank, places[row.sample.id].copy, row.sample.id),
    )[:MOST_SAMPLES]
    samples, room = [], MOST_ENTRIES
    for row in known:
        place = places[row.sample.id]
        entries = _entries(row.completion, place)
        sample = _sample(row, place, analysis, control.get(row.sample.id), detailed=entries <= room)
        room -= entries if entries <= room else 0
        samples.append(sample)
    begun = datetime.fromisoformat(summary.created)
    return EvalLog(
        status="cancelled" if summary.stopped_because == UNFINISHED else "success",
        eval=_spec(analysis, summary, samples),
        results=_results(results, len(samples)),
        stats=EvalStats(
            started_at=begun.isoformat(),
            completed_at=(begun + timedelta(seconds=summary.seconds)).isoformat(),
            model_usage=_usages(summary),
        ),
        samples=samples,
    )


def _places(analysis: Analysis) -> dict[str, _Place]:
    metric = analysis.metric
    found: dict[str, _Place] = {}
    for row in analysis.ranking:
        gap = row.metrics.get("gap_nats_per_token")
        found[row.id] = _Place(row, {"gap": gap, metric: row.metrics.get(metric)})
        for copy in row.copies:
            found[copy.id] = _Place(row, {"gap": copy.gap, metric: copy.value}, copy=True)
    return found


def _entries(completion: Completion, place: _Place) -> int:
    return len(completion.tokens) * (1 + LISTED) + (0 if place.copy else len(place.row.segments))


def _sample(
    row: ScoredCompletion, place: _Place, analysis: Analysis, control: str | None, *, detailed: bool
) -> EvalSample:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ModelOutput
    from inspect_ai.model import ModelUsage as Usage

    sample, completion = row.sample, row.completion
    name = visible_lines(completion.model or "unknown")
    answer = ChatMessageAssistant(
        id=f"{sample.id}.answer", content=_shown(completion.text), source="generate", model=name
    )
    asked = _messages(row)
    used = completion.usage
    tokens = used.input_tokens or 0, used.output_tokens or len(completion.tokens)
    usage = Usage(input_tokens=tokens[0], output_tokens=tokens[1], total_tokens=sum(tokens))
    return EvalSample(
        id=sample.id,
        epoch=1,
        input=_shown(sample.prefill) if sample.arm.framing == "raw" else list(asked),
        target="",
        messages=[*asked, answer],
        output=ModelOutput(
            model=name,
            choices=[
                ChatCompletionChoice(
                    message=answer,
                    stop_reason=_stop_reason(completion.finish_reason),
                    logprobs=_logprobs(completion) if detailed else None,
                )
            ],
            usage=usage,
        ),
        scores=_scores(place, completion.text),
        model_usage={name: usage},
        metadata=_metadata(row, place, control, detailed=detailed),
        store={"segments": _segments(place.row)} if detailed and not place.copy else {},
        uuid=_digest(analysis.reference, sample.id),
    )


def _messages(row: ScoredCompletion) -> list[ChatMessage]:
    """What was sent. Inspect shows a bare text as a user's message; `framing` says that none was around it.

    Where the target wrote the user's turn, nothing was said in it: the message is empty.
    """
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

    name, prefill = row.sample.id, _shown(row.sample.prefill)
    if row.sample.asked == "raw" or row.sample.asked in TURNS:
        return [ChatMessageUser(id=f"{name}.prefill", content=prefill, source="input")]
    system = ChatMessageSystem(id=f"{name}.system", content=CHAT_SYSTEM, source="input")
    if row.sample.arm.framing == "user":
        return [system, ChatMessageUser(id=f"{name}.prefill", content=prefill, source="input")]
    return [
        system,
        ChatMessageUser(id=f"{name}.user", content=CHAT_USER, source="input"),
        ChatMessageAssistant(id=f"{name}.prefill", content=prefill, source="input"),
    ]


def _scores(place: _Place, text: str) -> dict[str, Score]:
    """answer: the text's beginning, which the viewer shows in its list of samples."""
    from inspect_ai.scorer import Score

    folded = f"near-duplicate of {place.row.id}" if place.copy else None
    answer = shorten(_shown(text), MAX_ANSWER)
    numbers = {
        name: Score.unscored(reason="undefined", answer=answer)
        if (value := finite(each)) is None
        else Score(value=value, answer=answer)
        for name, each in place.values.items()
    }
    return {**numbers, "rank": Score(value=place.row.rank, answer=answer, explanation=folded)}


def _metadata(row: ScoredCompletion, place: _Place, control: str | None, *, detailed: bool) -> dict[str, Any]:
    ranked = place.row
    return {
        "arm": row.sample.arm.name,
        "framing": row.sample.arm.framing,
        "prefill": _shown(row.sample.prefill),
        "n_tokens": len(row.completion.tokens),
        "near_duplicate_of": ranked.id if place.copy else None,
        "flags": [] if place.copy else list(ranked.flags),
        "peak": None if place.copy else _peak(ranked),
        "recurring": []
        if place.copy
        else [
            {"words": _shown(each.words), "prefills": each.prefills, "nats": finite(each.nats)}
            for each in ranked.recurring
        ],
        "control_completion": None if control is None else _shown(control),
        "left_out": None if detailed else "logprobs and segments: the log would be too large",
    }


def _peak(row: Ranked) -> dict[str, Any] | None:
    if row.peak is None:
        return None
    return {"bytes": [row.peak.start, row.peak.end], "text": _shown(cut(row.completion, row.peak)[1])}


def _segments(row: Ranked) -> list[list[float | None]]:
    return [[s.start, s.end, finite(s.target), finite(s.reference)] for s in row.segments]


def _logprobs(completion: Completion) -> Logprobs:
    """The content tokens as Inspect writes them; NaN where a logprob is missing, never 0."""
    from inspect_ai.model import Logprob
    from inspect_ai.model import Logprobs as Written

    data = encoded(completion.text)
    ends = completion.tokens.ends.tolist()
    listed = dict(_listed(completion.alternatives))
    return Written(
        content=[
            Logprob(
                token=_token(data[start:end]),
                logprob=logprob,
                bytes=list(data[start:end]),
                top_logprobs=listed.get(start) if end > start else None,
            )
            for start, end, logprob in zip([0, *ends[:-1]], ends, completion.tokens.logprobs.tolist(), strict=True)
        ]
    )


def _listed(lists: Alternatives | None) -> Iterator[tuple[int, Any]]:
    """Byte at which a token begins, and the likeliest that could have stood there."""
    from inspect_ai.model import TopLogprob

    if lists is None:
        return
    offsets = lists.offsets.tolist()
    for position, first, end in zip(lists.positions.tolist(), offsets[:-1], offsets[1:], strict=True):
        last = min(end, first + LISTED)
        tokens = [lists.vocabulary[number] for number in lists.tokens[first:last].tolist()]
        logprobs = lists.logprobs[first:last].tolist()
        yield (
            position,
            [
                TopLogprob(token=_token(token), logprob=logprob, bytes=list(token))
                for token, logprob in zip(tokens, logprobs, strict=True)
            ],
        )


def _spec(analysis: Analysis, summary: RunSummary, samples: list[EvalSample]) -> EvalSpec:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalSpec
    from inspect_ai.model import GenerateConfig

    settings = summary.settings
    own = _digest(summary.created, summary.target_url, summary.target)
    return EvalSpec(
        eval_id=_digest(own, analysis.reference, analysis.metric),
        run_id=own,
        created=datetime.fromisoformat(summary.created).isoformat(),
        task="blackbox_diff/run",
        task_id=own,
        task_args={name: settings[name] for name in sorted(settings)},
        model=visible_lines(summary.target),
        model_base_url=visible_lines(summary.target_url),
        model_generate_config=GenerateConfig(
            temperature=settings.get("temperature"), max_tokens=settings.get("max_tokens"), logprobs=True
        ),
        dataset=EvalDataset(
            name="prefills", samples=len(samples), sample_ids=[str(each.id) for each in samples], shuffled=False
        ),
        config=EvalConfig(epochs=1),
        packages={"blackbox-diff": summary.version},
        metadata={"reference": visible_lines(analysis.reference), "metric": analysis.metric},
        tags=["blackbox-diff"],
    )


def _results(results: Results, written: int) -> EvalResults:
    """The conclusion: its figures as metrics of one scorer, and all of it, schema 1, as metadata."""
    from inspect_ai.log import EvalMetric, EvalResults, EvalScore, HeadlineMetric

    analysis, summary = results.analysis, results.summary
    metrics = {
        each.key: EvalMetric(name=each.key, value=value, metadata={"shown": each.line()})
        for each in figures(analysis, summary)
        if (value := finite(each.value)) is not None
    }
    verdict = analysis.verdict
    audit = EvalScore(
        name="audit", scorer="blackbox_diff/audit", scored_samples=written, unscored_samples=0, metrics=metrics
    )
    return EvalResults(
        total_samples=summary.completions,
        completed_samples=written,
        scores=[audit],
        headline=HeadlineMetric(scorer="audit", metric="best_ten") if "best_ten" in metrics else None,
        metadata={
            "verdict": verdict.outcome,
            "sentence": visible_lines(verdict.sentence),
            "headline": visible_lines(wording.headline(analysis)),
            "stopped_because": visible_lines(summary.stopped_because),
            "conclusion": _plain(conclude(results).model_dump(mode="json", by_alias=True)),
        },
    )


def _usages(summary: RunSummary) -> dict[str, ModelUsage]:
    """By model; a reference or writer is named as one, since its model may be called as the target is."""
    target, *references = summary.endpoints
    names = {f"{visible_lines(each.label)} (reference)": _usage(each) for each in references}
    if summary.writer is not None:
        names[f"{visible_lines(summary.writer.model)} (writer)"] = _usage(summary.writer)
    return {visible_lines(target.model): _usage(target), **names}


def _usage(each: EndpointSummary) -> ModelUsage:
    from inspect_ai.model import ModelUsage

    return ModelUsage(
        input_tokens=each.input_tokens,
        output_tokens=each.output_tokens,
        total_tokens=each.input_tokens + each.output_tokens,
        total_cost=finite(each.cost_usd),
    )


def _stop_reason(finish: str | None) -> StopReason:
    known: dict[str | None, StopReason] = {
        "stop": "stop",
        "length": "max_tokens",
        "content_filter": "content_filter",
    }
    return known.get(finish, "unknown")


def _shown(text: str) -> str:
    return visible_lines(text[:MAX_TEXT]) + ("…" if len(text) > MAX_TEXT else "")


def _token(data: bytes) -> str:
    return visible_lines(data.decode("utf-8", "replace"))


def _plain(value: Any) -> Any:
    """JSON with every text made visible."""
    if isinstance(value, str):
        return _shown(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {_shown(name): _plain(each) for name, each in value.items()}
    return value


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:22]
