"""A/B variants: who has which, that it stays, and that answers and costs are told with it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from chatbot_chat.settings import Settings, VariantSettings
from chatbot_chat.variants import Choice, Choices, assigned
from chatbot_common.ids import uuid7
from hypothesis import given
from hypothesis import strategies as st

from tests.chat.running import Chat, running
from tests.support.identity import BOT, Keys
from tests.support.model_server import ModelServer
from tests.support.patience import within

USERS = [UUID(int=number) for number in range(4000)]
weights = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 1000), min_size=1)


def sides(given: dict[str, int]) -> dict[UUID, str | None]:
    return {user: assigned(user, given) for user in USERS}


class TestAssigned:
    @pytest.mark.parametrize("given", [{"a": 1, "b": 1}, {"a": 9, "b": 1}, {"a": 5, "b": 3, "c": 2}])
    def test_by_weight(self, given: dict[str, int]) -> None:
        found = Counter(sides(given).values())
        for name, weight in given.items():
            assert found[name] / len(USERS) == pytest.approx(weight / sum(given.values()), abs=0.03)

    @given(weights, st.uuids())
    def test_in_whichever_order_they_are(self, given: dict[str, int], user: UUID) -> None:
        assert assigned(user, given) == assigned(user, dict(reversed(given.items())))

    @given(weights, st.sampled_from("abcdef"), st.integers(1, 1000), st.uuids())
    def test_moves_nobody_between_those_that_stay(
        self, given: dict[str, int], changed: str, weight: int, user: UUID
    ) -> None:
        before, after = assigned(user, given), assigned(user, given | {changed: weight})
        assert before == after or changed in (before, after)

    def test_a_weight_that_changes_a_little_moves_few(self) -> None:
        before, after = sides({"a": 50, "b": 50}), sides({"a": 50, "b": 55})
        assert sum(before[user] != after[user] for user in USERS) / len(USERS) < 0.05

    def test_is_the_same_everywhere(self) -> None:
        """Who was on one side stays there with the next release, too."""
        assert "".join(str(assigned(user, {"a": 1, "b": 1})) for user in USERS[:12]) == "aaabaaaabbba"

    def test_of_none(self) -> None:
        assert assigned(uuid7(), {}) is None


class TestChoices:
    ALONE = VariantSettings(name="short", weight=1, model="small", prompt_files={})
    CHOICES = Choices("main", {"en": "Long", "de": "Lang"}, [(ALONE, {"en": "Short"})])

    def test_what_a_variant_has_not_is_as_without_it(self) -> None:
        assert self.CHOICES.of(uuid7()) == Choice("small", {"en": "Short", "de": "Lang"}, "short")

    def test_who_names_a_model_is_in_no_test(self) -> None:
        assert self.CHOICES.of(uuid7(), "main") == Choice("main", {"en": "Long", "de": "Lang"})

    def test_who_goes_on_stays(self) -> None:
        assert self.CHOICES.again("other", "short") == Choice("other", {"en": "Short", "de": "Lang"}, "short")
        assert self.CHOICES.again("other", "gone") == Choice("other", {"en": "Long", "de": "Lang"}, "gone")


@pytest.fixture
async def tested(keys: Keys, told: dict[str, Any], tmp_path: Path) -> AsyncIterator[Chat]:
    """A chat with two variants, of which one has a model and a prompt of its own."""
    (tmp_path / "en.txt").write_text("Be short.")
    own = {"name": "short", "weight": 1, "model": "echo", "prompt_files": {"en": str(tmp_path / "en.txt")}}
    variants = [{"name": "plain", "weight": 1, "model": None, "prompt_files": {}}, own]
    async with running(keys, Settings.model_validate(told | {"variants": variants})) as service:
        yield service


def on(side: str) -> UUID:
    """A user who has this variant."""
    return next(user for user in iter(uuid7, None) if assigned(user, {"plain": 1, "short": 1}) == side)


async def costs(sql: asyncpg.Connection, user: UUID) -> list[tuple[str, str | None]]:
    rows = await sql.fetch("SELECT model, variant FROM ledger WHERE user_id = $1 ORDER BY entered_at", user)
    return [(row["model"], row["variant"]) for row in rows]


class TestAnswers:
    async def test_are_told_with_their_variant(
        self, tested: Chat, model_server: ModelServer, sql: asyncpg.Connection
    ) -> None:
        ada = on("short")
        started, *_ = await tested.stream(ada, "Hello")
        assert (started["model"], started["variant"]) == ("echo", "short")
        assert model_server.requests[-1][1]["messages"][0]["content"].startswith("Be short.")
        stored = await sql.fetchval("SELECT variant FROM messages WHERE id = $1", UUID(started["message_id"]))
        assert stored == "short"
        assert await costs(sql, ada) == [("echo", "short")]

    async def test_of_the_other_side(self, tested: Chat, sql: asyncpg.Connection) -> None:
        bob = on("plain")
        started, *_ = await tested.stream(bob, "Hello")
        assert (started["model"], started["variant"]) == ("retrieval", "plain")
        assert await costs(sql, bob) == [("retrieval", "plain")]

    async def test_by_a_model_that_was_named_are_in_no_test(self, tested: Chat, sql: asyncpg.Connection) -> None:
        ada = on("short")
        started, *_ = await tested.stream(ada, "Hello", model="retrieval")
        assert started["model"] == "retrieval"
        assert "variant" not in started
        assert await costs(sql, ada) == [("retrieval", None)]

    async def test_of_the_assistant_under_v1(
        self, tested: Chat, model_server: ModelServer, sql: asyncpg.Connection
    ) -> None:
        ada = on("short")
        for model in (BOT, "echo"):
            body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
            response = await tested.client.post("/v1/chat/completions", json=body, headers=tested.keys.bearer(ada))
            assert response.status_code == 200
        assistant, raw = (body["messages"][0]["content"] for _, body in model_server.requests[-2:])
        assert assistant.startswith("Be short.")
        assert raw == "Hello"
        async with within(30):
            while len(found := await costs(sql, ada)) < 2:
                await asyncio.sleep(0.05)
        assert sorted(found, key=str) == [("echo", "short"), ("echo", None)]
