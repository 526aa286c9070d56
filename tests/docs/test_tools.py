"""The guide's tools are tools: the code on the page runs."""

import re
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from chatbot_chat.providers import ToolCall
from chatbot_chat.tools import ready
from chatbot_chat.tools.toolbox import Toolbox

from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs/guides/tools.md"


@pytest.fixture(scope="module")
def classes() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for block in blocks(PAGE, "python"):
        exec(block.text, found)  # noqa: S102 - our own page
    return found


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("orders", '{"query": "7"}', "Order 7 was sent yesterday."),
        ("stock", '{"article": "socks", "store": "Graz"}', "12 of socks in Graz."),
        ("stock", '{"article": "nothing"}', "There is no such article."),
    ],
)
async def test_tool(classes: dict[str, Any], name: str, arguments: str, result: str) -> None:
    [block] = blocks(PAGE, "toml")
    points = dict(re.findall(r'^(\w+) = "(.+)"$', block.text, re.MULTILINE))
    tool = classes[EntryPoint(name, points[name], "chatbot.tools").attr]()
    assert (await Toolbox([ready(tool, name)]).perform(ToolCall("1", name, arguments))).text == result
