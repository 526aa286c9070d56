"""What this conversation has come to, in figures."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from chatbot_common.errors import Problem

from chatbot_chat.conversation_client import SpokenMessage
from chatbot_chat.tools import ToolError

Messages = Callable[[], Awaitable[Sequence[SpokenMessage]]]
"""Of the conversation, oldest first."""


class ConversationReport:
    name = "conversation_report"
    description = (
        "Reports on this conversation so far, in figures: when it began, how long it has lasted, how many messages, "
        "words and tokens, which models answered and which tools they used."
    )
    parameters: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}

    def __init__(self, messages: Messages) -> None:
        self._messages = messages

    async def run(self, arguments: Mapping[str, Any]) -> str:
        try:
            return report(await self._messages())
        except Problem as problem:
            raise ToolError("The conversation cannot be read right now.") from problem


def report(messages: Sequence[SpokenMessage]) -> str:
    """One figure a line; only of what is stored, so without the answer that is under way."""
    if not messages:
        return "Nothing has been stored of this conversation yet."
    answers = [message for message in messages if message.role == "assistant"]
    questions = [message for message in messages if message.role == "user"]
    tools = Counter(
        str(part.get("name")) for message in answers for part in message.parts if part.get("type") == "tool_call"
    )
    models = Counter(message.model for message in answers if message.model)
    tokens = Counter[str]()
    for message in answers:
        tokens.update({name: count for name, count in (message.usage or {}).items() if isinstance(count, int)})
    lines = [
        f"Began: {messages[0].created_at:%Y-%m-%d %H:%M} UTC; lasted {_lasting(messages)}",
        f"Questions: {len(questions)} with {_words(questions)} words",
        f"Answers: {len(answers)} with {_words(answers)} words",
        f"Tokens: {tokens['input_tokens']} read, {tokens['output_tokens']} written",
        f"Models: {_counted(models)}",
        f"Tools: {_counted(tools)}",
    ]
    return "\n".join(lines)


def _lasting(messages: Sequence[SpokenMessage]) -> str:
    minutes = int((messages[-1].created_at - messages[0].created_at).total_seconds() // 60)
    return f"{minutes // 60} h {minutes % 60} min"


def _words(messages: Sequence[SpokenMessage]) -> int:
    return sum(len(message.text.split()) for message in messages)


def _counted(counted: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counted.most_common()) or "none"
