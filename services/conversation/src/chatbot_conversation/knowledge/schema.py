"""Wire shapes of FAQs and of what a search finds."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from chatbot_conversation.wire import Request, Response, Text


class Faq(Response):
    id: UUID
    slug: str
    category: str
    question: str
    answer: str
    keywords: list[str]
    language: str
    priority: int
    updated_at: datetime


class Passage(Response):
    """Something quotable. `title` is the FAQ's question or the document's title; `score` is cosine similarity, 0..1.

    `keywords` are the words under which an FAQ's author wants it found.
    """

    id: UUID
    kind: Literal["faq", "document"]
    title: str
    text: str
    keywords: list[str]
    url: str | None
    score: float


class Knowledge(Response):
    """Passages, best first, and what the bot can talk about at all."""

    passages: list[Passage] = Field(default_factory=list)
    topics: list[str] = Field(default_factory=list)
    questions: list[str] = Field(default_factory=list)


class SearchRequest(Request):
    query: Annotated[Text, Field(min_length=1, max_length=4000)]
    limit: Annotated[int, Field(ge=1, le=50)] = 5
