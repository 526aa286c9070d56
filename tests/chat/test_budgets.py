"""Budgets: never overspent, never a false refusal, and everything in the ledger. On a real Valkey and a real ledger."""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from chatbot_chat.budgets import service
from chatbot_chat.budgets.counters import Counters, Hold
from chatbot_chat.budgets.prices import MOST, Spent, cost_of, estimate_of, spent_of
from chatbot_chat.budgets.service import Budgets
from chatbot_chat.budgets.windows import BudgetUsedUp, Excess, money, windows_of
from chatbot_chat.conversation_client import ConversationClient, UsageSum
from chatbot_chat.providers import Message, ModelRequest, ToolCall, ToolSpec, Usage
from chatbot_chat.reach import Reach
from chatbot_chat.settings import BudgetsSettings, ModelSettings
from chatbot_chat.tokens import estimate_json
from chatbot_common.identity import ApiKey
from chatbot_common.ids import uuid7
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from tests.conversation.running import eventually
from tests.support.patience import within

ADA = uuid7()
NOON = datetime(2026, 2, 28, 12, tzinfo=UTC)
NONE = {"tokens_per_day": None, "tokens_per_month": None, "cost_per_day": None, "cost_per_month": None}
MONTHS = itertools.count()
Clock = Callable[[], datetime]


def settings(
    per_user: dict[str, int] | None = None, total: dict[str, int] | None = None, per_key: dict[str, int] | None = None
) -> BudgetsSettings:
    told = {"per_user": NONE | (per_user or {}), "total": NONE | (total or {}), "currency": "EUR"}
    return BudgetsSettings.model_validate(told | ({"per_key": NONE | per_key} if per_key else {}))


def api_key(**budget: int) -> ApiKey:
    return ApiKey(uuid7(), "ci", frozenset(("chat",)), budget)


def model(prices: dict[str, str] | None = None, **fields: Any) -> ModelSettings:
    deployment = {"provider": "p", "model": "m", "weight": 1}
    told = {"name": "m", "deployments": [deployment], "context_window": 1000, "max_output_tokens": 100}
    return ModelSettings.model_validate(told | fields | {"prices": prices})


def request(tokens: int, answer: int) -> ModelRequest:
    """One whose prompt is estimated at so many tokens."""
    return ModelRequest("m", [Message("user", "x" * 4 * (tokens - 4))], "?", max_tokens=answer)


@pytest.fixture
def century() -> Clock:
    """A later month for each test: of it neither the ledger nor Redis has anything."""
    day = datetime(2100, 1, 1, 12, tzinfo=UTC) + timedelta(days=31 * next(MONTHS))
    return lambda: day


@pytest.fixture
def ada() -> UUID:
    return uuid7()


class TestPrices:
    def test_of_a_token_in_millionths(self) -> None:
        assert cost_of(model({"input": "3", "output": "15"}), Usage(1000, 200)) == 6000
        assert cost_of(model(), Usage(1000, 200)) == 0

    @pytest.mark.parametrize(("cached", "cost"), [(0, 6000), (800, 3840), (5000, 3300)])
    def test_of_what_the_provider_had_in_its_cache(self, cached: int, cost: int) -> None:
        prices, usage = {"input": "3", "output": "15"}, Usage(1000, 200, cached_input=cached)
        assert cost_of(model(prices | {"cached_input": "0.3"}), usage) == cost
        assert cost_of(model(prices), usage) == 6000
        assert spent_of(model(prices | {"cached_input": "0.3"}), usage, estimated=False).cost == cost
        assert (usage + usage).cached_input == 2 * cached

    @given(st.decimals(0, 10**6, places=6), st.integers(0, 10**9), st.integers(0, 10**9))
    def test_never_less_than_exactly(self, price: Any, asked: int, said: int) -> None:
        exact = min(price * (asked + said), MOST)
        assert exact <= cost_of(model({"input": str(price), "output": str(price)}), Usage(asked, said)) < exact + 1

    def test_add_up_over_several_questions(self) -> None:
        first = spent_of(model({"input": "1", "output": "1"}), Usage(10, 5), estimated=True)
        both = spent_of(model(name="other"), Usage(1, 2), first, estimated=False)
        assert (both.input_tokens, both.output_tokens, both.cost) == (11, 7, 15)
        assert (both.model, both.estimated) == ("other", True)

    def test_a_picture_is_no_text(self) -> None:
        def asked(url: str) -> int:
            return estimate_json([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])

        assert asked("data:image/png;base64," + "A" * 600_000) == asked("https://example.com/cat.png") < 2000
        assert estimate_json({"type": "object", "description": "A" * 4000}) > 1000

    def test_however_deep(self) -> None:
        told: Any = "word"
        for _ in range(100_000):
            told = {"a": [told]}
        assert estimate_json(told) > 100_000
        assert estimate_json({"half": "\ud83d", "none": None, "type": []}) == 8

    def test_estimated_at_the_most(self) -> None:
        assert estimate_of(request(10, 50)) == Usage(10, 50)

    def test_with_what_goes_back_with_a_call(self) -> None:
        """A client may send any, and is charged for it."""
        call = ToolCall("1", "add", "{}", {"thinking": [{"type": "thinking", "thinking": "x" * 4000, "signature": ""}]})
        asked = replace(request(10, 50), messages=[Message("assistant", "", (call,))])
        assert estimate_of(asked).input_tokens > 1000

    @pytest.mark.parametrize(
        "beside",
        [
            {"format": {"type": "json_schema", "json_schema": {"schema": {"description": "x" * 4000}}}},
            {"format": {"type": "image_url", "image_url": "x" * 40_000}},
            {"asked": {"prediction": "x" * 4000}},
            {"stop": ("x" * 4000,)},
            {"tools": (ToolSpec("add", "x" * 4000, {}),)},
        ],
        ids=lambda beside: next(iter(beside)),
    )
    def test_with_what_is_said_beside_the_messages(self, beside: dict[str, Any]) -> None:
        said = len(str(beside)) // 4
        assert said - 20 < estimate_of(replace(request(10, 50), **beside)).input_tokens < said + 40

    def test_other_alphabets_are_counted_by_their_bytes(self) -> None:
        beside = {"format": {"description": "я" * 400}, "tools": (ToolSpec("add", "я" * 400, {"я": "я" * 400}),)}
        told = estimate_of(replace(request(10, 50), **beside)).input_tokens
        assert 600 < told < 640

    @pytest.mark.parametrize(
        ("micros", "shown"), [(0, "0.00"), (2_500_000, "2.50"), (1, "0.000001"), (10**15, "1" + "0" * 9 + ".00")]
    )
    def test_shown(self, micros: int, shown: str) -> None:
        assert money(micros) == shown


class TestWindows:
    def test_begin_at_midnight_utc(self) -> None:
        told = settings({"tokens_per_day": 1, "cost_per_month": 2}, {"tokens_per_month": 3})
        found = windows_of(told, ADA, NOON)
        assert [window.name for window in found] == [f"user:{ADA}:2026-02-28", f"user:{ADA}:2026-02", "total:2026-02"]
        assert [window.until for window in found] == [datetime(2026, 3, 1, tzinfo=UTC)] * 3

    @given(st.datetimes(datetime(2000, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC)))
    def test_hold_the_moment(self, now: datetime) -> None:
        for window in windows_of(settings({"tokens_per_day": 1, "tokens_per_month": 1}), ADA, now):
            assert window.since <= now < window.until

    def test_who_is_refused_learns_of_the_one_that_renews_last(self) -> None:
        day, month = windows_of(settings({"tokens_per_day": 5, "tokens_per_month": 9}), ADA, NOON - timedelta(days=9))
        refusal = BudgetUsedUp([Excess(day, "tokens", 0, 2), Excess(month, "tokens", 1, 2)], "EUR", day.since)
        assert refusal.budget == "perUser.tokensPerMonth"
        assert refusal.as_json()["renews_at"] == "2026-03-01T00:00:00Z"
        assert refusal.headers == {"Retry-After": str(10 * 86400)}
        assert "Of your 9 tokens a month 1 tokens are left" in str(refusal)
        assert refusal.as_openai()["error"]["code"] == "insufficient_quota"

    def test_who_asks_for_more_than_there_ever_is_need_not_come_back(self) -> None:
        [day] = windows_of(settings({"cost_per_day": 5_000_000}), ADA, NOON)
        refusal = BudgetUsedUp([Excess(day, "cost", 5_000_000, 6_000_000)], "EUR", NOON)
        assert "Retry-After" not in refusal.headers
        assert "Of your 5.00 EUR a day 5.00 EUR are left, and this answer may need 6.00 EUR; ask for" in str(refusal)

    def test_what_others_hold_is_told_only_where_nothing_is_used_up(self) -> None:
        day, month = windows_of(settings({"tokens_per_day": 5, "tokens_per_month": 9}), ADA, NOON - timedelta(days=9))
        used, held = Excess(day, "tokens", 0, 2), Excess(month, "tokens", 1, 2, passing=True)
        both, passing = BudgetUsedUp([used, held], "EUR", NOON), BudgetUsedUp([held], "EUR", NOON)
        assert (both.kind, both.budget) == ("budget-used-up", "perUser.tokensPerDay")
        assert (passing.kind, passing.headers) == ("budget-held", {"Retry-After": "5"})
        assert "Your other answers under way hold what is left of your budget of a month" in str(passing)

    def test_of_a_key_are_the_smaller_of_its_own_and_of_every_keys(self) -> None:
        told = settings({"tokens_per_day": 9}, {"tokens_per_day": 9}, {"tokens_per_day": 5, "cost_per_month": 7})
        key = api_key(tokens_per_day=6, cost_per_month=3, tokens_per_month=8)
        user, day, month, total = windows_of(told, ADA, NOON, key)
        assert (user.name, total.name) == (f"user:{ADA}:2026-02-28", "total:2026-02-28")
        assert (day.name, month.name) == (f"key:{key.id}:2026-02-28", f"key:{key.id}:2026-02")
        assert (day.tokens, day.cost, month.tokens, month.cost) == (5, None, 8, 3)

    def test_of_a_key_alone(self) -> None:
        assert windows_of(None, ADA, NOON) == windows_of(None, ADA, NOON, api_key()) == []
        assert [window.tokens for window in windows_of(None, ADA, NOON, api_key(tokens_per_day=6))] == [6]

    def test_of_a_key_are_told_with_its_name(self) -> None:
        key = api_key(tokens_per_day=6)
        [day] = windows_of(None, ADA, NOON, key)
        used = BudgetUsedUp([Excess(day, "tokens", 1, 2)], "EUR", NOON)
        assert "Of the 6 tokens a day of the API key 'ci' 1 tokens are left" in str(used)
        assert (used.as_json()["budget"], used.as_json()["key_id"]) == ("perKey.tokensPerDay", str(key.id))
        assert used.as_openai()["error"]["code"] == "insufficient_quota"
        held = BudgetUsedUp([Excess(day, "tokens", 1, 2, passing=True)], "EUR", NOON)
        assert "Other answers to the API key 'ci' under way hold what is left of its budget of a day" in str(held)

    def test_what_all_may_spend_is_told_to_nobody(self) -> None:
        [day] = windows_of(settings(total={"tokens_per_day": 12345}), ADA, NOON)
        refusal = BudgetUsedUp([Excess(day, "tokens", 11, 100)], "EUR", NOON)
        assert not any(number in str(refusal) for number in ("12345", "11", "100"))


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
