"""Searching the team's knowledge once more, in the model's own words."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from chatbot_common.errors import Problem

from chatbot_chat.conversation_client import Knowledge, Passage
from chatbot_chat.prompt import helps
from chatbot_chat.tools import QUERY, ToolError

LONGEST_QUERY = 4000

Search = Callable[[str], Awaitable[Knowledge]]


class Shelf:
    """The passages of one answer by their numbers, which citations name: those of the turn, then those found since."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._passages = list(knowledge.passages)

    def number(self, passage: Passage) -> int:
        """Counted from 1; of a passage that is there already, the number it has."""
        for number, known in enumerate(self._passages, 1):
            if known.id == passage.id and helps(known):
                return number
        self._passages.append(passage)
        return len(self._passages)

    @property
    def knowledge(self) -> Knowledge:
        return Knowledge(passages=self._passages)


class KnowledgeSearch:
    name = "knowledge_search"
    description = (
        "Searches the team's knowledge base by meaning. Use it when the passages at hand do not answer the question. "
        "Passages come numbered: put the number of each one you use in square brackets, like [7]."
    )
    parameters = QUERY

    def __init__(self, search: Search, shelf: Shelf) -> None:
        self._search = search
        self._shelf = shelf

    async def run(self, arguments: Mapping[str, Any]) -> str:
        try:
            found = await self._search(arguments["query"][:LONGEST_QUERY])
        except Problem as problem:
            raise ToolError("The knowledge base cannot be searched right now.") from problem
        passages = [
            f"[{self._shelf.number(passage)}] {passage.title}\n{passage.text.strip()}"
            for passage in found.passages
            if helps(passage)
        ]
        return "\n\n".join(passages) or "The knowledge base has nothing about that."
