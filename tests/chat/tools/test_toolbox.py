"""A call goes in, a text comes out: arguments that do not fit, tools that fail, hang or say too much, and plug-ins."""

import asyncio
import time
from collections.abc import Mapping
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest
from chatbot_chat.conversation_client import Knowledge
from chatbot_chat.providers import ToolCall
from chatbot_chat.settings import ToolSettings, WeatherSettings
from chatbot_chat.tools import AnyTool, ToolError, ready
from chatbot_chat.tools.calculator import Calculator
from chatbot_chat.tools.catalog import ToolCatalog, ToolMissing
from chatbot_chat.tools.factory import Asker, ToolFactory, for_all
from chatbot_chat.tools.knowledge import Shelf
from chatbot_chat.tools.toolbox import LONGEST_RESULT, Result, Toolbox


class Shout:
    """The short form."""

    name, description = "shout", "Shouts."

    def run(self, query: str) -> str:
        time.sleep(0.01)
        return query.upper()


class Whisper:
    name, description = "whisper", "Whispers."

    async def run(self, query: str) -> str:
        return query.lower()


class Order:
    """The long form, with parts that go wrong."""

    name, description = "order", "Orders something."
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {"count": {"type": "integer", "minimum": 1}, "how": {"type": "string"}},
        "required": ["count"],
        "additionalProperties": False,
    }
    side_effects = True

    async def run(self, arguments: Mapping[str, Any]) -> str:
        match arguments.get("how"):
            case "refuse":
                raise ToolError("Sold out.")
            case "crash":
                raise RuntimeError("sk-secret in a stack trace")
            case "hang":
                await asyncio.sleep(60)
            case "long":
                return "x" * (LONGEST_RESULT + 1)
            case "odd":
                return "a\x00b\ud83d"
        return f"Ordered {arguments['count']}."


def call(name: str, arguments: str) -> ToolCall:
    return ToolCall("call-1", name, arguments)


@pytest.fixture
def toolbox() -> Toolbox:
    tools: list[AnyTool] = [Shout(), Whisper(), Order()]
    return Toolbox([ready(tool) for tool in tools], seconds=0.2)


class TestPerform:
    @pytest.mark.parametrize(
        ("name", "arguments", "text"),
        [
            ("shout", '{"query": "hey"}', "HEY"),
            ("whisper", '{"query": "HEY"}', "hey"),
            ("order", '{"count": 2}', "Ordered 2."),
            ("order", '{"count": 1, "how": "odd"}', "ab\ufffd"),
        ],
    )
    async def test_result(self, toolbox: Toolbox, name: str, arguments: str, text: str) -> None:
        assert await toolbox.perform(call(name, arguments)) == Result(text)

    @pytest.mark.parametrize(
        ("name", "arguments", "says"),
        [
            ("shut", "{}", "There is no tool 'shut'; those there are: shout, whisper, order."),
            ("shout", "hey", "not valid JSON"),
            ("shout", '"hey"', "do not fit: 'hey' is not of type 'object'"),
            ("shout", "", "do not fit: 'query' is a required property"),
            ("order", '{"count": 0}', "do not fit at count: 0 is less than the minimum of 1"),
            ("order", '{"count": 1, "more": 2}', "do not fit: Additional properties"),
            ("order", '{"count": 1, "how": "refuse"}', "Sold out."),
            ("order", '{"count": 1, "how": "hang"}', "did not answer within 0.2 seconds"),
        ],
    )
    async def test_failure_is_told(self, toolbox: Toolbox, name: str, arguments: str, says: str) -> None:
        result = await toolbox.perform(call(name, arguments))
        assert result.status == "failed"
        assert says in result.text

    async def test_a_crash_shows_nothing_of_itself(self, toolbox: Toolbox) -> None:
        result = await toolbox.perform(call("order", '{"count": 1, "how": "crash"}'))
        assert result == Result("The tool failed.", "failed", "tool-crashed")

    async def test_a_long_result_is_cut(self, toolbox: Toolbox) -> None:
        result = await toolbox.perform(call("order", '{"count": 1, "how": "long"}'))
        assert result.text.startswith("x" * LONGEST_RESULT + "\n(cut here")

    async def test_a_schema_is_never_fetched(self) -> None:
        class Remote(Order):
            parameters: Mapping[str, Any] = {"$ref": "http://127.0.0.1:1/schema.json"}

        result = await Toolbox([ready(Remote())]).perform(call("order", "{}"))
        assert "own description of its arguments cannot be used" in result.text

    def test_only_a_call_that_could_be_made_asks(self, toolbox: Toolbox) -> None:
        assert toolbox.asks(call("order", '{"count": 1}'))
        assert not toolbox.asks(call("order", "{}"))
        assert not toolbox.asks(call("shout", '{"query": "hey"}'))
        assert not toolbox.asks(call("shut", "{}"))


def settings(*enabled: str) -> ToolSettings:
    weather = WeatherSettings(base_url="http://127.0.0.1:1/v1", geocoding_url="http://127.0.0.1:1/v1")
    return ToolSettings(enabled=list(enabled), mcp_servers=[], http_allow_list=["example.com"], weather=weather)


async def _search(_: str) -> Knowledge:
    return Knowledge()


ASKER = Asker(Shelf(Knowledge()), _search)
INSTALLED = EntryPoints(
    EntryPoint(name, f"{__name__}:{target}", "chatbot.tools")
    for name, target in {"loud": "Shout", "broken": "NoSuchThing", "calculator": "Shout", "unused": "Order"}.items()
)


class TestCatalog:
    async def test_has_what_is_enabled_in_that_order(self) -> None:
        catalog = ToolCatalog(settings("knowledge_search", "weather", "http_fetch", "calculator", "current_time"))
        names = [tool.spec.name for tool in catalog.tools(ASKER)]
        assert names == ["knowledge_search", "weather", "http_fetch", "calculator", "current_time"]
        await catalog.ping()
        await catalog.close()

    async def test_a_report_needs_a_conversation(self) -> None:
        async def messages() -> list[Any]:
            return []

        catalog = ToolCatalog(settings("conversation_report"))
        assert not catalog.tools(ASKER)
        assert catalog.tools(Asker(ASKER.shelf, _search, messages))

    async def test_plugins_join_by_an_entry_point(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("chatbot_chat.tools.factory.entry_points", lambda group: INSTALLED.select(group=group))
        catalog = ToolCatalog(settings("calculator", "loud", "broken", "nowhere"))
        calculator, loud = catalog.tools(ASKER)
        assert (calculator.spec.description, loud.spec.name) == (Calculator.description, "loud")
        assert await loud.run({"query": "hey"}) == "HEY"
        with pytest.raises(ToolMissing, match="broken, nowhere"):
            await catalog.ping()

    async def test_tools_with_side_effects_are_left_out_where_nobody_can_be_asked(self) -> None:
        factory = ToolFactory({"order": for_all(Order()), "shout": for_all(Shout())})
        catalog = ToolCatalog(settings("order", "shout"), factory=factory)
        assert [spec.name for spec in catalog.toolbox(ASKER).specs] == ["order", "shout"]
        assert [spec.name for spec in catalog.toolbox(ASKER, may_ask=False).specs] == ["shout"]
