"""What was spent reaches the ledger once, and counts once, whoever dies. On a real Valkey and a real ledger."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from chatbot_chat.budgets import service
from chatbot_chat.budgets.counters import Counters, Hold
from chatbot_chat.budgets.prices import Spent, spent_of
from chatbot_chat.budgets.service import Budgets
from chatbot_chat.budgets.windows import BudgetUsedUp, windows_of
from chatbot_chat.conversation_client import ConversationClient, UsageSum
from chatbot_chat.providers import Usage
from chatbot_chat.reach import Reach
from chatbot_chat.settings import BudgetsSettings
from chatbot_common.ids import uuid7
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from tests.chat.budgeting import Clock, api_key, model, request, settings
from tests.conversation.running import eventually
from tests.support.patience import within


async def left(budgets: Budgets, user_id: UUID, tokens: int) -> bool:
    """Whether so many tokens are left, by what somebody is told who asks for too many."""
    with pytest.raises(BudgetUsedUp) as refused:
        await budgets.account(user_id, uuid7()).admit(model(), request(5000, 50))
    return f"{tokens} tokens are left" in str(refused.value)


class TestLoading:
    """Whatever comes first: the ledger, Redis, or somebody who loads a window from the one into the other."""

    @pytest.mark.parametrize("counted_first", [True, False])
    @pytest.mark.parametrize("in_the_ledger", [True, False])
    async def test_counts_an_answer_once(
        self, redis: Redis, century: Clock, counted_first: bool, in_the_ledger: bool
    ) -> None:
        counters, name = Counters(redis), f"{uuid7()}:1"
        windows = windows_of(settings({"tokens_per_day": 100}), uuid7(), century())
        tokens, recent = (50, [name]) if in_the_ledger else (10, [])
        await counters.renew([(Hold(name, 90, 0), windows)])
        if counted_first:
            await counters.settle(Hold(name, 40, 0), windows)
        await counters.load(windows[0], tokens, 0, recent)
        if not counted_first:
            await counters.settle(Hold(name, 40, 0), windows)
        await counters.load(windows[0], 99, 0, [])
        assert await counters.reserve(Hold("next", 50, 0), windows) == ([], [])
        _, [excess] = await counters.reserve(Hold("after", 1, 0), windows)
        assert excess.left == 0

    @pytest.mark.parametrize("limits", [None, settings({"tokens_per_day": 10_000})])
    async def test_of_a_key_after_redis_has_lost_everything(
        self,
        ada: UUID,
        conversation: ConversationClient,
        redis: Redis,
        century: Clock,
        limits: BudgetsSettings | None,
    ) -> None:
        key, other = api_key(tokens_per_day=300), api_key(tokens_per_day=300)
        budgets = Budgets(conversation, limits, Counters(redis), century)
        for by in (key, other, None):
            account = budgets.account(ada, uuid7(), key=by)
            await account.admit(model(), request(100, 100))
            account.count(Usage(120, 80), 0)
            await account.close()
        await budgets.ledger.flush()
        await redis.flushdb()
        with pytest.raises(BudgetUsedUp, match="'ci' 100 tokens are left"):
            await budgets.account(ada, uuid7(), key=key).admit(model(), request(100, 100))
        await budgets.account(ada, uuid7(), key=key).admit(model(), request(50, 50))
        await budgets.account(ada, uuid7()).admit(model(), request(100, 100))
        assert [
            await redis.hget(f"chat:budgets:key:{it.id}:{century():%Y-%m-%d}", "tokens") for it in (key, other)
        ] == [
            b"200",
            None,
        ]

    async def test_after_redis_has_lost_everything(
        self, ada: UUID, conversation: ConversationClient, redis: Redis, century: Clock
    ) -> None:
        budgets = Budgets(conversation, settings(total={"tokens_per_month": 100}), Counters(redis), century)
        account = budgets.account(ada, uuid7())
        await account.admit(model(), request(50, 50))
        account.count(Usage(60, 20), 0)
        await account.close()
        await redis.flushdb()
        with pytest.raises(BudgetUsedUp) as refused:
            await budgets.account(uuid7(), uuid7()).admit(model(), request(10, 11))
        assert refused.value.budget == "total.tokensPerMonth"
        await budgets.account(uuid7(), uuid7()).admit(model(), request(10, 10))

    @pytest.mark.parametrize("thaws", [True, False])
    async def test_what_a_process_entered_before_it_died_or_froze_counts_once(
        self, ada: UUID, conversation: ConversationClient, redis: Redis, century: Clock, thaws: bool
    ) -> None:
        limits = settings({"tokens_per_day": 1000})
        frozen = Budgets(conversation, limits, Counters(redis, hold_milliseconds=300), century)
        account = frozen.account(ada, uuid7())
        await account.admit(model(), request(50, 50))
        account.count(Usage(60, 20), 0)
        assert account.spent
        frozen.enter(ada, account.run_id, 1, account.spent)
        account.entered = True
        await frozen.ledger.flush()
        living = Budgets(conversation, limits, Counters(redis), century)
        await eventually(lambda: left(living, ada, 920))
        if thaws:
            await redis.hdel(f"chat:budgets:user:{ada}:{century():%Y-%m-%d}", account.name)  # as a while later
            await account.close()
            await frozen.renew()
        assert await left(living, ada, 920)

    @pytest.mark.parametrize(("end", "tokens"), [("dies", 60), ("ends", 70), ("thaws", 70)])
    async def test_what_a_process_has_heard_counts_also_when_it_dies(
        self, ada: UUID, conversation: ConversationClient, redis: Redis, century: Clock, end: str, tokens: int
    ) -> None:
        limits = settings({"tokens_per_day": 1000})
        here, there = (Budgets(conversation, limits, Counters(redis, hold_milliseconds=300), century) for _ in "12")
        account, run = here.account(ada, uuid7()), here.account(ada, uuid7(), logged=True)  # whose log tells
        for item in (account, run):
            await item.admit(model(), request(50, 50))
            item.hears(lambda: 40)
        await here.renew()
        await there.renew()
        assert not there.ledger.waiting  # it lives

        async def entered() -> bool:
            await there.renew()
            return await left(there, ada, 940)

        if end != "ends":
            await eventually(entered)
        if end != "dies":
            account.count(Usage(50, 20), 40)
            await account.close()
            await here.ledger.flush()
            await here.renew()
        await asyncio.sleep(0.4)
        await there.renew()
        assert await left(there, ada, 1000 - tokens)
        [found] = await conversation.usage_sums([(ada, windows_of(limits, ada, century())[0].since.isoformat())])
        assert found.tokens == tokens

    async def test_who_ends_takes_back_what_it_had_told(
        self, ada: UUID, conversation: ConversationClient, redis: Redis, century: Clock
    ) -> None:
        """Else others would enter it as a dead process's after each rollout."""
        here = Budgets(conversation, settings({"tokens_per_day": 1000}), Counters(redis), century)
        account = here.account(ada, uuid7())
        await account.admit(model(), request(50, 50))
        account.hears(lambda: 40)
        await here.renew()
        assert account.name.encode() in await redis.hkeys("chat:budgets:under-way")
        account.count(Usage(50, 20), 40)
        await account.close()
        await here.close()
        assert account.name.encode() not in await redis.hkeys("chat:budgets:under-way")

    async def test_what_several_processes_have_ended_counts_once(
        self, ada: UUID, conversation: ConversationClient, redis: Redis, century: Clock
    ) -> None:
        replicas = [Budgets(conversation, settings({"tokens_per_day": 1000}), Counters(redis), century) for _ in "123"]
        account = replicas[0].account(ada, uuid7())
        await account.admit(model(), request(50, 50))
        account.count(Usage(60, 20), 0)
        for replica in replicas[1:]:  # by its words; the one that thaws knows better
            words = spent_of(model(), Usage(0, 19), estimated=True)
            replica.enter(ada, account.run_id, 1, words)
            await replica.ledger.flush()
            await replica.settle(ada, account.name, words, disputed=True)
        await account.close(disputed=True)
        for replica in replicas:
            await replica.ledger.flush()
            await replica.renew()
        assert await left(replicas[1], ada, 920)

    async def test_that_takes_long_goes_on_while_questions_pass(
        self, ada: UUID, conversation: ConversationClient, redis: Redis, century: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Slow(ConversationClient):
            asked, ready = 0, asyncio.Event()

            async def usage_sums(self, windows: Iterable[tuple[UUID | None, str]]) -> list[UsageSum]:
                self.asked += 1
                await self.ready.wait()
                return await super().usage_sums(windows)

        monkeypatch.setattr(service, "LOAD_SECONDS", 0)
        monkeypatch.setattr(service, "LONGEST_LOAD_SECONDS", 60)
        slow = Slow(conversation._client)
        budgets = Budgets(slow, settings({"tokens_per_day": 100}), Counters(redis), century)
        for _ in range(3):
            await budgets.account(ada, uuid7()).admit(model(), request(60, 50))
        slow.ready.set()
        await asyncio.wait(budgets._tasks)
        with pytest.raises(BudgetUsedUp):
            await budgets.account(ada, uuid7()).admit(model(), request(60, 50))
        assert slow.asked == 1

    async def test_what_was_spent_without_redis_counts_once_it_is_back(
        self, ada: UUID, conversation: ConversationClient, redis: Redis, century: Clock
    ) -> None:
        limits = settings({"tokens_per_day": 100})
        async with Redis.from_url("redis://127.0.0.1:1") as nowhere:
            away = Budgets(conversation, limits, Counters(nowhere), century)
            back = Budgets(conversation, limits, Counters(redis), century)
            await back.account(ada, uuid7()).admit(model(), request(5, 5))
            account = away.account(ada, uuid7())
            await account.admit(model(), request(5000, 5000))
            account.count(Usage(60, 20), 0)
            await account.close()
            await away.ledger.flush()
            away._counters, away._reach, away._ledger_away_until = Counters(redis), Reach(redis.ping), 0
            await away.renew()
        with pytest.raises(BudgetUsedUp, match="10 tokens are left"):
            await back.account(ada, uuid7()).admit(model(), request(10, 11))


class TestLedger:
    async def test_one_entry_that_is_refused_keeps_no_other_waiting(
        self, ada: UUID, conversation: ConversationClient, century: Clock
    ) -> None:
        budgets = Budgets(conversation, now=century)
        for tokens in (1, 2, -1, 4, 8):
            budgets.enter(ada, uuid7(), 1, Spent("m", tokens, 0, 0, False))
        lost = REGISTRY.get_sample_value("chat_ledger_lost_total") or 0
        async with within(20):
            await budgets.ledger.flush()
        assert REGISTRY.get_sample_value("chat_ledger_lost_total") == lost + 1
        [found] = await conversation.usage_sums([(ada, (century() - timedelta(hours=1)).isoformat())])
        assert found.tokens == 15
        await budgets.close()

    async def test_what_waits_is_sent_once_conversation_is_back(
        self, ada: UUID, conversation: ConversationClient, century: Clock
    ) -> None:
        class Away(ConversationClient):
            async def enter_usage(self, entries: list[dict[str, Any]]) -> None:
                raise TimeoutError

        budgets = Budgets(Away(conversation._client), now=century)
        account = budgets.account(ada, uuid7())
        await account.admit(model(), request(5, 5))
        account.count(None, 41)
        await account.close()
        with pytest.raises(TimeoutError):
            await budgets.ledger.flush()
        budgets.ledger._conversation = conversation
        await budgets.close()
        [found] = await conversation.usage_sums([(ada, (century() - timedelta(hours=1)).isoformat())])
        assert found.tokens == 5 + 11
        assert found.recent == [account.name]
