"""Tools of a real MCP server, made with the same SDK, over a real socket."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from chatbot_chat.providers import ToolCall
from chatbot_chat.settings import McpServerSettings, Settings
from chatbot_chat.tools.mcp_servers import LARGEST_SCHEMA, MOST_TOOLS, McpServer, named
from chatbot_chat.tools.toolbox import Toolbox
from chatbot_common.ids import uuid7
from mcp.server.mcpserver import MCPServer
from mcp_types import ListToolsResult, PaginatedRequestParams, Tool, ToolAnnotations
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.chat.running import running
from tests.support.identity import Keys
from tests.support.patience import within
from tests.support.serving import free_port, in_thread, serving

TOKEN = "mcp-secret"
ADA = uuid7()


def shop() -> MCPServer:
    server = MCPServer("shop", log_level="ERROR")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def stock(article: str) -> str:
        """Tells how many there are of an article."""
        return f"12 {article}"

    @server.tool(name="place.order")
    def order(article: str) -> str:
        """Orders an article."""
        raise RuntimeError(f"{article}: sold out")

    return server


class Paging(MCPServer):
    """Has more tools than are taken, and tells them twenty at a time."""

    async def _handle_list_tools(self, ctx: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
        first = int(params.cursor) if params and params.cursor else 0
        numbers = range(first, min(first + 20, MOST_TOOLS + 6))
        tools = [Tool(name=f"tool{number}", input_schema={"type": "object"}) for number in numbers]
        return ListToolsResult(tools=tools, next_cursor=str(numbers.stop) if numbers.stop == first + 20 else None)


def guarded(app: ASGIApp) -> ASGIApp:
    """Lets in only who has the token."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (b"authorization", f"Bearer {TOKEN}".encode()) not in scope["headers"]:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await app(scope, receive, send)

    return checked


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with in_thread(guarded(shop().streamable_http_app())) as found:
        yield f"{found}/mcp"


def deep(levels: int) -> dict[str, Any]:
    return {"not": deep(levels - 1)} if levels else {}


@contextlib.asynccontextmanager
async def server(url: str, token: str | None = TOKEN) -> AsyncIterator[McpServer]:
    found = McpServer(McpServerSettings(name="shop", url=url), token)
    try:
        yield found
    finally:
        await found.close()


async def perform(found: McpServer, name: str, **arguments: Any) -> tuple[str, str]:
    result = await Toolbox(found.tools).perform(ToolCall("1", name, json.dumps(arguments)))
    return result.status, result.text


class TestServer:
    async def test_its_tools_are_listed_and_called(self, url: str) -> None:
        async with server(url) as found:
            await found.refresh()
            tools = {tool.spec.name: tool for tool in found.tools}
            assert set(tools) == {"shop_stock", "shop_place_order"}
            assert tools["shop_stock"].spec.description == "Tells how many there are of an article."
            assert tools["shop_stock"].spec.parameters["required"] == ["article"]
            assert await perform(found, "shop_stock", article="socks") == ("completed", "12 socks")

    async def test_the_user_is_asked_unless_it_only_reads(self, url: str) -> None:
        async with server(url) as found:
            await found.refresh()
            assert {tool.spec.name: tool.asks for tool in found.tools} == {
                "shop_stock": False,
                "shop_place_order": True,
            }

    async def test_its_errors_are_results(self, url: str) -> None:
        async with server(url) as found:
            await found.refresh()
            assert (await perform(found, "shop_place_order", article="socks"))[0] == "failed"
            status, text = await perform(found, "shop_stock")
            assert status == "failed"
            assert "article" in text

    async def test_its_schema_cannot_stop_us(self) -> None:
        """Each would take longer than anybody waits: a pattern that goes back, and references that double."""
        doubling = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": {}}
        schema = {
            "type": "object",
            "properties": {"a": {"pattern": "^(a+)+$"}},
            "$defs": doubling,
            "$ref": "#/$defs/d0",
        }
        async with server("http://127.0.0.1:1/mcp") as found:
            listed = Tool.model_construct(name="t", description="", title=None, annotations=None, input_schema=schema)
            (tool,) = found._ready([listed])
            assert Toolbox([tool]).asks(ToolCall("1", "shop_t", json.dumps({"a": "a" * 60 + "!"})))
            assert not Toolbox([tool]).asks(ToolCall("1", "shop_t", "[]"))

    async def test_all_pages_of_its_tools_are_read(self) -> None:
        port = free_port()
        async with (
            server(f"http://127.0.0.1:{port}/mcp") as found,
            serving(Paging("shop", log_level="ERROR").streamable_http_app(), port),
        ):
            await found.refresh()
            assert [tool.spec.name for tool in found.tools] == [f"shop_tool{number}" for number in range(MOST_TOOLS)]

    async def test_who_is_not_let_in_has_no_tools(self, url: str) -> None:
        async with server(url, token="wrong") as found:
            await found.refresh()
            assert (found.tools, found.away) == ([], True)

    async def test_one_that_goes_away_takes_its_tools_along_and_comes_back_with_them(self) -> None:
        port = free_port()
        async with server(f"http://127.0.0.1:{port}/mcp") as found:
            async with serving(shop().streamable_http_app(), port):
                await found.refresh()
                assert not found.away
            assert await perform(found, "shop_stock", article="socks") == (
                *("failed", "The server shop of this tool does not answer as it should."),
            )
            await found.refresh()
            assert (found.tools, found.away) == ([], True)
            async with serving(shop().streamable_http_app(), port):
                await found.refresh()
                assert await perform(found, "shop_stock", article="socks") == ("completed", "12 socks")


@pytest.mark.parametrize(
    ("schema", "usable"),
    [
        ({"type": "object", "properties": {"a": {"type": "string"}}}, True),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, False),
        ({"type": "object", "title": "x" * LARGEST_SCHEMA}, False),
        ({"type": "object", "title": "half \ud83d"}, False),
        ({"type": "string"}, False),
        ({}, False),
        ({"type": "object", "not": deep(150)}, False),
    ],
)
def test_a_schema_that_providers_would_refuse_is_none(schema: dict[str, Any], usable: bool) -> None:
    server = McpServer(McpServerSettings(name="shop", url="http://127.0.0.1:1/mcp"), None)
    listed = Tool.model_construct(name="t", description="", title=None, annotations=None, input_schema=schema)
    assert bool(server._ready([listed])) is usable


@pytest.mark.parametrize(
    ("tool", "name"),
    [("stock", "shop_stock"), ("place.order", "shop_place_order"), ("a" * 90, "shop_" + "a" * 59)],
)
def test_names_are_such_as_models_take(tool: str, name: str) -> None:
    assert named("shop", tool) == name


class TestTurn:
    async def test_has_them_beside_its_own(self, keys: Keys, told: dict[str, Any], url: str) -> None:
        servers = [{"name": "shop", "url": url}, {"name": "gone", "url": "http://127.0.0.1:1/mcp"}]
        tools = told["tools"] | {"mcp_servers": servers}
        settings = Settings.model_validate(told | {"tools": tools, "mcp_tokens": {"shop": TOKEN}})
        async with running(keys, settings) as chat:
            headers = keys.bearer(ADA)
            async with within(20):
                while len((found := (await chat.client.get("/api/v1/chat/tools", headers=headers)).json())["data"]) < 5:
                    await asyncio.sleep(0.05)
            question = json.dumps([[["shop_stock", {"article": "socks"}], ["calculator", {"expression": "6*7"}]]])
            events = await chat.stream(ADA, question, model="agent")
            health = (await chat.client.get("/health")).json()
        assert [(tool["name"], tool["asks"]) for tool in found["data"]] == [
            *(("calculator", False), ("current_time", False), ("knowledge_search", False)),
            *(("shop_place_order", True), ("shop_stock", False)),
        ]
        assert found["missing"] == ["gone"]
        assert sorted(event["content"] for event in events if event["type"] == "tool.finished") == ["12 socks", "42"]
        assert health["checks"]["tools"] == "ToolMissing"
