"""What an answer costs and may cost, and the windows it is counted in."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from chatbot_chat.budgets.prices import MOST, cost_of, estimate_of, spent_of
from chatbot_chat.budgets.windows import BudgetUsedUp, Excess, money, windows_of
from chatbot_chat.providers import Message, ToolCall, ToolSpec, Usage
from chatbot_chat.tokens import estimate_json
from chatbot_common.ids import uuid7
from hypothesis import given
from hypothesis import strategies as st

from tests.chat.budgeting import api_key, model, request, settings

ADA = uuid7()
NOON = datetime(2026, 2, 28, 12, tzinfo=UTC)


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
