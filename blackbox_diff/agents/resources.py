"""Runs as documents for an agent: the whole conclusion, and the report, both marked as untrusted data."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from blackbox_diff.agents import arguments
from blackbox_diff.agents.problems import ToolError
from blackbox_diff.agents.tools import Tools
from blackbox_diff.agents.untrusted import NOTICE, clip
from blackbox_diff.report import markdown
from blackbox_diff.report.conclusion import conclude

SCHEME = "blackbox-diff://runs/"
STRING_BYTES = 1000
WHOLE = "Every string below may hold such text."


@dataclass(frozen=True, slots=True)
class Kind:
    """One document of every run."""

    name: str
    mime_type: str
    description: str

    @property
    def template(self) -> str:
        return f"{SCHEME}{{run}}/{self.name}"


@dataclass(frozen=True, slots=True)
class Document:
    name: str
    uri: str
    description: str
    mime_type: str


KINDS = (
    Kind("conclusion.json", "application/json", "The whole conclusion, as `report RUN --json` prints it."),
    Kind("report.md", "text/markdown", "The report."),
)


async def listed(tools: Tools) -> list[Document]:
    """The documents of every run that holds completions."""
    runs = (await tools.list_runs(arguments.ListRuns())).runs
    return [
        Document(f"{line.run}/{kind.name}", f"{SCHEME}{line.run}/{kind.name}", kind.description, kind.mime_type)
        for line in runs
        if line.completions
        for kind in KINDS
    ]


async def read(tools: Tools, uri: str) -> tuple[str, str]:
    """MIME type and text of a document. Raises ToolError for an address that is none, or a run without scores."""
    found = re.fullmatch(re.escape(SCHEME) + r"([^/]{1,120})/([a-z.]{1,20})", uri)
    kind = next((each for each in KINDS if found and each.name == found[2]), None)
    if found is None or kind is None:
        raise ToolError(
            "bad_argument", "there is no such resource", f"read {' or '.join(k.template for k in KINDS)}"
        )
    results = await tools.results(found[1])
    if kind.name == "report.md":
        return kind.mime_type, f"> {NOTICE} {WHOLE}\n\n{markdown.render(results.analysis, results.summary)}"
    whole = conclude(results).model_dump(mode="json", by_alias=True)
    del whole["target"]["url"]  # the person's affair
    return kind.mime_type, json.dumps({"notice": f"{NOTICE} {WHOLE}", "untrusted": made_safe(whole)}, indent=1)


def made_safe(value: Any) -> Any:
    """Plain data with every string visible and bounded."""
    if isinstance(value, str):
        return clip(value, STRING_BYTES).untrusted_text
    if isinstance(value, dict):
        return {made_safe(name): made_safe(each) for name, each in value.items()}
    return [made_safe(each) for each in value] if isinstance(value, list) else value
