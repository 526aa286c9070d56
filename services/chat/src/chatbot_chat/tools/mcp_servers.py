"""Tools of MCP servers, over streamable HTTP, through the official SDK.

Each server's tools are listed now and then, beside the turns; a turn has those of the last list. A server that is away
costs its tools and is told, not the turn. Each call is a connection of its own on kept sockets: nothing has to survive
a server's restart, and whoever cancels a call ends it.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

import httpx2
import structlog
from jsonschema import Draft202012Validator
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent
from mcp_types import Tool as Listed

from chatbot_chat.providers import ToolSpec
from chatbot_chat.providers.text import whole_characters
from chatbot_chat.settings import McpServerSettings
from chatbot_chat.tools import Ready, ToolError

log = structlog.get_logger(__name__)

REFRESH_SECONDS = 60.0
AWAY_SECONDS = 5.0
LIST_SECONDS = 10.0
REQUEST_SECONDS = 20.0
MOST_TOOLS = 64
LONGEST_NAME = 64
LONGEST_DESCRIPTION = 1000
LARGEST_SCHEMA = 8000
"""Bytes of JSON; the model is told all of it with each question."""


class McpServer:
    """One server of the resource. `token` is sent to it as a bearer token; the SDK follows redirects to nobody else."""

    def __init__(self, settings: McpServerSettings, token: str | None) -> None:
        self.name = settings.name
        self._url = settings.url
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.AsyncClient(headers=headers, timeout=REQUEST_SECONDS, trust_env=False)
        self.tools: list[Ready] = []
        self.away = True

    async def keep(self) -> None:
        """List the tools again and again, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(AWAY_SECONDS if self.away else REFRESH_SECONDS)

    async def refresh(self) -> None:
        """What the server offers now; nothing while it is away."""
        try:
            async with asyncio.timeout(LIST_SECONDS), self._connected() as client:
                self.tools, self.away = self._ready(await _listed(client)), False
        except Exception as error:
            log.warning("MCP server is away, and its tools with it", server=self.name, error=type(error).__name__)
            self.tools, self.away = [], True

    def _ready(self, listed: list[Listed]) -> list[Ready]:
        found: dict[str, Ready] = {}
        for tool in listed:
            name = named(self.name, tool.name)
            if name in found or not _usable(tool.input_schema):
                log.warning("tool of an MCP server left out", server=self.name, tool=tool.name)
                continue
            description = tool.description or tool.title or tool.name
            spec = ToolSpec(name, whole_characters(description[:LONGEST_DESCRIPTION]), tool.input_schema)
            reads = tool.annotations is not None and tool.annotations.read_only_hint is True
            found[name] = Ready(spec, partial(self._call, tool.name), asks=not reads, foreign=True)
        return list(found.values())

    async def _call(self, name: str, arguments: Mapping[str, Any]) -> str:
        try:
            async with self._connected() as client:
                result = await client.call_tool(name, dict(arguments))
        except Exception as error:
            log.warning("MCP server failed", server=self.name, tool=name, error=type(error).__name__)
            raise ToolError(f"The server {self.name} of this tool does not answer as it should.") from error
        text = _text(result)
        if result.is_error:
            raise ToolError(text)
        return text

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Client]:
        async with Client(streamable_http_client(self._url, http_client=self._http)) as client:
            yield client

    async def close(self) -> None:
        await self._http.aclose()


async def _listed(client: Client) -> list[Listed]:
    """Page after page, up to the most that are taken."""
    page = await client.list_tools(cache_mode="bypass")
    tools = page.tools
    while page.next_cursor is not None and len(tools) < MOST_TOOLS:
        page = await client.list_tools(cursor=page.next_cursor, cache_mode="bypass")
        tools = [*tools, *page.tools]
    return tools[:MOST_TOOLS]


def named(server: str, tool: str) -> str:
    """As models take names: the server's before the tool's, so that two servers may have the same."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", f"{server}_{tool}")[:LONGEST_NAME]


def _usable(schema: Mapping[str, Any]) -> bool:
    """Whether a provider will take it: one that is none makes it refuse the whole question.

    Nothing is known of what it holds: also what nests too deeply to be looked at is not usable.
    """
    try:
        if len(json.dumps(schema, ensure_ascii=False).encode()) > LARGEST_SCHEMA:
            return False
        Draft202012Validator.check_schema(schema)
        return schema.get("type") == "object"
    except Exception:
        return False


def _text(result: CallToolResult) -> str:
    texts = [item.text if isinstance(item, TextContent) else f"({item.type}, left out)" for item in result.content]
    if not texts and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(texts)
