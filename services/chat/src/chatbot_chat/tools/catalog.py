"""All tools of the bot: those it has by its resource, as far as they are there."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import structlog
from chatbot_common.errors import Unavailable
from pydantic import SecretStr

from chatbot_chat.conversation_client import Knowledge
from chatbot_chat.settings import ToolSettings
from chatbot_chat.tools import Ready, ToolError
from chatbot_chat.tools.calculator import Calculator
from chatbot_chat.tools.clock import Clock
from chatbot_chat.tools.factory import Asker, Make, ToolFactory, for_all
from chatbot_chat.tools.fetch import HttpFetch
from chatbot_chat.tools.knowledge import KnowledgeSearch, Shelf
from chatbot_chat.tools.report import ConversationReport
from chatbot_chat.tools.toolbox import Toolbox
from chatbot_chat.tools.weather import Weather

if TYPE_CHECKING:
    from chatbot_chat.tools.mcp_servers import McpServer

log = structlog.get_logger(__name__)


async def _nothing(*_: str) -> Any:
    raise ToolError("Nobody has asked.")


_NOBODY = Asker(Shelf(Knowledge()), _nothing, _nothing)


class ToolMissing(Unavailable):
    kind, title = "tool-missing", "A tool that the resource names is not there"


class ToolCatalog:
    """`tokens` are those of MCP servers, by name; `factory` may hold more than the built-in tools."""

    def __init__(
        self,
        settings: ToolSettings,
        tokens: Mapping[str, SecretStr] | None = None,
        factory: ToolFactory | None = None,
    ) -> None:
        self._closing: list[Any] = []
        self._servers = [self._kept(server) for server in _servers(settings, tokens or {})]
        self._enabled = settings.enabled
        self._factory = factory or ToolFactory()
        for name, make in self._built_in(settings).items():
            if name in self._enabled and name not in self._factory.names:
                self._factory.register(name, make())
        self._factory.load_plugins(self._enabled)
        self._unknown = [name for name in self._enabled if name not in self._factory.names]
        if self._unknown:
            log.error("tools are not there", tools=self._unknown)

    def _built_in(self, settings: ToolSettings) -> dict[str, Callable[[], Make]]:
        """Made only when enabled: some hold connections."""
        return {
            "calculator": lambda: for_all(Calculator()),
            "current_time": lambda: for_all(Clock()),
            "weather": lambda: for_all(self._kept(Weather(settings.weather.base_url, settings.weather.geocoding_url))),
            "http_fetch": lambda: for_all(self._kept(HttpFetch(settings.http_allow_list))),
            "knowledge_search": lambda: lambda asker: KnowledgeSearch(asker.search, asker.shelf),
            "conversation_report": lambda: lambda asker: ConversationReport(asker.messages) if asker.messages else None,
        }

    def _kept(self, tool: Any) -> Any:
        self._closing.append(tool)
        return tool

    def tools(self, asker: Asker) -> list[Ready]:
        """Of two with the same name the later counts, so no server's tool takes the place of one of the bot's own."""
        return [*(tool for server in self._servers for tool in server.tools), *self._factory.make(self._enabled, asker)]

    @property
    def all(self) -> list[Ready]:
        """What a turn has, by name."""
        return sorted(self.tools(_NOBODY), key=lambda tool: tool.spec.name)

    async def keep(self) -> None:
        """Know what MCP servers offer, until cancelled."""
        await asyncio.gather(*(server.keep() for server in self._servers))

    def toolbox(self, asker: Asker, *, may_ask: bool = True) -> Toolbox:
        """The tools of one answer. Where nobody can be asked, those with side effects are left out."""
        return Toolbox([tool for tool in self.tools(asker) if may_ask or not tool.asks])

    async def ping(self) -> None:
        """Raises `ToolMissing` while a tool or a server that the resource names is not there."""
        if self.missing:
            raise ToolMissing(f"Not there: {', '.join(self.missing)}.")

    @property
    def missing(self) -> list[str]:
        """Names of tools and MCP servers that the resource has, and that are not there."""
        return [*self._unknown, *(server.name for server in self._servers if server.away)]

    async def close(self) -> None:
        for tool in self._closing:
            await tool.close()


def _servers(settings: ToolSettings, tokens: Mapping[str, SecretStr]) -> "list[McpServer]":
    """The SDK is imported here: it costs half a second of start-up, which a bot without servers does not need."""
    if not settings.mcp_servers:
        return []
    from chatbot_chat.tools.mcp_servers import McpServer

    secrets = {name: token.get_secret_value() for name, token in tokens.items()}
    return [McpServer(server, secrets.get(server.name)) for server in settings.mcp_servers]
