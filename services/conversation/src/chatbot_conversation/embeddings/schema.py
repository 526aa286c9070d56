"""Wire shapes of embeddings, as the chat service sends and reads them."""

from typing import Annotated

from pydantic import Field

from chatbot_conversation.wire import MAX_TEXT, Request, Response

TOGETHER = 32
"""Texts of one call: it is short then, and nobody's question waits behind somebody's library."""


class Embed(Request):
    texts: Annotated[list[Annotated[str, Field(max_length=MAX_TEXT)]], Field(min_length=1, max_length=TOGETHER)]


class EmbeddingModel(Response):
    """`model` is the name by which clients know it."""

    model: str
    dimensions: int


class Embeddings(EmbeddingModel):
    """One unit vector per text, in order."""

    vectors: list[list[float]]
