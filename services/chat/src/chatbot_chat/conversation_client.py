"""Chat's own small view of the conversation service: only the fields it reads, whatever else the callee sends."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from chatbot_common.http import ServiceClient, call
from chatbot_common.identity import User
from pydantic import BaseModel, ConfigDict, Field

TurnState = Literal["started", "running", "completed", "failed", "cancelled", "interrupted", "requires_action"]
EndState = Literal["completed", "failed", "cancelled", "interrupted", "requires_action"]
"""`requires_action`: for now, until the user has said whether tools may be called."""
FinishReason = Literal["length", "content_filter"]
"""Why an answer that is `completed` is not whole: its bound of tokens, or a filter of its provider or ours."""


class View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Passage(View):
    """Something the knowledge base holds; `score` is cosine similarity to the question, 0 to 1."""

    id: UUID
    kind: Literal["faq", "document"]
    title: str
    text: str
    keywords: list[str] = Field(default_factory=list)
    url: str | None
    score: float


class Knowledge(View):
    """What was found for a question, best first, and what the knowledge base is about."""

    passages: list[Passage] = Field(default_factory=list)
    topics: list[str] = Field(default_factory=list)
    questions: list[str] = Field(default_factory=list)


class HistoryMessage(View):
    role: Literal["user", "assistant"]
    text: str


class ToldMessage(HistoryMessage):
    id: UUID


class SpokenMessage(View):
    """A message of a conversation as it is stored; `usage` is tokens."""

    role: Literal["user", "assistant"]
    text: str
    parts: list[dict[str, Any]]
    model: str | None
    usage: dict[str, Any] | None
    created_at: datetime


class Reply(View):
    """How a turn ended; `usage` is tokens."""

    text: str
    parts: list[dict[str, Any]]
    status: EndState
    citations: list[dict[str, Any]]
    model: str | None = None
    usage: dict[str, Any] | None
    error: str | None
    finish_reason: FinishReason | None = None


class Options(View):
    """How a turn of OpenAI's face is to be answered. `raw`: by the model as it is, without the team's prompt and tools.

    `model` is as the client named it; it reads all of this back.
    """

    model: str
    raw: bool
    instructions: str | None = None
    max_output_tokens: int | None = None
    asked: dict[str, Any] = Field(default_factory=dict)
    """As `ModelRequest` has it."""
    metadata: dict[str, str] = Field(default_factory=dict)
    background: bool = False
    previous_response_id: str | None = None
    tools: list[dict[str, Any]] = Field(default_factory=list)
    """The client's own, as it sent them: what the model calls of them ends the turn, and is for the client to do."""
    tool_choice: str | dict[str, Any] | None = None
    may_call: bool = True
    must_call: bool | str = False
    """What that says, as `ModelRequest` has it."""
    parallel_tool_calls: bool = True
    format: dict[str, Any] | None = None
    """As `ModelRequest` has it."""
    max_tool_calls: int | None = None
    """Of tools that OpenAI hosts: raw models have none."""
    sent: int = 0
    """How many messages before the question the client sent along, of which none may be left out."""
    exchange: list[dict[str, Any]] = Field(default_factory=list)
    """Messages after the question: calls of those tools, and what came of them. See runs/handing_over.py."""


class WaitingCall(View):
    """A call of a tool that the user must agree to; `approved` is None until they have answered."""

    tool_call_id: str
    name: str
    arguments: str
    approved: bool | None = None


class Waiting(View):
    """What a turn waits for, and what its next attempt goes on with: see runs/resuming.py."""

    calls: list[WaitingCall]
    resume: dict[str, Any]


class Turn(View):
    """One question and its state. `started` tells this caller, and no other, to run the attempt."""

    turn_id: UUID
    attempt: int
    state: TurnState
    conversation_id: UUID
    user_message_id: UUID
    reply_message_id: UUID
    deadline: datetime
    text: str
    history: list[HistoryMessage]
    summary: str | None
    instructions: str | None
    model: str | None = None
    """Who answers where the request names none: chosen for the conversation, or who gave the answer that is wanted
    again."""
    knowledge: Knowledge
    options: Options | None = None
    waiting: Waiting | None = None
    reply: Reply | None

    @property
    def undecided(self) -> list[WaitingCall]:
        """Calls of tools that the user has to answer."""
        calls = self.waiting.calls if self.waiting and self.state == "requires_action" else []
        return [call for call in calls if call.approved is None]


class Attempt(View):
    """Which attempt of which turn."""

    turn_id: UUID
    attempt: int


class Leases(View):
    """`lost`: turns of the caller that are not its own any more. `abandoned`: those whose process seems to be dead."""

    lost: list[UUID]
    abandoned: list[Attempt]


class StoredReply(View):
    user_id: UUID
    """Whose turn it was."""


class EmbeddingModel(View):
    """By which texts become vectors."""

    model: str
    dimensions: int


UsageOf = tuple[UUID | None, str] | tuple[UUID | None, str, UUID]
"""Whose, since when, and by which key of theirs."""


class UsageSum(View):
    """`cost` is in millionths; `recent` names what was entered in the last seconds, as `run_id:attempt`."""

    tokens: int
    cost: int
    recent: list[str]


def ending(
    attempt: int,
    status: EndState,
    *,
    model: str | None,
    text: str = "",
    parts: Sequence[dict[str, Any]] = (),
    error: str | None = None,
    variant: str | None = None,
) -> dict[str, Any]:
    """How an attempt ended, in conversation's words, as yet without citations and usage."""
    known = {"attempt": attempt, "status": status, "model": model, "text": text, "parts": [*parts], "error": error}
    return known | {"citations": [], "usage": None} | ({"variant": variant} if variant else {})


class ConversationClient:
    """Calls to the conversation service. Every method raises the problems of `chatbot_common.http.call`.

    Args:
        signs: for signs of life, which must not wait behind a thousand replies for a connection.
    """

    def __init__(self, client: ServiceClient, signs: ServiceClient | None = None) -> None:
        self._client = client
        self._signs = signs or client

    async def start_turn(self, user: User, body: dict[str, Any]) -> Turn:
        """Start the turn, or find the one with this `client_message_id`."""
        return await self._turn("POST", "", user, json=body)

    async def regenerate(self, user: User, body: dict[str, Any]) -> Turn:
        """Start another answer to a question, or find the one with this `client_message_id`."""
        return await self._turn("POST", "/regenerations", user, json=body)

    async def delete_turn(self, user: User, turn_id: UUID) -> None:
        """With its answer, and its question where nothing else needs that. Somebody else's is a 404."""
        await call(self._client, "DELETE", f"/internal/turns/{turn_id}", user_token=user.token)

    async def delete_conversation(self, user: User, conversation_id: UUID) -> None:
        """With all that was said in it. Somebody else's is a 404."""
        await call(self._client, "DELETE", f"/api/v1/conversations/{conversation_id}", user_token=user.token)

    async def get_turn(self, user: User, turn_id: UUID) -> Turn:
        """The user's own turn; someone else's is a 404."""
        return await self._turn("GET", f"/{turn_id}", user)

    async def latest_turn(self, user: User, conversation_id: UUID) -> Turn | None:
        """The newest of a conversation, if anything was asked there. Somebody else's is a 404."""
        path = f"/internal/turns?conversation_id={conversation_id}"
        found = await call(self._client, "GET", path, user_token=user.token)
        return Turn.model_validate(found) if found else None

    async def told(self, user: User, turn_id: UUID) -> list[ToldMessage]:
        """The question of the user's own turn, and before it what came along with that, oldest first."""
        found = await call(self._client, "GET", f"/internal/turns/{turn_id}/told", user_token=user.token)
        return [ToldMessage.model_validate(item) for item in found["messages"]]

    async def approve(self, user: User, turn_id: UUID, body: dict[str, Any]) -> Turn:
        """Answer a call that waits; `started` tells this caller to run the next attempt.

        Raises:
            UpstreamProblem: status 404 for no such turn of this user or call of it, 409 when it does not wait any more.
        """
        return await self._turn("POST", f"/{turn_id}/approvals", user, json=body)

    async def _turn(self, method: str, path: str, user: User, **told: Any) -> Turn:
        found = await call(self._client, method, f"/internal/turns{path}", user_token=user.token, **told)
        return Turn.model_validate(found)

    async def store_reply(self, turn_id: UUID, body: dict[str, Any]) -> StoredReply:
        """Commit the end of an attempt, as this service: the user's token may have expired meanwhile.

        With `spent`, what the attempt has used goes into the ledger in the same transaction.

        Raises:
            UpstreamProblem: status 409 when another end was committed first.
        """
        stored = await call(self._client, "PUT", f"/internal/turns/{turn_id}/reply", json=body)
        return StoredReply.model_validate(stored)

    async def enter_usage(self, entries: list[dict[str, Any]]) -> None:
        """Enter into the ledger what no stored reply does; what is there already changes nothing."""
        await call(self._client, "POST", "/internal/usage", json={"entries": entries})

    async def usage_sums(self, windows: Iterable[UsageOf]) -> list[UsageSum]:
        """What was spent since each moment, by a user, by one of their keys, or by all (None)."""
        asked = [
            {"user_id": str(user_id) if user_id else None, "since": since} | ({"key_id": str(key[0])} if key else {})
            for user_id, since, *key in windows
        ]
        found = await call(self._client, "POST", "/internal/usage/sums", json={"windows": asked})
        return [UsageSum.model_validate(item) for item in found["sums"]]

    async def renew(self, attempts: list[Attempt]) -> Leases:
        """Tell that these attempts of this process are alive."""
        body = {"turns": [attempt.model_dump(mode="json") for attempt in attempts]}
        return Leases.model_validate(await call(self._signs, "POST", "/internal/turns/leases", json=body))

    async def search(self, user: User, query: str) -> Knowledge:
        """Knowledge for a question outside any conversation."""
        path, body = "/api/v1/knowledge/search", {"query": query}
        return Knowledge.model_validate(await call(self._client, "POST", path, user_token=user.token, json=body))

    async def embedding_model(self) -> EmbeddingModel:
        return EmbeddingModel.model_validate(await call(self._client, "GET", "/internal/embeddings"))

    async def embed(self, texts: list[str]) -> list[list[float]]:
        """One vector per text, in order; 32 texts at most."""
        found = await call(self._client, "POST", "/internal/embeddings", json={"texts": texts})
        vectors: list[list[float]] = found["vectors"]
        return vectors

    async def messages(self, user: User, conversation_id: UUID) -> list[SpokenMessage]:
        """All messages of a conversation of the user, oldest first."""
        path, window = f"/api/v1/conversations/{conversation_id}/messages", {"limit": "200"}
        spoken: list[SpokenMessage] = []
        while True:
            page = await call(self._client, "GET", path, user_token=user.token, params=window)
            spoken += map(SpokenMessage.model_validate, page["data"])
            if not page["has_more"]:
                return spoken
            window["after"] = page["last_id"]

    async def ping(self) -> None:
        """Raises when conversation does not answer."""
        await call(self._client, "GET", "/health")
