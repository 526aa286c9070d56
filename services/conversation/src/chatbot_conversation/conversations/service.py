"""What a user does with their own conversations; someone else's do not exist for them."""

from uuid import UUID

from chatbot_common.database import Database, ReadSession
from chatbot_common.errors import InvalidRequest, NotFound
from chatbot_common.ids import uuid7
from prometheus_client import Counter

from chatbot_conversation.conversations import store
from chatbot_conversation.conversations.schema import (
    Conversation,
    ConversationChanges,
    Feedback,
    GivenFeedback,
    LastMessage,
    NewConversation,
)
from chatbot_conversation.jobs import enqueue
from chatbot_conversation.tables import AnyRow
from chatbot_conversation.vectors import MESSAGES
from chatbot_conversation.wire import Message, Page, Window, page_of

FEEDBACK = Counter("conversation_feedback_total", "Answers that their readers rated, each time they did", ["rating"])


class ConversationService:
    """Every method raises `NotFound` for a conversation that is not the user's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(self, user_id: UUID, archived: bool | None, window: Window) -> Page[Conversation]:
        async with self._database.read() as session:
            rows = await store.newest(session, user_id, archived, window)
        return page_of(rows, window, _conversation)

    async def get(self, user_id: UUID, conversation_id: UUID) -> Conversation:
        async with self._database.read() as session:
            return await _find(session, user_id, conversation_id)

    async def create(self, user_id: UUID, request: NewConversation) -> Conversation:
        conversation_id = uuid7()
        async with self._database.write() as session:
            await store.create(session, user_id, conversation_id, **request.model_dump())
            return await _find(session, user_id, conversation_id)

    async def change(self, user_id: UUID, conversation_id: UUID, changes: ConversationChanges) -> Conversation:
        async with self._database.write() as session:
            if values := changes.values:
                await store.change(session, user_id, conversation_id, values)
            return await _find(session, user_id, conversation_id)

    async def delete(self, user_id: UUID, conversation_id: UUID) -> None:
        """Delete it with its messages; their vectors follow in a background job."""
        async with self._database.write() as session:
            message_ids = await store.remove(session, user_id, conversation_id)
            if message_ids is None:
                raise NotFound("There is no such conversation.")
            if message_ids:
                payload = {"collection": MESSAGES, "tenant": user_id, "ids": list(message_ids)}
                await enqueue(session, "forget_vectors", [payload])

    async def messages(
        self, user_id: UUID, conversation_id: UUID, window: Window, *, newest_first: bool
    ) -> Page[Message]:
        async with self._database.read() as session:
            await _find(session, user_id, conversation_id)
            rows = await store.messages_of(session, user_id, conversation_id, window, newest_first=newest_first)
        return page_of(rows, window, Message.model_validate)

    async def rate(self, user_id: UUID, conversation_id: UUID, message_id: UUID, given: GivenFeedback) -> Feedback:
        """Keep what the user thinks of an answer: the last time counts.

        Raises:
            InvalidRequest: the message is a question.
        """
        async with self._database.write() as session:
            answer = await store.is_answer(session, user_id, conversation_id, message_id)
            if answer is None:
                raise NotFound("There is no such message in this conversation.")
            if not answer:
                raise InvalidRequest("Only an answer can be rated; this message is a question.")
            row = await store.put_feedback(session, user_id, message_id, **given.model_dump())
        FEEDBACK.labels(given.rating).inc()
        return Feedback.model_validate(row)

    async def history(self, user_id: UUID, window: Window) -> Page[Message]:
        """The user's newest messages, of all conversations."""
        async with self._database.read() as session:
            rows = await store.messages_of(session, user_id, None, window, newest_first=True)
        return page_of(rows, window, Message.model_validate)


async def _find(session: ReadSession, user_id: UUID, conversation_id: UUID) -> Conversation:
    row = await store.find(session, user_id, conversation_id)
    if row is None:
        raise NotFound("There is no such conversation.")
    return _conversation(row)


def _conversation(row: AnyRow) -> Conversation:
    last = None
    if row.last_role is not None:
        last = LastMessage(
            id=row.last_message_id,
            role=row.last_role,
            text=row.last_text,
            status=row.last_status,
            created_at=row.last_created_at,
        )
    return Conversation.model_validate({**row._mapping, "last_message": last})
