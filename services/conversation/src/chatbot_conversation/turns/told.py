"""What was said elsewhere before a question, and came along with it: messages that no turn has asked or answered."""

from collections.abc import Sequence
from uuid import UUID

from chatbot_common.database import ReadSession
from sqlalchemy import ColumnElement, Select, Table, Uuid, bindparam, exists, literal, select

from chatbot_conversation.tables import AnyRow, messages, turns
from chatbot_conversation.turns.said import is_own, own

_OF_A_TURN = exists(turns.c.id).where(
    turns.c.user_id == bindparam("own_user"),
    turns.c.user_message_id.in_([messages.c.id, messages.c.parent_id]),  # of which there is an index
    (turns.c.user_message_id == messages.c.id) | (turns.c.reply_message_id == messages.c.id),
)


def _upwards(*, alone: bool) -> Select[tuple[UUID]]:
    """Their ids from message `own_id` on, the latest first. `alone`: as far as only one follows each, first `below`."""

    def told(below: ColumnElement[UUID]) -> ColumnElement[bool]:
        others = messages.alias("others")
        place = (others.c.user_id == bindparam("own_user")) & (others.c.conversation_id == messages.c.conversation_id)
        follows = exists(others.c.id).where(place, others.c.parent_id == messages.c.id, others.c.id != below)
        return ~_OF_A_TURN & ~follows if alone else ~_OF_A_TURN

    columns = (messages.c.id, messages.c.parent_id)
    first = select(*columns, literal(1).label("depth")).where(is_own(messages), told(bindparam("below", type_=Uuid)))
    chain = first.cte("chain", recursive=True)
    above = (messages.c.user_id == bindparam("own_user")) & (messages.c.id == chain.c.parent_id)
    whole = chain.union_all(select(*columns, chain.c.depth + 1).where(above, told(chain.c.id)))
    return select(whole.c.id).order_by(whole.c.depth)


_TOLD, _TOLD_ALONE = _upwards(alone=False), _upwards(alone=True)


async def told_with(session: ReadSession, turn: AnyRow, *, alone: bool = False) -> list[UUID]:
    """Their ids, the latest first. `alone`: only as far as nothing else follows them."""
    place = own(turn.user_id, turn.parent_id) | ({"below": turn.user_message_id} if alone else {})
    return [row.id for row in await session.execute(_TOLD_ALONE if alone else _TOLD, place)]


async def told(session: ReadSession, turn: AnyRow) -> Sequence[AnyRow]:
    """These and the question, oldest first: `id`, `role` and `text`."""
    wanted = messages.c.id.in_([turn.user_message_id, *await told_with(session, turn)])
    own_ones = (messages.c.user_id == turn.user_id) & (messages.c.text != "") & wanted
    query = select(messages.c.id, messages.c.role, messages.c.text).where(own_ones).order_by(messages.c.id)
    return (await session.execute(query)).all()


def in_conversation(table: Table, user_id: UUID, conversation_id: UUID) -> ColumnElement[bool]:
    return (table.c.user_id == user_id) & (table.c.conversation_id == conversation_id)
