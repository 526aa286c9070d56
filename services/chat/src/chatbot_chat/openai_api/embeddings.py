"""`POST /v1/embeddings`: texts become vectors by the model that searches the knowledge base. Conversation has it."""

import asyncio
from array import array
from base64 import b64encode
from decimal import Decimal
from typing import Annotated, Any, Literal

from chatbot_common.errors import InvalidRequest, Problem
from chatbot_common.identity import AskingUser, User
from chatbot_common.ids import uuid7
from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from chatbot_chat.budgets.accounts import Account
from chatbot_chat.budgets.service import Budgets
from chatbot_chat.conversation_client import ConversationClient, EmbeddingModel
from chatbot_chat.providers import Usage
from chatbot_chat.providers.catalog import UnknownModel
from chatbot_chat.settings import DeploymentSettings, ModelSettings, Prices
from chatbot_chat.tokens import estimate_tokens

router = APIRouter(prefix="/v1", tags=["openai"])

MAX_INPUTS = 256
MAX_LENGTH, MAX_CHARACTERS = 200_000, 500_000
"""Characters of one input, and of all together."""
TOGETHER = 32
"""Texts of one call, see the callee."""
LOOK_SECONDS = 1.0
"""How long a list of models waits to learn the name of this one."""


def _texts(value: Any) -> Any:
    """One text is a list of one. Says what is wrong in words: of a union every member would complain."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts:
        raise ValueError("send a text, or a list of texts")
    if any(isinstance(item, int | list) for item in texts):
        raise ValueError("lists of tokens are not taken, since each model has its own; send texts")
    return texts


def _bounded(texts: list[str]) -> list[str]:
    if any(not text.strip() for text in texts):
        raise ValueError("a text must not be blank")
    if len(texts) > MAX_INPUTS:
        raise ValueError(f"at most {MAX_INPUTS} texts are taken at once")
    if max(map(len, texts)) > MAX_LENGTH or sum(map(len, texts)) > MAX_CHARACTERS:
        raise ValueError(f"a text has at most {MAX_LENGTH} characters, and all together {MAX_CHARACTERS}")
    return texts


class EmbeddingRequest(BaseModel):
    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [{"model": "name", "input": "Good day"}]})

    model: str
    input: Annotated[list[str], BeforeValidator(_texts), AfterValidator(_bounded)] = Field(
        json_schema_extra={"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


class EmbeddingService:
    """`price` is of a million tokens."""

    def __init__(self, conversation: ConversationClient, budgets: Budgets, price: Decimal) -> None:
        self._conversation = conversation
        self._budgets = budgets
        self._prices = Prices(input=price, output=Decimal(0))
        self._model: EmbeddingModel | None = None

    async def model(self) -> EmbeddingModel:
        """Asked once. Raises the problems of `ConversationClient`."""
        self._model = self._model or await self._conversation.embedding_model()
        return self._model

    async def name(self) -> str | None:
        """For lists; None while it is not known."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return (await self.model()).model
        except (Problem, TimeoutError):
            return None

    async def embed(self, user: User, request: EmbeddingRequest) -> tuple[list[list[float]], int]:
        """One vector per text, and tokens as estimated.

        Raises:
            UnknownModel, BudgetUsedUp. InvalidRequest: other dimensions are wanted than the model has.
        """
        model = await self.model()
        if request.model != model.model:
            raise UnknownModel(request.model, [model.model])
        if request.dimensions not in (None, model.dimensions):
            detail = f"Model {model.model} has {model.dimensions} dimensions, and no other number of them."
            raise InvalidRequest(detail, errors=[{"pointer": "/dimensions", "detail": detail}])
        tokens = sum(map(estimate_tokens, request.input))
        account = self._budgets.account(user.id, uuid7(), key=user.key)
        try:
            return await self._counted(account, _settings(model.model, self._prices), request.input, tokens), tokens
        finally:
            await account.close()

    async def _counted(
        self, account: Account, model: ModelSettings, texts: list[str], tokens: int
    ) -> list[list[float]]:
        await account.admit_estimated(model, lambda: Usage(tokens, 0))
        vectors: list[list[float]] = []
        told = 0
        for start in range(0, len(texts), TOGETHER):
            some = texts[start : start + TOGETHER]
            vectors += await self._conversation.embed(some)
            told += sum(map(estimate_tokens, some))
            account.estimate(Usage(told, 0))  # also where the next one fails
        return vectors


@router.post("/embeddings")
async def create_embeddings(body: EmbeddingRequest, user: AskingUser, request: Request) -> dict[str, Any]:
    """Vectors of texts, of length 1."""
    service: EmbeddingService = request.app.state.embeddings
    vectors, tokens = await service.embed(user, body)
    encode = _base64 if body.encoding_format == "base64" else list
    data = [{"object": "embedding", "index": number, "embedding": encode(item)} for number, item in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": body.model, "usage": usage}


def _base64(vector: list[float]) -> str:
    """32-bit floats, little-endian as all machines that this runs on."""
    return b64encode(array("f", vector).tobytes()).decode()


def _settings(name: str, prices: Prices) -> ModelSettings:
    """What budgets and the ledger are told: a model that says nothing."""
    deployment = DeploymentSettings(provider="embeddings", model=name, weight=1)
    return ModelSettings(name=name, deployments=[deployment], context_window=1, max_output_tokens=1, prices=prices)
