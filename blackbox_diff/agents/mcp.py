"""The tools as an MCP server over stdio, with the official SDK (extra `mcp`, version 2).

A tool call that waits tells how the audit goes in progress notifications; one that is cancelled while it waits for
an audit that it began stops that audit, which can be resumed. Runs are resources: the conclusion and the report.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

from blackbox_diff.agents import resources
from blackbox_diff.agents.limits import Limits
from blackbox_diff.agents.problems import ToolError, problem
from blackbox_diff.agents.registry import TOOLS, Tool
from blackbox_diff.agents.tools import Tools, opened
from blackbox_diff.agents.untrusted import NOTICE
from blackbox_diff.errors import BlackboxDiffError
from blackbox_diff.run.progress import Progress

INSTRUCTIONS = f"""Audit a hosted finetune: what was it trained to do that its reference was not?
Begin with list_runs: it names the targets and references that you may use, and what is left of the cap. Then
probe, estimate, start_audit; wait with progress; read conclusion, themes, promoted and completions; test what you
suspect with ask, beside the reference's own completions; conclude. {NOTICE}"""

FAULT = {
    "kind": "fault",
    "message": "the tool failed unexpectedly",
    "what_to_do": "tell the person who runs this server: its log on stderr says more",
}
log = logging.getLogger(__name__)
Context = ServerRequestContext[Any, Any]


async def serve(limits: Limits, until: asyncio.Event) -> bool:
    """Serve one client over stdin and stdout; returns whether the client ended it, and not `until`.

    Audits that are at work then are stopped and can be resumed. After `until` the thread that reads stdin is still
    waiting, so that only the end of the process ends it.
    Raises ConfigError or RunFileError for a folder that can't be used.
    """
    async with opened(limits) as tools:
        serving = asyncio.create_task(_serve(server(tools)))
        asked = asyncio.create_task(until.wait())
        await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if serving.done():
            serving.result()
        return serving.done()


async def _serve(made: Server[Any]) -> None:
    async with stdio_server() as (reading, writing):
        await made.run(reading, writing, made.create_initialization_options())


def server(tools: Tools) -> Server[Any]:
    """The protocol's server around `tools`."""

    async def list_tools(_: Context, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_listed(tool) for tool in TOOLS.values()])

    async def call_tool(context: Context, asked: types.CallToolRequestParams) -> types.CallToolResult:
        async def told(news: Progress) -> None:
            message = f"{news.phase}: {news.bought} of {news.planned} bought, {news.scored} scored"
            await context.session.report_progress(news.bought, news.planned, message)

        try:
            answer = await tools.call(asked.name, _plain(asked.name, asked.arguments or {}), told)
        except ToolError as error:
            refused = {"kind": error.kind, "message": error.message, "what_to_do": error.advice}
            # As text alone: the TypeScript SDK holds structured content against the schema, errors included.
            return types.CallToolResult(content=[_text(refused)], is_error=True)
        except Exception:  # a fault of ours: its text is for the log on stderr, since the SDK would send it
            log.exception("the tool %s failed", asked.name)
            return types.CallToolResult(content=[_text(FAULT)], is_error=True)
        found = answer.model_dump(mode="json")
        return types.CallToolResult(content=[_text(found)], structured_content=found)

    async def list_resources(_: Context, __: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
        found = await resources.listed(tools)
        return types.ListResourcesResult(
            resources=[
                types.Resource(
                    name=each.name, uri=each.uri, description=each.description, mime_type=each.mime_type
                )
                for each in found
            ]
        )

    async def list_templates(
        _: Context, __: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        templates = [
            types.ResourceTemplate(
                name=kind.name, uri_template=kind.template, description=kind.description, mime_type=kind.mime_type
            )
            for kind in resources.KINDS
        ]
        return types.ListResourceTemplatesResult(resource_templates=templates)

    async def read_resource(_: Context, asked: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        try:
            mime_type, text = await resources.read(tools, str(asked.uri))
        except ToolError as error:
            raise MCPError(code=types.INVALID_PARAMS, message=str(error)) from None
        except BlackboxDiffError as error:
            raise MCPError(code=types.INVALID_PARAMS, message=str(problem(error))) from None
        contents = types.TextResourceContents(uri=asked.uri, mime_type=mime_type, text=text)
        return types.ReadResourceResult(contents=[contents])

    return Server(
        "blackbox-diff",
        version=version("blackbox-diff"),
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )


def _listed(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.schema(),
        output_schema=tool.answer.model_json_schema(),
        annotations=types.ToolAnnotations(
            read_only_hint=not tool.buys and tool.name != "cancel",
            destructive_hint=False,
            open_world_hint=tool.buys,
        ),
    )


def _plain(tool: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with lists as lists, also from clients that send a list as JSON text."""
    known = TOOLS[tool].schema()["properties"] if tool in TOOLS else {}
    found = dict(given)
    for name, value in given.items():
        if isinstance(value, str) and known.get(name, {}).get("type") == "array":
            try:
                found[name] = json.loads(value)
            except (ValueError, RecursionError):
                continue  # the tool says what is wrong with it
    return found


def _text(found: Mapping[str, Any]) -> types.TextContent:
    """The structured answer once more, for clients that read text alone."""
    return types.TextContent(text=json.dumps(found, ensure_ascii=False))
