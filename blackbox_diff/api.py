"""The library: audits, probes and finished runs from Python. The core is async; the plain functions wait for it.

Nothing here prints, installs a signal handler or ends the process. A refused endpoint raises; a run that stopped
at a cap is a run, and says so in `stopped_because`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, Unpack

from blackbox_diff.analysis.rank import DEFAULT
from blackbox_diff.buying.estimate import Estimate
from blackbox_diff.config.model import AuditConfig, Budget, EndpointConfig, parse_config, parse_endpoint
from blackbox_diff.errors import ConfigError, InputError
from blackbox_diff.findings import Analysis, Entry, Promoted, Ranked, RunSummary, Theme, Validation, Verdict
from blackbox_diff.records import WRITER, EndpointProfile
from blackbox_diff.run import commands
from blackbox_diff.run.lanes import LOCAL
from blackbox_diff.run.progress import Listener, unheard
from blackbox_diff.run.results import Results, read_run

if TYPE_CHECKING:
    import pandas

    from blackbox_diff.fleet.rows import Family

_T = TypeVar("_T")
_BUDGET = frozenset(Budget.model_fields)


class Settings(TypedDict, total=False):
    """What an audit can be told beside its endpoints; the names are those of the command line and of TOML files.

    Caps and prices in USD, prices per million tokens, `max_tokens` in tokens of the target.
    """

    source: tuple[str, ...]
    framing: tuple[Literal["raw", "chat", "user", "turn", "turn-bare"], ...]
    completions: int
    max_tokens: int
    temperature: float
    top_logprobs: int
    concurrency: int
    control: int
    adaptive: bool
    follow_ups: int
    amplify: int
    validation: int
    seed: int
    fresh_probe: bool
    max_cost: float
    max_calls: int
    max_output_tokens: int
    price_in: float
    price_out: float


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model behind one OpenAI-compatible endpoint.

    url: base URL, usually ending in /v1. key_env: the environment variable that holds the key, which is stored
    nowhere. dialect: "auto" lets the probe decide. api_version: Azure only; provider: OpenRouter, watsonx.ai.
    label: the name in tables, the model's by default. price_in, price_out, max_cost: of a reference, and the first
    two of a writer; USD, prices per million tokens. The target's are settings of the audit.
    """

    url: str
    model: str
    key_env: str | None = None
    dialect: str = "auto"
    api_version: str | None = None
    provider: str | None = None
    label: str = ""
    timeout_seconds: float = 120.0
    price_in: float | None = None
    price_out: float | None = None
    max_cost: float | None = None

    def config(self) -> EndpointConfig:
        """The checked settings. Raises ConfigError, one line, for what can't be."""
        return parse_endpoint({name: getattr(self, name) for name in self.__dataclass_fields__}, "Endpoint")


class Run:
    """A run on disk, read when something is asked of it. Make one with `audit`, `resume` or `open_run`.

    What is derived is computed once per object and needs a score: properties raise RunFileError for a run in which
    nothing is scored, and InputError for a reference that the run does not have.
    """

    def __init__(self, path: Path, reference: str | None = None, metric: str = DEFAULT) -> None:
        self.path = path
        self._reference, self._metric = reference, metric

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @cached_property
    def results(self) -> Results:
        """Everything that is derived from the run's completions under its reference."""
        return read_run(self.path, reference=self._reference, metric=self._metric)

    @property
    def analysis(self) -> Analysis:
        return self.results.analysis

    @property
    def summary(self) -> RunSummary:
        """Money and provenance."""
        return self.results.summary

    @property
    def verdict(self) -> Verdict:
        return self.analysis.verdict

    @property
    def themes(self) -> tuple[Theme, ...]:
        """What recurs in completions of unrelated prefills, strongest first."""
        return self.analysis.themes

    @property
    def recurring(self) -> tuple[Entry, ...]:
        """Themes and promoted words as one list: what carries a finding first, then by strength."""
        return self.analysis.recurring

    @property
    def promoted(self) -> tuple[Promoted, ...]:
        """Words to which the target gives more probability than the reference, written or not; content first."""
        return self.analysis.promoted

    @property
    def ranking(self) -> tuple[Ranked, ...]:
        """The completions, best first, near-duplicates folded into the best of them."""
        return self.analysis.ranking

    @property
    def validation(self) -> tuple[Validation, ...]:
        """How the themes that were followed up came out on fresh completions."""
        return self.analysis.validation

    @property
    def references(self) -> tuple[str, ...]:
        """Labels of the references that have scored something."""
        return self.summary.references

    @property
    def stopped_because(self) -> str:
        """Why the run ended: everything bought, a cap, an interruption."""
        return self.summary.stopped_because

    @property
    def cost_usd(self) -> float | None:
        """What the target has cost; None where no price is known."""
        return self.summary.cost_usd

    def under(self, reference: str) -> Run:
        """The same run judged by another of its references."""
        return Run(self.path, reference, self._metric)

    def conclusion(self) -> dict[str, Any]:
        """The whole conclusion as plain data: what `report --json` prints, schema 1."""
        from blackbox_diff.report.conclusion import conclude

        found: dict[str, Any] = conclude(self.results).model_dump(mode="json", by_alias=True)
        return found

    def report(self, path: str | Path) -> Path:
        """Write the HTML report, or a Markdown summary where the name ends in .md; returns the path.

        Raises InputError where the file can't be written.
        """
        from blackbox_diff.report.write import write_reports

        path = Path(path)
        if path.suffix == ".md":
            write_reports(self.results, markdown_file=path)
        else:
            write_reports(self.results, html=path)
        return path

    def frame(self) -> pandas.DataFrame:
        """The ranking as a table, a row a completion, a column a metric. Needs the extra `frames`."""
        from blackbox_diff.report.export import rank_row

        rows = [rank_row(row) for row in self.ranking]
        return _pandas().DataFrame([{**row, **row.pop("metrics")} for row in rows])

    def themes_frame(self) -> pandas.DataFrame:
        """The themes as a table, quotes as lists. Needs the extra `frames`."""
        from blackbox_diff.report.conclusion import theme_part

        return _pandas().DataFrame([theme_part(theme).model_dump() for theme in self.themes])


async def audit_async(
    target: Endpoint,
    reference: Endpoint | str,
    *,
    out: str | Path,
    writer: Endpoint | None = None,
    on_progress: Listener = unheard,
    **settings: Unpack[Settings],
) -> Run:
    """Audit `target` into the directory `out`; returns the run, also where a cap stopped it.

    reference: an endpoint, or "local:SPEC" for a model that the bundled server loads. writer: a chat model that
    writes the openings of the source "writer". on_progress is called on the
    event loop with Progress and Notice values and must not block. A cancelled task leaves a run that `resume`
    takes up.
    Raises ConfigError for settings that can't be, RunFileError where `out` holds a run, EndpointUsageError for an
    address, model or key that is wrong, NotAuditableError for an endpoint that lacks what an audit needs.
    """
    config = _config(target, reference, settings, writer)
    await commands.start(config, Path(out), listener=on_progress)
    return Run(Path(out))


async def resume_async(run: str | Path, *, on_progress: Listener = unheard, **changes: Unpack[Settings]) -> Run:
    """Go on with a run where it stopped.

    changes: caps, `completions` (upwards), `control`, `validation` and `concurrency`. Raises ConfigError for one
    that would change what was bought.
    """
    await commands.go_on(Path(run), _tables(changes), listener=on_progress)
    return Run(Path(run))


async def probe_async(endpoint: Endpoint, purpose: Literal["target", "reference"] = "target") -> EndpointProfile:
    """What an endpoint can do, in about a dozen tiny calls. Raises EndpointUsageError for a wrong address."""
    return await commands.probe_endpoint(endpoint.config(), purpose)


def audit(
    target: Endpoint,
    reference: Endpoint | str,
    *,
    out: str | Path,
    writer: Endpoint | None = None,
    on_progress: Listener = unheard,
    **settings: Unpack[Settings],
) -> Run:
    """`audit_async`, waited for; works beside a running event loop, too (on a thread of its own)."""
    return _wait(
        lambda: audit_async(target, reference, out=out, writer=writer, on_progress=on_progress, **settings)
    )


def resume(run: str | Path, *, on_progress: Listener = unheard, **changes: Unpack[Settings]) -> Run:
    """`resume_async`, waited for."""
    return _wait(lambda: resume_async(run, on_progress=on_progress, **changes))


def probe(endpoint: Endpoint, purpose: Literal["target", "reference"] = "target") -> EndpointProfile:
    """`probe_async`, waited for."""
    return _wait(lambda: probe_async(endpoint, purpose))


def estimate(
    target: Endpoint, reference: Endpoint | str, *, writer: Endpoint | None = None, **settings: Unpack[Settings]
) -> Estimate:
    """Calls, tokens and USD of an audit, expected and at most; spends nothing."""
    return commands.estimate_audit(_config(target, reference, settings, writer))


def open_run(path: str | Path, *, reference: str | None = None, metric: str = DEFAULT) -> Run:
    """The run in directory `path`. Raises RunFileError for what is not a run, InputError for a wrong reference."""
    run = Run(Path(path), reference, metric)
    _ = run.results
    return run


def fleet_themes(path: str | Path) -> list[Family]:
    """What the models of a fleet's directory share, and what only one has: a family for each design of two audits.

    Raises InputError for what is not a fleet's directory, and without the extra `export`.
    """
    from blackbox_diff.fleet.index import read_index
    from blackbox_diff.fleet.themes import themes_of

    return themes_of(Path(path), read_index(Path(path)).rows)


def _config(
    target: Endpoint, reference: Endpoint | str, settings: Mapping[str, Any], writer: Endpoint | None
) -> AuditConfig:
    if isinstance(reference, str):
        if not reference.removeprefix(LOCAL) or not reference.startswith(LOCAL):
            raise ConfigError(f"reference: '{reference}' is not local:SPEC; for a server give an Endpoint")
        reference = Endpoint(reference, reference.removeprefix(LOCAL))
    ends = {"target": target.config().model_dump(), "reference": reference.config().model_dump()}
    if writer is not None:
        ends[WRITER] = writer.config().model_dump()
    config = parse_config({**_tables(settings), **ends}, "audit")
    if writer is not None and config.writes is None:
        raise ConfigError(f"writer: no source is its: give source=({WRITER!r},), or add it to the others")
    return config


def _tables(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as the tables of a configuration; one text stands for a list of one."""
    plain = {name: value for name, value in settings.items() if name not in _BUDGET}
    for name in ("source", "framing"):
        if isinstance(plain.get(name), str):
            plain[name] = (plain[name],)
    budget = {name: value for name, value in settings.items() if name in _BUDGET}
    return {**plain, "budget": budget} if budget else plain


def _wait(begin: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run a coroutine to its end; on a thread of its own where this one has a running loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(begin())
    return _on_a_thread(begin)


def _on_a_thread(begin: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """An interruption of the waiting thread (Ctrl-C in a notebook) cancels the coroutine and is raised after."""
    outcome: list[_T] = []
    failure: list[BaseException] = []
    started = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def run() -> _T:
        task = asyncio.current_task()
        assert task is not None
        loops.append((asyncio.get_running_loop(), task))
        started.set()
        return await begin()

    def work() -> None:
        try:
            outcome.append(asyncio.run(run()))
        except BaseException as error:  # handed to the waiting thread
            failure.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=work, name="blackbox-diff")
    thread.start()
    try:
        thread.join()
    except BaseException:
        started.wait()
        for loop, task in loops:
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    if failure:
        raise failure[0]
    return outcome[0]


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise InputError("frames need pandas: pip install 'blackbox-diff[frames]'") from None
    return pandas
