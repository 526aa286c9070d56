"""The user's answers to calls of tools that wait for them.

Inside the transaction of `TurnService`, with the turn's row locked: of two answers to the same call the first counts,
and of several calls whose answers come at once exactly one is the last, which starts the next attempt.
"""

from datetime import timedelta
from uuid import UUID

from chatbot_common.database import WriteSession
from chatbot_common.errors import Conflict, NotFound

from chatbot_conversation.knowledge.schema import Knowledge
from chatbot_conversation.turns import store
from chatbot_conversation.turns.schema import Approval, Turn, Waiting
from chatbot_conversation.turns.views import started_turn, turn_as_it_stands


async def approve(session: WriteSession, user_id: UUID, turn_id: UUID, answer: Approval, allowed: timedelta) -> Turn:
    """Raises what `TurnService.approve` does."""
    row = await store.lock_own(session, user_id, turn_id)
    if row is None:
        raise NotFound("There is no such turn.")
    if row.state != "requires_action":
        raise Conflict("No tool call of this run waits for an approval.")
    waiting = answered(Waiting.model_validate(row.waiting), answer)
    if any(call.approved is None for call in waiting.calls):
        return await turn_as_it_stands(session, await store.keep_waiting(session, row, waiting.model_dump(mode="json")))
    again = await store.start_again(session, row, allowed)
    # The passages are in `resume`: what the model has read is not searched for again.
    return await started_turn(session, again, row.text, row.parent_id, Knowledge(), waiting, room=answer.history_tokens)


def answered(waiting: Waiting, answer: Approval) -> Waiting:
    """Raises `NotFound` and `Conflict`."""
    call = next((call for call in waiting.calls if call.tool_call_id == answer.tool_call_id), None)
    if call is None:
        raise NotFound("There is no such tool call in this run.")
    if call.approved is not None:
        raise Conflict("This tool call has been answered already.")
    calls = [item.model_copy(update={"approved": answer.approved}) if item is call else item for item in waiting.calls]
    return waiting.model_copy(update={"calls": calls})
