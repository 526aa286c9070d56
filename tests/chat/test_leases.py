"""Leases: who lives is left alone; a run whose process has died ends as interrupted, with the words from its log."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from chatbot_chat.budgets.prices import Spent
from chatbot_chat.budgets.service import Budgets
from chatbot_chat.conversation_client import Attempt, ConversationClient, StoredReply, Turn, ending
from chatbot_chat.providers import ModelEvent, TextDelta
from chatbot_chat.providers.catalog import Catalog
from chatbot_chat.runs.events import Event
from chatbot_chat.runs.leases import CALL_SECONDS, RENEW_SECONDS, RETRY_SECONDS, SURE_SECONDS, Leases
from chatbot_chat.runs.log import RunLog
from chatbot_chat.runs.run import Run
from chatbot_chat.runs.service import RunService
from chatbot_chat.settings import Settings
from chatbot_chat.tools.catalog import ToolCatalog
from chatbot_chat.variants import Choices
from chatbot_common.http import UpstreamProblem
from chatbot_common.identity import User
from chatbot_common.ids import uuid7
from chatbot_conversation.turns.store import LEASE, LEFT_TO_CHAT
from redis.asyncio import Redis

from tests.chat.budgeting import model
from tests.conversation.running import eventually
from tests.support.identity import Keys
from tests.support.patience import within

OVERDUE = "UPDATE turns SET leased_until = now() - interval '1 second' WHERE id = $1"


@pytest.fixture
def ada(keys: Keys) -> User:
    user_id = uuid7()
    return User(user_id, "ada@example.com", "user", uuid7(), 0, keys.access_token(user_id))


@pytest.fixture
def leases(conversation: ConversationClient, log: RunLog) -> Leases:
    """Those of another replica, which runs nothing itself."""
    return Leases(conversation, log, list, sure_seconds=0)


@pytest.fixture
async def turn(conversation: ConversationClient, log: RunLog, ada: User) -> Turn:
    """One that a process began to answer before it died."""
    turn = await conversation.start_turn(ada, question())
    await log.append(turn.turn_id, 1, spoken(turn.turn_id, 1, "half ", "an "))
    return turn


def run_of(conversation: ConversationClient, user: User, turn: Turn) -> Run:
    return Run(user.id, turn, Budgets(conversation).account(user.id, turn.turn_id))


def question(**more: Any) -> dict[str, Any]:
    return {"text": "Hello", "client_message_id": str(uuid7())} | more


def spoken(run_id: UUID, attempt: int, *words: str) -> list[Event]:
    started = Event("run.started", run_id, attempt, 1, {"model": "echo"})
    return [started, *(Event("text.delta", run_id, attempt, seq, {"text": word}) for seq, word in enumerate(words, 2))]


async def many_wait(sql: asyncpg.Connection) -> Any:
    await sql.execute("SELECT pg_stat_clear_snapshot()")
    query = "SELECT count(*) >= 25 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = ANY($1)"
    return await sql.fetchval(query, ["transactionid", "tuple"])


async def rounds(leases: Leases) -> None:
    for _ in range(2):
        await leases.renew()


class TestAbandoned:
    async def test_ends_as_interrupted_with_its_words(
        self, leases: Leases, conversation: ConversationClient, turn: Turn, ada: User, sql: asyncpg.Connection
    ) -> None:
        await sql.execute(OVERDUE, turn.turn_id)
        await rounds(leases)
        ended = await conversation.get_turn(ada, turn.turn_id)
        assert ended.state == "interrupted"
        assert ended.reply is not None
        assert (ended.reply.text, ended.reply.parts) == ("half an ", [{"type": "text", "text": "half an "}])
        assert await sql.fetchval("SELECT model FROM messages WHERE id = $1", turn.reply_message_id) == "echo"

    async def test_costs_what_its_process_has_told_and_the_words_since(
        self, conversation: ConversationClient, log: RunLog, turn: Turn, sql: asyncpg.Connection
    ) -> None:
        await log.append(turn.turn_id, 1, [], Spent("echo", 40, 1, 0, True))
        await sql.execute(OVERDUE, turn.turn_id)
        await rounds(Leases(conversation, log, list, models={"echo": model(name="echo")}, sure_seconds=0))
        row = await sql.fetchrow("SELECT input_tokens, output_tokens FROM ledger WHERE run_id = $1", turn.turn_id)
        assert tuple(row) == (40, 2)

    async def test_who_thaws_can_neither_append_nor_commit(
        self, leases: Leases, conversation: ConversationClient, log: RunLog, turn: Turn, sql: asyncpg.Connection
    ) -> None:
        await sql.execute(OVERDUE, turn.turn_id)
        await rounds(leases)
        later = [Event("text.delta", turn.turn_id, 1, 4, {"text": "answer"})]
        assert await log.append(turn.turn_id, 1, later) == "superseded"
        with pytest.raises(UpstreamProblem) as caught:
            await conversation.store_reply(turn.turn_id, ending(1, "completed", model="echo", text="half an answer"))
        assert caught.value.status == 409

    async def test_who_thaws_hears_it_with_the_next_renewal(
        self, leases: Leases, conversation: ConversationClient, log: RunLog, turn: Turn, ada: User, sql: Any
    ) -> None:
        await sql.execute(OVERDUE, turn.turn_id)
        await rounds(leases)
        thawed = run_of(conversation, ada, turn)
        await Leases(conversation, log, lambda: [thawed]).renew()
        assert thawed.stop_reason == "superseded"

    async def test_can_be_tried_again(
        self, leases: Leases, conversation: ConversationClient, log: RunLog, ada: User, sql: asyncpg.Connection
    ) -> None:
        asked = question()
        turn = await conversation.start_turn(ada, asked)
        await sql.execute(OVERDUE, turn.turn_id)
        await rounds(leases)
        again = await conversation.start_turn(ada, asked | {"retry": True})
        assert (again.state, again.attempt) == ("started", 2)
        assert await log.append(turn.turn_id, 2, spoken(turn.turn_id, 2, "whole")) == "ok"

    async def test_is_left_alone_at_first_sight(
        self, leases: Leases, conversation: ConversationClient, log: RunLog, turn: Turn, ada: User, sql: Any
    ) -> None:
        """After an outage of conversation every lease has ended."""
        await sql.execute(OVERDUE, turn.turn_id)
        await leases.renew()
        alive = run_of(conversation, ada, turn)
        await Leases(conversation, log, lambda: [alive]).renew()
        await leases.renew()
        assert alive.stop_reason is None
        assert (await conversation.get_turn(ada, turn.turn_id)).state == "running"

    async def test_is_left_alone_for_longer_than_the_living_need(
        self, conversation: ConversationClient, log: RunLog, turn: Turn, ada: User, sql: asyncpg.Connection
    ) -> None:
        await sql.execute(OVERDUE, turn.turn_id)
        await rounds(Leases(conversation, log, list, sure_seconds=60))
        assert (await conversation.get_turn(ada, turn.turn_id)).state == "running"
        assert SURE_SECONDS > CALL_SECONDS + RETRY_SECONDS

    async def test_many_end_at_once(
        self, leases: Leases, conversation: ConversationClient, log: RunLog, ada: User, sql: asyncpg.Connection
    ) -> None:
        turns = [await conversation.start_turn(ada, question()) for _ in range(20)]
        for turn in turns:
            await sql.execute(OVERDUE, turn.turn_id)
        async with within(30):
            while {(await conversation.get_turn(ada, turn.turn_id)).state for turn in turns} != {"interrupted"}:
                await leases.renew()

    async def test_without_its_log_ends_without_words(
        self,
        leases: Leases,
        conversation: ConversationClient,
        turn: Turn,
        ada: User,
        sql: asyncpg.Connection,
        redis: Redis,
    ) -> None:
        await redis.flushall()
        await sql.execute(OVERDUE, turn.turn_id)
        await rounds(leases)
        ended = await conversation.get_turn(ada, turn.turn_id)
        assert (ended.state, ended.reply and ended.reply.text) == ("interrupted", "")

    async def test_while_redis_is_away_waits_for_its_words(
        self, conversation: ConversationClient, turn: Turn, ada: User, sql: asyncpg.Connection
    ) -> None:
        await sql.execute(OVERDUE, turn.turn_id)
        async with Redis.from_url("redis://127.0.0.1:1") as nowhere:
            await rounds(Leases(conversation, RunLog(nowhere, nowhere), list, sure_seconds=0))
        assert (await conversation.get_turn(ada, turn.turn_id)).state == "running"


class TestBegun:
    """By a process whose rounds do not come."""

    @pytest.fixture
    async def catalog(self, told: dict[str, Any]) -> AsyncIterator[Catalog]:
        catalog = Catalog(Settings.model_validate(told))
        yield catalog
        await catalog.close()

    @pytest.fixture
    def tools(self, told: dict[str, Any]) -> ToolCatalog:
        return ToolCatalog(Settings.model_validate(told).tools)

    async def test_gives_a_sign_of_life_at_once(
        self,
        catalog: Catalog,
        tools: ToolCatalog,
        conversation: ConversationClient,
        log: RunLog,
        ada: User,
        sql: asyncpg.Connection,
    ) -> None:
        runs = RunService(catalog, tools, conversation, log, Choices(catalog.default, {"en": ""}))
        turn = await runs.send(ada, question(), "endless", "en")
        leased = "SELECT leased_until > now() FROM turns WHERE id = $1"
        async with within(30):
            while not await sql.fetchval(leased, turn.turn_id):
                await asyncio.sleep(0.02)
            while not (spent := await log.spent(turn.turn_id, 1)):  # for who closes it, should this process die
                await asyncio.sleep(0.02)
        assert spent.input_tokens > 0
        await runs.drain(0)
        assert (await conversation.get_turn(ada, turn.turn_id)).state == "interrupted"

    async def test_is_answered_although_who_asked_has_gone(
        self, catalog: Catalog, tools: ToolCatalog, conversation: ConversationClient, log: RunLog, ada: User
    ) -> None:
        runs, asked = RunService(catalog, tools, conversation, log, Choices(catalog.default, {"en": ""})), question()
        sending = asyncio.create_task(runs.send(ada, asked, "echo", "en"))
        await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await runs.drain(30)
        assert (await conversation.start_turn(ada, asked)).state == "completed"

    async def test_ends_also_when_its_log_crashes(
        self, catalog: Catalog, tools: ToolCatalog, conversation: ConversationClient, redis: Redis, ada: User
    ) -> None:
        class Crashing(RunLog):
            async def opens(self, run_id: UUID, attempt: int) -> bool:
                raise RuntimeError

        log = Crashing(redis, redis)
        runs = RunService(catalog, tools, conversation, log, Choices(catalog.default, {"en": ""}))
        turn = await runs.send(ada, question(), "echo", "en")
        await runs.drain(30)
        assert (await conversation.get_turn(ada, turn.turn_id)).state == "failed"
        assert [event.type for event in await log.said(turn.turn_id, 1)] == ["run.failed"]

    async def test_is_stored_once_conversation_knows_us_again(
        self, catalog: Catalog, tools: ToolCatalog, conversation: ConversationClient, log: RunLog, ada: User
    ) -> None:
        class Rotating(ConversationClient):
            """Does not know our new key at first."""

            known = False

            async def store_reply(self, turn_id: UUID, body: dict[str, Any]) -> StoredReply:
                if not self.known:
                    self.known = True
                    raise UpstreamProblem({}, 401)
                return await super().store_reply(turn_id, body)

        choices = Choices(catalog.default, {"en": ""})
        runs = RunService(catalog, tools, Rotating(conversation._client), log, choices)
        turn = await runs.send(ada, question(), "echo", "en")
        await runs.drain(30)
        assert (await conversation.get_turn(ada, turn.turn_id)).state == "completed"

    async def test_ends_also_when_a_cancellation_leaks_into_it(
        self, told: dict[str, Any], tools: ToolCatalog, conversation: ConversationClient, log: RunLog, ada: User
    ) -> None:
        class Leaking(Catalog):
            async def stream(self, *_: Any, **__: Any) -> AsyncGenerator[ModelEvent, None]:
                yield TextDelta("So far")
                raise asyncio.CancelledError

        leaking = Leaking(Settings.model_validate(told))
        runs = RunService(leaking, tools, conversation, log, Choices(leaking.default, {"en": ""}))
        turn = await runs.send(ada, question(), "echo", "en")
        await runs.drain(30)
        reply = (await conversation.get_turn(ada, turn.turn_id)).reply
        assert reply is not None
        assert (reply.text, reply.status) == ("So far", "failed")


class TestLiving:
    async def test_may_thaw_while_they_are_being_closed(
        self, conversation: ConversationClient, redis: Redis, turn: Turn, ada: User, sql: asyncpg.Connection
    ) -> None:
        class Waking(RunLog):
            async def said(self, run_id: UUID, attempt: int) -> list[Event]:
                await Leases(conversation, self, lambda: [run_of(conversation, ada, turn)]).renew()
                return await super().said(run_id, attempt)

        log = Waking(redis, redis)
        await sql.execute(OVERDUE, turn.turn_id)
        await rounds(Leases(conversation, log, list, sure_seconds=0))
        assert (await conversation.get_turn(ada, turn.turn_id)).state == "running"
        assert await log.append(turn.turn_id, 1, ()) == "ok"

    async def test_are_heard_although_a_thousand_replies_come_at_once(
        self, conversation: ConversationClient, ada: User, sql: asyncpg.Connection
    ) -> None:
        """More than there are connections, to conversation as to Postgres."""
        turns = [await conversation.start_turn(ada, question()) for _ in range(110)]
        async with sql.transaction():
            await sql.execute("SELECT * FROM turns WHERE user_id = $1 FOR UPDATE", ada.id)
            ends = [ending(1, "completed", model="echo", text="Good day") for _ in turns]
            storing = [
                asyncio.create_task(conversation.store_reply(turn.turn_id, end))
                for turn, end in zip(turns, ends, strict=True)
            ]
            await eventually(lambda: many_wait(sql))
            async with within(15):
                leases = await conversation.renew([Attempt(turn_id=turn.turn_id, attempt=1) for turn in turns])
        assert leases.lost == []
        await asyncio.gather(*storing)

    async def test_keep_their_runs(
        self, leases: Leases, conversation: ConversationClient, log: RunLog, turn: Turn, ada: User, sql: Any
    ) -> None:
        await sql.execute(OVERDUE, turn.turn_id)
        await Leases(conversation, log, lambda: [run_of(conversation, ada, turn)]).renew()
        await rounds(leases)
        assert (await conversation.get_turn(ada, turn.turn_id)).state == "running"

    async def test_never_for_long_after_the_deadline(
        self, leases: Leases, conversation: ConversationClient, log: RunLog, turn: Turn, ada: User, sql: Any
    ) -> None:
        await sql.execute("UPDATE turns SET deadline = now() - interval '2 minutes' WHERE id = $1", turn.turn_id)
        await Leases(conversation, log, lambda: [run_of(conversation, ada, turn)]).renew()
        await rounds(leases)
        assert (await conversation.get_turn(ada, turn.turn_id)).state == "interrupted"

    def test_give_several_signs_within_a_lease(self) -> None:
        assert LEASE.total_seconds() >= 3 * RENEW_SECONDS

    def test_are_closed_before_a_repeat_takes_over(self) -> None:
        """Seen after one round, closed with the one after the time to be sure."""
        assert LEFT_TO_CHAT.total_seconds() > 2 * (RENEW_SECONDS + CALL_SECONDS) + SURE_SECONDS
