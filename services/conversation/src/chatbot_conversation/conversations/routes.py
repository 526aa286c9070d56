"""Public routes of conversations and history."""

from typing import Annotated, Literal
from uuid import UUID

from chatbot_common.identity import AnyUser, KeepingUser
from fastapi import APIRouter, Depends, Query, Request

from chatbot_conversation.conversations.schema import (
    Conversation,
    ConversationChanges,
    Feedback,
    GivenFeedback,
    NewConversation,
)
from chatbot_conversation.conversations.service import ConversationService
from chatbot_conversation.wire import Message, Page, PageWindow, Window

router = APIRouter(prefix="/api/v1", tags=["conversations"])


async def _service(request: Request) -> ConversationService:
    service: ConversationService = request.app.state.conversations
    return service


Conversations = Annotated[ConversationService, Depends(_service)]


class ConversationWindow(Window):
    archived: bool | None = False
    """False lists active conversations, true archived ones."""


class MessageWindow(Window):
    order: Literal["asc", "desc"] = "asc"
    """`asc` reads from the first message on, `desc` from the newest back."""


@router.get("/conversations")
async def list_conversations(
    user: KeepingUser, conversations: Conversations, window: Annotated[ConversationWindow, Query()]
) -> Page[Conversation]:
    """The user's conversations, newest activity first."""
    return await conversations.newest(user.id, window.archived, window)


@router.post("/conversations", status_code=201)
async def create_conversation(body: NewConversation, user: KeepingUser, conversations: Conversations) -> Conversation:
    return await conversations.create(user.id, body)


@router.get("/conversations/{conversation_id}")
async def get_conversation(conversation_id: UUID, user: KeepingUser, conversations: Conversations) -> Conversation:
    return await conversations.get(user.id, conversation_id)


@router.patch("/conversations/{conversation_id}")
@router.put("/conversations/{conversation_id}", include_in_schema=False)
async def change_conversation(
    conversation_id: UUID, body: ConversationChanges, user: KeepingUser, conversations: Conversations
) -> Conversation:
    """Rename, tag, archive, or choose who answers in it. PUT is an alias: it too changes only what is sent."""
    return await conversations.change(user.id, conversation_id, body)


@router.delete("/conversations/{conversation_id}", status_code=204)
async def delete_conversation(conversation_id: UUID, user: KeepingUser, conversations: Conversations) -> None:
    await conversations.delete(user.id, conversation_id)


@router.get("/conversations/{conversation_id}/messages")
async def list_messages(
    conversation_id: UUID,
    user: AnyUser,
    conversations: Conversations,
    window: Annotated[MessageWindow, Query()],
) -> Page[Message]:
    """The messages of a conversation, oldest first unless `order=desc`. Who may go on with it may read it."""
    return await conversations.messages(user.id, conversation_id, window, newest_first=window.order == "desc")


@router.post("/conversations/{conversation_id}/messages/{message_id}/feedback")
async def rate_message(
    conversation_id: UUID, message_id: UUID, body: GivenFeedback, user: KeepingUser, conversations: Conversations
) -> Feedback:
    """Say what an answer is worth: `up` or `down`, and why. Said again, it replaces what was said before."""
    return await conversations.rate(user.id, conversation_id, message_id, body)


@router.get("/history")
async def history(user: KeepingUser, conversations: Conversations, window: PageWindow) -> Page[Message]:
    """The signed-in user's newest messages, of all conversations."""
    return await conversations.history(user.id, window)
