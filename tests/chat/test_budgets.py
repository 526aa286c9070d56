"""Budgets: never overspent, never a false refusal. On a real Valkey and a real ledger."""

import asyncio
import random
from uuid import UUID

import pytest
from chatbot_chat.budgets import service
from chatbot_chat.budgets.counters import Counters
from chatbot_chat.budgets.service import Budgets
from chatbot_chat.budgets.windows import BudgetUsedUp, windows_of
from chatbot_chat.conversation_client import ConversationClient
from chatbot_chat.providers import Usage
from chatbot_common.identity import ApiKey
from chatbot_common.ids import uuid7
from redis.asyncio import Redis

from tests.chat.budgeting import Clock, api_key, model, request, settings
from tests.support.patience import within


class TestMany:
    """At once, in two replicas."""

    async def test_never_spend_more_than_there_is(
        self, ada: UUID, conversation: ConversationClient, redis: Redis, century: Clock
    ) -> None:
        limits = settings({"tokens_per_day": 1000}, {"cost_per_month": 900})
        replicas = [Budgets(conversation, limits, Counters(redis), century) for _ in range(2)]
        chance = random.Random(1)  # noqa: S311
        priced, spent, refused = model({"input": "1", "output": "1"}), 0, 0

        async def answer(number: int) -> None:
            nonlocal spent, refused
            account = replicas[number % 2].account(ada, uuid7())
            try:
                await account.admit(priced, request(50, 50))
                await asyncio.sleep(chance.random() / 20)
                said = Usage(chance.randrange(51), chance.randrange(51))
                account.count(said, 0)
                spent += said.input_tokens + said.output_tokens
                assert spent <= 900
            except BudgetUsedUp:
                refused += 1
            await account.close()

        await asyncio.gather(*map(answer, range(50)))
        assert refused > 0
        while spent + 100 <= 900:  # what was held and not used is free again
            before = refused
            await answer(0)
            assert refused == before
        await answer(0)
        for replica in replicas:
            await replica.close()
        [window] = windows_of(settings(total={"tokens_per_day": 1}), ada, century())
        [found] = await conversation.usage_sums([(None, window.since.isoformat())])
        assert (found.tokens, found.cost) == (spent, spent)

    async def test_never_spend_more_than_a_key_has(
        self, ada: UUID, conversation: ConversationClient, redis: Redis, century: Clock
    ) -> None:
        """Of two keys and their owner's session, each has its own; what all of them spend counts against the user."""
        limits = settings({"tokens_per_day": 2500}, {"cost_per_month": 10**6}, {"tokens_per_day": 900})
        replicas = [Budgets(conversation, limits, Counters(redis), century) for _ in range(2)]
        chance = random.Random(2)  # noqa: S311
        small, large = api_key(tokens_per_day=500), api_key()
        spent = {key and key.id: 0 for key in (None, small, large)}
        refused = set[str]()

        async def answer(number: int, key: ApiKey | None) -> None:
            account = replicas[number % 2].account(ada, uuid7(), key=key)
            try:
                await account.admit(model(), request(50, 50))
                await asyncio.sleep(chance.random() / 20)
                said = Usage(chance.randrange(30, 51), chance.randrange(30, 51))
                account.count(said, 0)
                spent[key and key.id] += said.input_tokens + said.output_tokens
                assert spent[small.id] <= 500
                assert spent[large.id] <= 900
                assert sum(spent.values()) <= 2500
            except BudgetUsedUp as refusal:
                refused.add(refusal.budget)
            await account.close()

        each = [(number, key) for number in range(25) for key in (small, large, None)]
        await asyncio.gather(*(answer(number, key) for number, key in each))
        while not refused >= {"perKey.tokensPerDay", "perUser.tokensPerDay"}:
            await asyncio.gather(*(answer(number, key) for number, key in enumerate((small, large, None))))
        for replica in replicas:
            await replica.close()
        since = century().replace(hour=0).isoformat()
        found = await conversation.usage_sums([(ada, since), *((ada, since, key.id) for key in (small, large))])
        assert [item.tokens for item in found] == [sum(spent.values()), spent[small.id], spent[large.id]]


class TestHolds:
    @pytest.fixture
    def budgets(self, conversation: ConversationClient, redis: Redis, century: Clock) -> Budgets:
        return Budgets(conversation, settings({"tokens_per_day": 100}), Counters(redis, hold_milliseconds=300), century)

    async def test_end_with_their_process(self, ada: UUID, budgets: Budgets) -> None:
        dead, next_one = budgets.account(ada, uuid7()), budgets.account(ada, uuid7())
        await dead.admit(model(), request(50, 50))
        with pytest.raises(BudgetUsedUp):
            await next_one.admit(model(), request(5, 5))
        async with within(20):
            while True:
                try:
                    return await budgets.account(ada, uuid7()).admit(model(), request(5, 5))
                except BudgetUsedUp:
                    await asyncio.sleep(0.05)

    async def test_are_renewed_and_made_again_where_redis_has_lost_them(
        self, ada: UUID, budgets: Budgets, conversation: ConversationClient, redis: Redis, century: Clock
    ) -> None:
        lasting = Budgets(conversation, settings({"tokens_per_day": 100}), Counters(redis, 60_000), century)
        await lasting.account(ada, uuid7()).admit(model(), request(50, 50))
        await redis.flushdb()
        await lasting.renew()
        with pytest.raises(BudgetUsedUp):
            await budgets.account(ada, uuid7()).admit(model(), request(5, 5))

    async def test_that_were_forgotten_are_not_renewed_for_ever(
        self, ada: UUID, budgets: Budgets, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "LONGEST_HOLD_SECONDS", -1)
        await budgets.account(ada, uuid7()).admit(model(), request(50, 50))
        async with within(20):
            while True:
                await budgets.renew()
                try:
                    return await budgets.account(ada, uuid7()).admit(model(), request(5, 5))
                except BudgetUsedUp:
                    await asyncio.sleep(0.05)

    async def test_are_given_back_by_who_fails(self, ada: UUID, budgets: Budgets) -> None:
        for _ in range(3):
            account = budgets.account(ada, uuid7())
            await account.admit(model(), request(50, 50))
            await account.close()
            assert account.spent is None

    async def test_of_who_leaves_before_the_first_word_cost_the_prompt(self, ada: UUID, budgets: Budgets) -> None:
        account = budgets.account(ada, uuid7())
        await account.admit(model(), request(50, 50))
        account.cut()
        account.count(None, 0)
        assert account.spent is not None
        assert (account.spent.input_tokens, account.spent.output_tokens, account.spent.estimated) == (50, 0, True)
        await account.close()

    async def test_grow_with_a_dearer_fallback_and_with_each_question(
        self, ada: UUID, conversation: ConversationClient, redis: Redis, century: Clock
    ) -> None:
        budgets = Budgets(conversation, settings({"cost_per_day": 1000}), Counters(redis), century)
        account, cheap, dear = (
            budgets.account(ada, uuid7()),
            model({"input": "1", "output": "1"}),
            model({"input": "9", "output": "9"}, name="dear"),
        )
        await account.admit(cheap, request(50, 50))
        await account.admit(dear, request(50, 50))
        account.count(Usage(50, 10), 0)
        assert account.spent is not None
        assert (account.spent.model, account.spent.cost) == ("dear", 540)
        with pytest.raises(BudgetUsedUp) as refused:
            await account.admit(dear, request(50, 50))
        assert refused.value.budget == "perUser.costPerDay"
        await account.admit(cheap, request(50, 50))
        await account.close()
        with pytest.raises(BudgetUsedUp, match=r"0\.00046 EUR are left"):
            await budgets.account(ada, uuid7()).admit(dear, request(50, 50))
        await budgets.close()
