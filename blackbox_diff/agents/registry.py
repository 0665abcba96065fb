"""The tools by name, for protocols that list them: what each takes, answers and does."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from blackbox_diff.agents import answers, arguments
from blackbox_diff.agents.untrusted import Part


@dataclass(frozen=True, slots=True)
class Tool:
    """A method of `Tools`. waits: takes a listener of progress. buys: may spend of the cap."""

    name: str
    arguments: type[arguments.Arguments]
    answer: type[Part]
    waits: bool = False
    buys: bool = False

    @property
    def description(self) -> str:
        return inspect.cleandoc(self.arguments.__doc__ or "")

    def schema(self) -> dict[str, Any]:
        """The arguments as JSON Schema."""
        return self.arguments.model_json_schema()


_ALL = (
    Tool("list_runs", arguments.ListRuns, answers.Overview),
    Tool("probe", arguments.Probe, answers.Probed, buys=True),
    Tool("estimate", arguments.Estimate, answers.Estimated),
    Tool("start_audit", arguments.StartAudit, answers.Progressed, waits=True, buys=True),
    Tool("progress", arguments.Progress, answers.Progressed, waits=True),
    Tool("cancel", arguments.Cancel, answers.Progressed),
    Tool("resume", arguments.Resume, answers.Progressed, waits=True, buys=True),
    Tool("conclusion", arguments.Conclusion, answers.Concluded),
    Tool("themes", arguments.Themes, answers.ThemeList),
    Tool("promoted", arguments.Promoted, answers.PromotedList),
    Tool("completions", arguments.Completions, answers.CompletionPage),
    Tool("ask", arguments.Ask, answers.Asked, buys=True),
    Tool("compare", arguments.Compare, answers.Compared),
)
TOOLS = {tool.name: tool for tool in _ALL}
