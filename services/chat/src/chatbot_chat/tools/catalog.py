"""All tools of the bot: those it has by its resource, as far as they are there."""

from collections.abc import Callable
from typing import Any

import structlog
from chatbot_common.errors import Unavailable

from chatbot_chat.settings import ToolSettings
from chatbot_chat.tools import Ready
from chatbot_chat.tools.calculator import Calculator
from chatbot_chat.tools.clock import Clock
from chatbot_chat.tools.factory import Asker, Make, ToolFactory, for_all
from chatbot_chat.tools.fetch import HttpFetch
from chatbot_chat.tools.knowledge import KnowledgeSearch
from chatbot_chat.tools.report import ConversationReport
from chatbot_chat.tools.toolbox import Toolbox
from chatbot_chat.tools.weather import Weather

log = structlog.get_logger(__name__)


class ToolMissing(Unavailable):
    kind, title = "tool-missing", "A tool that the resource names is not there"


class ToolCatalog:
    """`factory` may hold more than the built-in ones."""

    def __init__(self, settings: ToolSettings, factory: ToolFactory | None = None) -> None:
        self._closing: list[Any] = []
        self._enabled = settings.enabled
        self._factory = factory or ToolFactory()
        for name, make in self._built_in(settings).items():
            if name in self._enabled and name not in self._factory.names:
                self._factory.register(name, make())
        self._factory.load_plugins(self._enabled)
        self.missing = [name for name in self._enabled if name not in self._factory.names]
        if self.missing:
            log.error("tools are not there", tools=self.missing)

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
        return self._factory.make(self._enabled, asker)

    def toolbox(self, asker: Asker, *, may_ask: bool = True) -> Toolbox:
        """The tools of one answer. Where nobody can be asked, those with side effects are left out."""
        return Toolbox([tool for tool in self.tools(asker) if may_ask or not tool.asks])

    async def ping(self) -> None:
        """Raises `ToolMissing` while one that the resource names is not there."""
        if self.missing:
            raise ToolMissing(f"Not built in, and no plug-in: {', '.join(self.missing)}.")

    async def close(self) -> None:
        for tool in self._closing:
            await tool.close()
