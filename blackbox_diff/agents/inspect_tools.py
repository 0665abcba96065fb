"""The tools as Inspect's, for any agent under Inspect. Needs the extra `inspect`.

async with opened(limits) as tools:
    agent = react(tools=inspect_tools(tools))
"""

from __future__ import annotations

from typing import Any

from inspect_ai.tool import ToolDef, ToolParams
from inspect_ai.tool import ToolError as InspectToolError

from blackbox_diff.agents.problems import ToolError
from blackbox_diff.agents.registry import TOOLS, Tool
from blackbox_diff.agents.tools import Tools


def inspect_tools(tools: Tools) -> list[ToolDef]:
    """One Inspect tool for each of ours: its name, its words, its schema; an answer is JSON.

    A failure that a tool expects goes to the model with what to do, and the sample goes on.
    """
    return [_tool(tools, each) for each in TOOLS.values()]


def _tool(tools: Tools, tool: Tool) -> ToolDef:
    # Inspect hands the arguments on as they are where a tool takes **kwargs: Any.
    async def execute(**kwargs: Any) -> str:
        try:
            answer = await tools.call(tool.name, kwargs)
        except ToolError as error:
            raise InspectToolError(str(error)) from None
        return answer.model_dump_json(exclude_none=True)

    parameters = ToolParams.model_validate(tool.schema())
    for name, parameter in parameters.properties.items():  # Inspect wants words for each
        parameter.description = parameter.description or name
    return ToolDef(execute, name=tool.name, description=tool.description, parameters=parameters, parallel=False)
