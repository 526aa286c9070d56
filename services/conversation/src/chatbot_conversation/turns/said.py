"""SQL of what a turn says and where: its messages, and the conversation that they are in.

As in store.py, what each turn executes is put together once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from chatbot_common.database import ReadSession, WriteSession
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Table,
    Uuid,
    bindparam,
    cast,
    func,
    literal,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from chatbot_conversation.tables import AnyRow, conversations, messages
from chatbot_conversation.turns.schema import Spoken, StoreReply
from chatbot_conversation.wire import Json

HISTORY_MESSAGES = 2_000
"""However short they are."""
MESSAGE_TOKENS = 4
"""What each message costs beside its text, as the chat service counts it."""
_CONTENT = ("text", "parts", "citations", "status", "model", "error", "moderation", "variant", "finish_reason")
MOST_TOKENS = 2**31 - 1
"""That a conversation's counter holds; then it stays there, and answers are stored all the same."""


@dataclass(frozen=True, slots=True)
class NewTurn:
    """A turn about to start, with all ids it will use."""

    user_id: UUID
    id: UUID
    conversation_id: UUID
    user_message_id: UUID
    reply_message_id: UUID


def is_own(table: Table) -> ColumnElement[bool]:
    """The row `own_id` of user `own_user`."""
    return (table.c.user_id == bindparam("own_user")) & (table.c.id == bindparam("own_id"))


def own(user_id: UUID, row_id: UUID | None) -> dict[str, Any]:
    return {"own_user": user_id, "own_id": row_id}


async def insert_earlier(
    session: WriteSession, turn: NewTurn, parent_id: UUID | None, spoken: Sequence[tuple[UUID, Spoken]]
) -> None:
    """Store messages that were said elsewhere, each under its id and the first one after `parent_id`."""
    parents = [parent_id, *(message_id for message_id, _ in spoken)]
    rows = [
        {
            "user_id": turn.user_id,
            "id": message_id,
            "conversation_id": turn.conversation_id,
            "parent_id": parent,
            "role": message.role,
            "text": message.text,
            "parts": [{"type": "text", "text": message.text}],
            "status": "completed",
        }
        for parent, (message_id, message) in zip(parents, spoken, strict=False)
    ]
    await session.execute(insert(messages), rows)


def content_of(reply: StoreReply) -> dict[str, Any]:
    """Columns of the message that a reply becomes."""
    usage = reply.usage.model_dump(exclude_none=True) if reply.usage else None
    return {name: getattr(reply, name) for name in _CONTENT} | {"usage": usage}


async def put_reply(session: WriteSession, turn: AnyRow, content: dict[str, Any]) -> bool:
    """Store the reply message, in place of an earlier attempt's. False when it replaced one.

    An attempt that ended without text leaves the words of the earlier one and changes only how they ended. One that
    went on from where tools had waited counts on, too. The turn's row is locked: nobody else writes this message.
    """
    before = await find_message(session, turn.user_id, turn.reply_message_id)
    if before is None:
        place = {"user_id": turn.user_id, "id": turn.reply_message_id, "conversation_id": turn.conversation_id}
        reply = place | content | {"parent_id": turn.user_message_id, "role": "assistant"}
        await session.execute(insert(messages), reply)
        return True
    if before.status == "requires_action":
        content = content | {"usage": _sum(before.usage, content["usage"])}
    ending = {name: content[name] for name in ("status", "error", "finish_reason")}
    says = content["text"] or not before.text or content["status"] == "requires_action"
    changes = content | {"created_at": func.now()} if says else ending
    key = (messages.c.user_id == turn.user_id) & (messages.c.id == turn.reply_message_id)
    await session.execute(update(messages).where(key).values(**changes))
    return False


def _sum(before: Json | None, usage: Json | None) -> Json | None:
    """Of tokens, by name."""
    if not (before and usage):
        return before or usage
    return {name: int(str(usage.get(name, 0))) + int(str(before.get(name, 0))) for name in before | usage}


_MESSAGE = select(messages).where(is_own(messages))


async def find_message(session: ReadSession, user_id: UUID, message_id: UUID) -> AnyRow | None:
    row: AnyRow | None = (await session.execute(_MESSAGE, own(user_id, message_id))).first()
    return row


async def model_of(session: ReadSession, message: AnyRow) -> str | None:
    """Who has given an answer, or the newest of a question's. None where an A/B test has decided: so it does again."""
    if message.role == "assistant":
        return None if message.variant else message.model
    inside = (messages.c.user_id == message.user_id) & (messages.c.conversation_id == message.conversation_id)
    answers = inside & (messages.c.parent_id == message.id) & messages.c.model.is_not(None)
    query = select(messages.c.model, messages.c.variant).where(answers).order_by(messages.c.id.desc()).limit(1)
    found = (await session.execute(query)).first()
    return found.model if found and not found.variant else None


_FIND_CONVERSATION = select(conversations).where(is_own(conversations))


async def find_conversation(session: ReadSession, user_id: UUID, conversation_id: UUID) -> AnyRow | None:
    row: AnyRow | None = (await session.execute(_FIND_CONVERSATION, own(user_id, conversation_id))).first()
    return row


_NEWEST = (
    select(messages.c.id)
    .where(messages.c.user_id == bindparam("own_user"), messages.c.conversation_id == bindparam("own_id"))
    .order_by(messages.c.id.desc())
    .limit(1)
)


async def newest_message_id(session: ReadSession, user_id: UUID, conversation_id: UUID) -> UUID | None:
    return (await session.execute(_NEWEST, own(user_id, conversation_id))).scalar()


TOUCH = (
    update(conversations)
    .where(is_own(conversations))
    .values(
        message_count=conversations.c.message_count + bindparam("added"),
        token_count=func.least(cast(conversations.c.token_count, BigInteger) + bindparam("tokens"), MOST_TOKENS),
        last_message_id=func.greatest(conversations.c.last_message_id, bindparam("last_said", type_=Uuid)),
        updated_at=func.now(),
    )
    .returning(conversations.c.id)
)


def news_of(turn: NewTurn | AnyRow, last_message_id: UUID, *, added: int, tokens: int = 0) -> dict[str, Any]:
    """What `TOUCH` is told."""
    told = {"added": added, "tokens": tokens, "last_said": last_message_id}
    return own(turn.user_id, turn.conversation_id) | told


async def touch_conversation(
    session: WriteSession, turn: NewTurn | AnyRow, last_message_id: UUID, *, added: int, tokens: int = 0
) -> bool:
    """Count new messages in. False when the conversation has been deleted meanwhile."""
    news = news_of(turn, last_message_id, added=added, tokens=tokens)
    return (await session.execute(TOUCH, news)).first() is not None


def _chain() -> Select[Any]:
    columns = (messages.c.id, messages.c.parent_id, messages.c.role, messages.c.text)
    # A quarter of the bytes, rounded up; a long text's length is known without reading it.
    cost = ((func.octet_length(messages.c.text) + 3) // 4 + MESSAGE_TOKENS).label("cost")
    newest = select(*columns, literal(1).label("depth"), cost.label("spent")).where(is_own(messages))
    chain = newest.cte("chain", recursive=True)
    room = bindparam("room", type_=Integer)
    before = (messages.c.user_id == bindparam("own_user")) & (messages.c.id == chain.c.parent_id)
    # One by its key at a time: joined, Postgres may read all messages of the user for each of the chain.
    found = select(*columns, cost).where(before).limit(1).lateral("older")
    further = (chain.c.depth < HISTORY_MESSAGES) & (chain.c.spent <= room)
    place = (found.c.id, found.c.parent_id, found.c.role, found.c.text)
    older = select(*place, chain.c.depth + 1, chain.c.spent + found.c.cost).join_from(chain, found, true())
    whole = chain.union_all(older.where(further))
    told = (whole.c.text != "") & (whole.c.spent <= room)
    return select(whole.c.role, whole.c.text).where(told).order_by(whole.c.depth.desc())


_HISTORY = _chain()


async def history(session: ReadSession, user_id: UUID, parent_id: UUID | None, room: int) -> Sequence[AnyRow]:
    """The chain that ends at `parent_id`, oldest first, as far as it fits into so many tokens.

    Messages without text are left out.
    """
    rows: Sequence[AnyRow] = (await session.execute(_HISTORY, own(user_id, parent_id) | {"room": room})).all()
    return rows
