"""What a response was asked with, as OpenAI lists it. Pure.

The user's question with the messages that came along with it, then the calls of the client's tools since, and what
came of them. Texts of systems and developers are not among them: the response has them as its instructions.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from chatbot_chat.conversation_client import ToldMessage, Turn
from chatbot_chat.openai_api.raw import Refused

Item = dict[str, Any]
_IDS = {"message": "msg", "function_call": "fc", "function_call_output": "fco"}


class InputWindow(BaseModel):
    """Which of them; `after` is the id of an item."""

    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"


def items_of(turn: Turn, told: Sequence[ToldMessage]) -> list[Item]:
    """Oldest first; an item has the same id each time."""
    items = [{"id": f"msg_{item.id.hex}"} | _message(item.role, item.text) for item in told]
    since = [item for message in (turn.options.exchange if turn.options else ()) for item in _since(message)]
    return items + [
        {"id": f"{_IDS[item['type']]}_{turn.turn_id.hex}_in{number}"} | item for number, item in enumerate(since)
    ]


def page_of(items: Sequence[Item], window: InputWindow) -> Item:
    """Raises `Refused`: `after` is none of them."""
    ordered = list(items if window.order == "asc" else reversed(items))
    if window.after is not None:
        names = [item["id"] for item in ordered]
        if window.after not in names:
            raise Refused("after", f"This response has no input item {window.after[:80]!r}.")
        ordered = ordered[names.index(window.after) + 1 :]
    shown = ordered[: window.limit]
    ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {"first_id": None, "last_id": None}
    return {"object": "list", "data": shown} | ends | {"has_more": len(ordered) > len(shown)}


def _message(role: str, text: str) -> Item:
    part: Item = {"type": "input_text", "text": text}
    if role == "assistant":
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "message", "role": role, "status": "completed", "content": [part]}


def _since(message: Item) -> Iterator[Item]:
    """Of a message of the exchange."""
    done = {"status": "completed"}
    if message["role"] == "tool":
        output = {"call_id": message["tool_call_id"], "output": message["content"]}
        yield {"type": "function_call_output"} | output | done
        return
    if message["content"]:
        yield _message(message["role"], message["content"])
    for call in message["tool_calls"]:
        made = {"call_id": call["id"], "name": call["name"], "arguments": call["arguments"]}
        extra = {"extra_content": call["extra"]} if call.get("extra") else {}
        yield {"type": "function_call"} | made | done | extra
