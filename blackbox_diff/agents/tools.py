"""The tools of an auditing agent: what it may do, within what a person fixed in `Limits`.

    async with opened(limits) as tools:
        started = await tools.start_audit(arguments.StartAudit(target="acme", reference="base"))
        answer = await tools.call("themes", {"run": started.run})    # the same by name, as a protocol does it

Arguments and answers are typed (arguments.py, answers.py) and bounded. An expected failure is a ToolError that
says what to do. Every call to an endpoint is counted against one cap over all runs in the folder; what earlier
sessions spent is read from the run files.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from blackbox_diff.agents import answers, arguments, excerpts
from blackbox_diff.agents.asking import ask
from blackbox_diff.agents.audits import Audits
from blackbox_diff.agents.folder import MOST_LISTED, Folder, held
from blackbox_diff.agents.limits import Limits
from blackbox_diff.agents.problems import ToolError, problem
from blackbox_diff.agents.registry import TOOLS
from blackbox_diff.agents.states import estimated, fitting, probed, progressed, purse
from blackbox_diff.agents.untrusted import Part, clip
from blackbox_diff.buying.estimate import Estimate
from blackbox_diff.buying.shared import SharedLedger
from blackbox_diff.config.messages import complaint
from blackbox_diff.config.model import AuditConfig, EndpointConfig
from blackbox_diff.errors import BlackboxDiffError, NotAuditableError, UsageError
from blackbox_diff.fleet.compare import compare_runs
from blackbox_diff.run import commands
from blackbox_diff.run.lanes import LOCAL
from blackbox_diff.run.local import serve
from blackbox_diff.run.progress import Progress
from blackbox_diff.run.results import Results, read_run
from blackbox_diff.runfile.files import FILE
from blackbox_diff.runfile.store import Store

PATIENCE = 30.0  # seconds that a cancelled audit has to finish what is paid for
Told = Callable[[Progress], Awaitable[None]]


async def unheard(_: Progress) -> None:
    """The listener of a caller who does not listen."""


@asynccontextmanager
async def opened(limits: Limits) -> AsyncIterator[Tools]:
    """The tools, with the folder of runs held; audits that are at work when it ends are stopped, resumable.

    Raises ConfigError or RunFileError for a folder that can't be used.
    """
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(held(limits.runs))
        shared = SharedLedger(limits.caps, folder.spent())
        tools = Tools(limits, folder, shared, stack)
        stack.push_async_callback(tools.audits.close)
        yield tools


class Tools:
    """For one event loop. Make it with `opened`."""

    def __init__(self, limits: Limits, folder: Folder, shared: SharedLedger, stack: AsyncExitStack) -> None:
        self.limits, self.folder, self.shared = limits, folder, shared
        self.audits = Audits(limits.settings.parallel)
        self._stack = stack
        self._served: dict[str, str] = {}
        self._starting = asyncio.Lock()
        self._locks: dict[str, asyncio.Lock] = {}
        self._read: dict[tuple[str, str | None, int, int], Results] = {}

    async def call(self, name: str, given: Mapping[str, Any], told: Told = unheard) -> Part:
        """The tool `name` with arguments as plain data. Raises ToolError alone."""
        tool = TOOLS.get(name)
        if tool is None:
            raise ToolError("bad_argument", "there is no such tool", f"take one of {', '.join(TOOLS)}")
        try:
            asked = tool.arguments.model_validate(given)
        except ValidationError as error:
            raise _refused(error, tool.arguments) from None
        method = getattr(self, name)
        try:
            answer: Part = await (method(asked, told) if tool.waits else method(asked))
        except BlackboxDiffError as error:
            raise problem(error) from None
        return answer

    # What may be done

    async def list_runs(self, asked: arguments.ListRuns) -> answers.Overview:
        names = self.folder.names()
        shown = names[:MOST_LISTED]
        lines = await asyncio.to_thread(
            lambda: [self.folder.line(name, self.audits.running(name)) for name in shown]
        )
        return answers.Overview(
            targets=[_endpoint(label, end) for label, end in self.limits.targets.items()],
            references=[_endpoint(label, end) for label, end in self.limits.references.items()],
            sources=list(self.limits.settings.sources),
            purse=purse(self.shared),
            runs=lines,
            more_runs=len(names) - len(shown),
        )

    async def probe(self, asked: arguments.Probe) -> answers.Probed:
        ends = self.limits.targets if asked.purpose == "target" else self.limits.references
        endpoint = _allowed(ends, asked.endpoint, asked.purpose)
        path = self.folder.probe(asked.purpose, endpoint)
        async with self._lock(str(path)):
            served = await self._serve(endpoint)
            profile = await commands.probe_into(path, endpoint, asked.purpose, self.shared, served)
        return probed(asked, profile, purse(self.shared))

    async def estimate(self, asked: arguments.Estimate) -> answers.Estimated:
        return estimated(await self._estimate(self._config(asked)), asked.completions, self.shared)

    # Audits

    async def start_audit(self, asked: arguments.StartAudit, told: Told = unheard) -> answers.Progressed:
        config = self._config(asked)
        self.audits.check()
        expected = estimated(await self._estimate(config), asked.completions, self.shared)
        if not expected.fits:
            raise fitting(expected)
        assert config.reference is not None  # both labels were looked up
        served = await self._serve(config.reference)
        async with self._starting:  # two that start at once must not get one name
            name = self.folder.unused(asked.target)
            company = commands.Company(shared=self.shared, served=served)
            await self.audits.begin(
                name, partial(commands.start, config, self.folder.path / name, company=company)
            )
        return await self._watched(name, asked.wait_seconds, told)

    async def progress(self, asked: arguments.Progress, told: Told = unheard) -> answers.Progressed:
        self.folder.run(asked.run)
        await self.audits.wait(asked.run, asked.wait_seconds, told)
        return await self._progress(asked.run)

    async def cancel(self, asked: arguments.Cancel) -> answers.Progressed:
        self.folder.run(asked.run)
        await self.audits.stop(asked.run, PATIENCE)
        return await self._progress(asked.run)

    async def resume(self, asked: arguments.Resume, told: Told = unheard) -> answers.Progressed:
        path = self.folder.run(asked.run)
        self.audits.check(asked.run)
        references = await asyncio.to_thread(self._resumable, path)
        self._bounded(asked.completions)
        served: dict[str, str] = {}
        for reference in references:
            served |= await self._serve(reference)
        changes: dict[str, Any] = {} if asked.completions is None else {"completions": asked.completions}
        if asked.max_cost is not None:
            changes["budget"] = {"max_cost": asked.max_cost}
        company = commands.Company(shared=self.shared, served=served)
        await self.audits.begin(asked.run, partial(commands.go_on, path, changes, company=company))
        return await self._watched(asked.run, asked.wait_seconds, told)

    async def ask(self, asked: arguments.Ask) -> answers.Asked:
        framing = () if asked.framing is None else (asked.framing,)
        config = self._pair(asked.target, asked.reference, max_tokens=asked.max_tokens, framing=framing)
        assert config.reference is not None  # both labels were looked up
        served = await self._serve(config.reference)
        path = self.folder.asks(config.target, config.reference)
        async with self._lock(str(path)):
            heard = await ask(asked, config, path, self.shared, served)
        if not heard.completions and heard.stopped_because is not None:
            raise ToolError(
                "cap_reached",
                clip(heard.stopped_because, 600).untrusted_text,
                "ask for fewer completions (prefills, samples, max_tokens), or conclude from what is bought",
            )
        gaps = [each.gap for each in heard.completions if each.gap is not None]
        return answers.Asked(
            target=asked.target,
            reference=asked.reference,
            framing=heard.framing,
            mean_gap=sum(gaps) / len(gaps) if gaps else None,
            completions=heard.completions,
            stopped_because=None if heard.stopped_because is None else clip(heard.stopped_because, 600),
            purse=purse(self.shared),
        )

    # What was found

    async def conclusion(self, asked: arguments.Conclusion) -> answers.Concluded:
        return excerpts.concluded(asked.run, await self.results(asked.run, asked.reference))

    async def themes(self, asked: arguments.Themes) -> answers.ThemeList:
        return excerpts.themes(asked, (await self.results(asked.run, asked.reference)).analysis)

    async def promoted(self, asked: arguments.Promoted) -> answers.PromotedList:
        return excerpts.promoted(asked, (await self.results(asked.run, asked.reference)).analysis)

    async def completions(self, asked: arguments.Completions) -> answers.CompletionPage:
        return excerpts.completions(asked, (await self.results(asked.run, asked.reference)).analysis)

    async def compare(self, asked: arguments.Compare) -> answers.Compared:
        old, new = self.folder.run(asked.old), self.folder.run(asked.new)
        found = await asyncio.to_thread(compare_runs, old, new, reference=asked.reference)
        return excerpts.compared(asked.old, asked.new, found)

    async def results(self, name: str, reference: str | None = None) -> Results:
        """Everything that a run says. Raises ToolError where there is no such run, or nothing is scored yet."""
        path = self.folder.run(name)
        written = (path / FILE).stat()
        key = (name, reference, written.st_mtime_ns, written.st_size)
        if key in self._read and not self.audits.running(name):
            return self._read[key]
        if await asyncio.to_thread(_unscored, path):
            raise ToolError("nothing_yet", f"{name}: nothing is scored", "wait with `progress`, or `resume` it")
        found = await asyncio.to_thread(partial(read_run, path, reference=reference))
        if not self.audits.running(name):
            self._read[key] = found
            while len(self._read) > 4:
                del self._read[next(iter(self._read))]
        return found

    # Plumbing

    async def _watched(self, name: str, seconds: float, told: Told) -> answers.Progressed:
        """Wait with whoever started the audit; who goes away while waiting stops it, resumable.

        Raises what refused the audit before it bought anything.
        """
        active = self.audits.get(name)
        try:
            await self.audits.wait(name, seconds, told)
        except asyncio.CancelledError:
            if active is not None:
                active.stop.interrupt()
            raise
        if active is not None and isinstance(active.error, UsageError | NotAuditableError):
            raise active.error
        return await self._progress(name)

    async def _progress(self, name: str) -> answers.Progressed:
        return await asyncio.to_thread(
            progressed, name, self.folder.run(name), self.audits.get(name), purse(self.shared)
        )

    def _config(self, asked: arguments.Design) -> AuditConfig:
        self._bounded(asked.completions, asked.control)
        unknown = [source for source in asked.source if source not in self.limits.settings.sources]
        if unknown:
            raise ToolError(
                "not_allowed",
                f"source: '{clip(unknown[0], 60).untrusted_text}' is not one of those allowed",
                f"take {' or '.join(self.limits.settings.sources)}",
            )
        design = asked.model_dump(exclude={"target", "reference", "wait_seconds"})
        return self._pair(asked.target, asked.reference, **design)

    def _pair(self, target: str, reference: str, **design: Any) -> AuditConfig:
        _allowed(self.limits.targets, target, "target")
        _allowed(self.limits.references, reference, "reference")
        return self.limits.config(target, reference, **design)

    def _bounded(self, *numbers: int | None) -> None:
        most = self.limits.settings.max_completions
        if any(number is not None and number > most for number in numbers):
            raise ToolError("not_allowed", f"one audit has at most {most} completions", f"ask for {most} or fewer")

    async def _estimate(self, config: AuditConfig) -> Estimate:
        return await asyncio.to_thread(commands.estimate_audit, config)

    def _resumable(self, path: Path) -> list[EndpointConfig]:
        """The references of a run. Raises ToolError where it calls an endpoint that is not allowed now."""
        with Store.open(path, read_only=True) as store:
            config, others = store.config, store.state.references
        references = [*([config.reference] if config.reference else []), *others]
        if not self.limits.allows(config, references):
            raise ToolError(
                "not_allowed",
                f"{path.name} calls an endpoint that is not allowed now, or at another price",
                "start a new audit of one of those in `list_runs`",
            )
        return references

    async def _serve(self, endpoint: EndpointConfig) -> dict[str, str]:
        """Where a `local:` reference is up, by its label; started when it is first needed."""
        if not endpoint.url.startswith(LOCAL):
            return {}
        async with self._lock(endpoint.url):
            if endpoint.name not in self._served:
                server = serve(["--model", f"{endpoint.model}={endpoint.url.removeprefix(LOCAL)}"])
                self._served[endpoint.name] = await asyncio.to_thread(self._stack.enter_context, server)
        return {endpoint.name: self._served[endpoint.name]}

    def _lock(self, of: str) -> asyncio.Lock:
        """One at a time for a run file, or for a `local:` reference that is started."""
        return self._locks.setdefault(of, asyncio.Lock())


def _refused(error: ValidationError, kind: type[arguments.Arguments]) -> ToolError:
    extra = [str(each["loc"][-1]) for each in error.errors() if each["type"] == "extra_forbidden"]
    if extra:
        name = clip(extra[0], 60).untrusted_text
        known = ", ".join(kind.model_fields) or "none"
        return ToolError(
            "not_allowed",
            f"there is no argument '{name}': endpoints, keys, paths and the cap are the person's",
            f"the arguments are: {known}",
        )
    return ToolError("bad_argument", clip(complaint(error, kind, "argument"), 600).untrusted_text, "correct it")


def _allowed(ends: Mapping[str, EndpointConfig], label: str, side: str) -> EndpointConfig:
    if label not in ends:
        raise ToolError("not_allowed", f"there is no {side} of that label", f"take one of {', '.join(ends)}")
    return ends[label]


def _endpoint(label: str, end: EndpointConfig) -> answers.Endpoint:
    return answers.Endpoint(label=label, model=end.model, price_in=end.price_in, price_out=end.price_out)


def _unscored(path: Path) -> bool:
    with Store.open(path, read_only=True) as store:
        return not store.references()
