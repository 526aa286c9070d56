"""`POST /v1/moderations`: what the bot's own moderation makes of a text, also where it moderates nothing."""

import asyncio
from typing import Annotated, Any, Literal

from chatbot_common.identity import AskingUser
from chatbot_common.ids import uuid7
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from chatbot_chat.moderation.service import Moderation

router = APIRouter(prefix="/v1", tags=["openai"])

Content = Annotated[str, Field(max_length=200_000)]


class TextInput(BaseModel):
    """Images are refused: not every moderation can see."""

    type: Literal["text"]
    text: Content


class ModerationRequest(BaseModel):
    """One text, or several that are judged each by itself. `model` is read by nobody: the bot has one moderation."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [{"input": "Good day"}]})

    input: (
        Content
        | Annotated[list[Content], Field(min_length=1, max_length=32)]
        | Annotated[list[TextInput], Field(min_length=1, max_length=32)]
    )
    model: str | None = None

    @property
    def texts(self) -> list[str]:
        """Parts of one message are one text."""
        if isinstance(self.input, str):
            return [self.input]
        plain = [item for item in self.input if isinstance(item, str)]
        return plain or ["\n".join(item.text for item in self.input if isinstance(item, TextInput))]


@router.post("/moderations")
async def create_moderation(body: ModerationRequest, _: AskingUser, request: Request) -> dict[str, Any]:
    """Judge texts."""
    moderation: Moderation = request.app.state.moderation
    verdicts = await asyncio.gather(*map(moderation.judge, body.texts))
    results = [verdict.as_json() for verdict in verdicts]
    return {"id": f"modr-{uuid7().hex}", "model": moderation.name, "results": results}
