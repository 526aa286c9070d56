"""Which tools there are: a name, and how its tool is made for those who ask. Plug-ins join by an entry point."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points

import structlog
from jsonschema import Draft202012Validator

from chatbot_chat.tools import AnyTool, Ready, ready
from chatbot_chat.tools.knowledge import Search, Shelf
from chatbot_chat.tools.report import Messages

log = structlog.get_logger(__name__)

GROUP = "chatbot.tools"
"""Entry points of plug-ins: what one names is called without arguments, once, and gives the tool."""


@dataclass(frozen=True)
class Asker:
    """For whom the tools of one answer work. `messages` is None outside any conversation."""

    shelf: Shelf
    search: Search
    messages: Messages | None = None


Make = Callable[[Asker], AnyTool | None]
"""None where the tool has nothing to work on."""


def for_all(tool: AnyTool) -> Make:
    """The same for everybody who asks."""
    return lambda _: tool


class ToolFactory:
    """A registry. What is registered later under the same name takes its place."""

    def __init__(self, makers: Mapping[str, Make] | None = None) -> None:
        self._makers = dict(makers or {})

    def register(self, name: str, make: Make) -> None:
        self._makers[name] = make

    @property
    def names(self) -> list[str]:
        return list(self._makers)

    def load_plugins(self, names: Iterable[str]) -> None:
        """Register those of `names` that an installed package offers; one that cannot be loaded is left out, and told.

        Only what is wanted is imported: a plug-in may cost a second and 50 MB.
        """
        for point in entry_points(group=GROUP):
            if point.name not in names or point.name in self._makers:
                continue
            try:
                tool = point.load()()
                Draft202012Validator.check_schema(ready(tool).spec.parameters)
            except Exception as crash:
                log.error("tool plug-in cannot be loaded", tool=point.name, exc_info=crash)
            else:
                self.register(point.name, for_all(tool))

    def make(self, names: Iterable[str], asker: Asker) -> list[Ready]:
        """The tools of these names, in that order; names that are not registered are left out."""
        made = [(name, self._makers[name](asker)) for name in names if name in self._makers]
        return [ready(tool, name) for name, tool in made if tool is not None]
