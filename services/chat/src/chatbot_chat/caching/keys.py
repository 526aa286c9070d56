"""What makes an answer, as a name under which it is kept. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pydantic import TypeAdapter

from chatbot_chat.providers import ModelRequest

_NUMBERS_AND_SIGNS = re.compile(r"\d+(?:[.,]\d+)*|[^\w\s.,?!'\"\u2019]")
_REQUEST = TypeAdapter(ModelRequest)


@dataclass(frozen=True)
class Key:
    """`rest` names all that makes the answer but the words of the last question; empty where that cannot be told."""

    rest: str
    question: str

    @property
    def exact(self) -> str:
        return named(self.rest, self.question)


def key_of(world: str, request: ModelRequest) -> Key:
    """Of a request before it is sent: prompt with passages and history, parameters and tools.

    Args:
        world: names whatever else answers depend on.
    """
    told: dict[str, Any] = _REQUEST.dump_python(request, mode="json", exclude={"question", "knowledge"})
    last = told["messages"][-1]
    question = last.pop("content") if last["role"] == "user" else ""
    return keyed(world, told, question)


def key_of_body(world: str, body: Mapping[str, Any]) -> Key:
    """Of a chat completion that goes to a provider as it is. Whether usage is shown is for each client."""
    told = {name: value for name, value in body.items() if name != "stream_options"}
    match body.get("messages"):
        case [*earlier, {"role": "user", "content": str(question), **last}]:
            return keyed(world, told | {"messages": [*earlier, {"role": "user"} | last]}, question)
    return keyed(world, told, "")


def keyed(world: str, told: Any, question: str) -> Key:
    """Numbers and signs of the question count as they are: to embeddings, 2 + 2, 2 + 3 and 2 - 2 look much the same."""
    return Key(named(world, told, _NUMBERS_AND_SIGNS.findall(question)), question)


def named(*parts: Any) -> str:
    """The same for what is the same JSON, whatever the order of its fields."""
    return sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
