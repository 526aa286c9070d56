"""What was said elsewhere before a question, and came along with it: messages that no turn has asked or answered."""

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from chatbot_common.database import ReadSession
from sqlalchemy import ColumnElement, Table, select

from chatbot_conversation.tables import AnyRow, messages, turns


async def told_with(session: ReadSession, turn: AnyRow, *, alone: bool = False) -> list[UUID]:
    """Their ids, the latest first. `alone`: only as far as nothing else follows them."""
    place = (turn.user_id, turn.conversation_id)
    inside = select(messages.c.id, messages.c.parent_id).where(in_conversation(messages, *place))
    parents = {row.id: row.parent_id for row in await session.execute(inside)}
    pairs = select(turns.c.user_message_id, turns.c.reply_message_id).where(in_conversation(turns, *place))
    of_turns = {message_id for pair in await session.execute(pairs) for message_id in pair}
    following, told = Counter(parents.values()), list[UUID]()
    above = turn.parent_id
    while above in parents and above not in of_turns and not (alone and following[above] > 1):
        told.append(above)
        above = parents[above]
    return told


async def told(session: ReadSession, turn: AnyRow) -> Sequence[AnyRow]:
    """These and the question, oldest first: `id`, `role` and `text`."""
    wanted = messages.c.id.in_([turn.user_message_id, *await told_with(session, turn)])
    own = (messages.c.user_id == turn.user_id) & (messages.c.text != "") & wanted
    query = select(messages.c.id, messages.c.role, messages.c.text).where(own).order_by(messages.c.id)
    return (await session.execute(query)).all()


def in_conversation(table: Table, user_id: UUID, conversation_id: UUID) -> ColumnElement[bool]:
    return (table.c.user_id == user_id) & (table.c.conversation_id == conversation_id)
