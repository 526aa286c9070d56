"""Conversations and history over HTTP, as their owner sees them."""

from uuid import UUID

import asyncpg
import pytest
from chatbot_common.ids import uuid7

from tests.conversation.running import Conversation, eventually, working


class TestList:
    async def test_newest_activity_comes_first(self, service: Conversation, ada: UUID) -> None:
        one, two = await service.exchange(ada, "one", "eins"), await service.exchange(ada, "two", "zwei")
        await service.exchange(ada, "one again", "wieder eins", conversation_id=one["conversation_id"])

        page = (await service.get("/conversations", ada)).json()

        assert [item["id"] for item in page["data"]] == [one["conversation_id"], two["conversation_id"]]
        assert [item["message_count"] for item in page["data"]] == [4, 2]
        last = page["data"][0]["last_message"]
        assert (last["role"], last["text"], last["status"]) == ("assistant", "wieder eins", "completed")
        assert (page["object"], page["has_more"]) == ("list", False)
        assert (page["first_id"], page["last_id"]) == (one["conversation_id"], two["conversation_id"])

    async def test_pages_go_on_and_back(self, service: Conversation, ada: UUID) -> None:
        ids = [(await service.send("POST", "/conversations", ada, {})).json()["id"] for _ in range(5)][::-1]

        first = (await service.get("/conversations", ada, limit=2)).json()
        second = (await service.get("/conversations", ada, limit=2, after=first["last_id"])).json()
        third = (await service.get("/conversations", ada, limit=2, after=second["last_id"])).json()
        back = (await service.get("/conversations", ada, limit=2, before=third["first_id"])).json()

        assert [item["id"] for page in (first, second, third) for item in page["data"]] == ids
        assert [page["has_more"] for page in (first, second, third)] == [True, True, False]
        assert back["data"] == second["data"]
        assert back["has_more"] is True

    async def test_archived_ones_are_listed_apart(self, service: Conversation, ada: UUID) -> None:
        kept = (await service.send("POST", "/conversations", ada, {})).json()["id"]
        gone = (await service.send("POST", "/conversations", ada, {})).json()["id"]
        await service.send("PATCH", f"/conversations/{gone}", ada, {"archived": True})

        active = (await service.get("/conversations", ada)).json()
        archived = (await service.get("/conversations", ada, archived="true")).json()

        assert [item["id"] for item in active["data"]] == [kept]
        assert [item["id"] for item in archived["data"]] == [gone]

    async def test_others_are_not_in_it(self, service: Conversation, ada: UUID, bob: UUID) -> None:
        theirs = await service.exchange(bob, "secret", "reply")

        own = (await service.get("/conversations", ada)).json()
        with_their_cursor = (await service.get("/conversations", ada, after=theirs["conversation_id"])).json()

        assert own == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
        assert with_their_cursor["data"] == []

    @pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 201}, {"after": "x"}, {"page": 2}])
    async def test_wrong_window_is_refused(self, service: Conversation, ada: UUID, wrong: dict[str, object]) -> None:
        assert (await service.get("/conversations", ada, **wrong)).status_code == 422


class TestCreate:
    async def test_with_title_and_tags(self, service: Conversation, ada: UUID) -> None:
        response = await service.send("POST", "/conversations", ada, {"title": "Plans", "tags": ["work", "work", "x"]})

        assert response.status_code == 201
        body = response.json()
        assert (body["title"], body["tags"], body["archived"]) == ("Plans", ["work", "x"], False)
        assert (body["message_count"], body["last_message"]) == (0, None)
        turn = await service.started(ada, "hello", conversation_id=body["id"])
        assert turn["conversation_id"] == body["id"]

    @pytest.mark.parametrize(
        "wrong", [{"title": ""}, {"title": "x" * 201}, {"tags": [""]}, {"colour": "red"}, {"title": 5}, []]
    )
    async def test_wrong_body_is_refused(self, service: Conversation, ada: UUID, wrong: object) -> None:
        assert (await service.send("POST", "/conversations", ada, wrong)).status_code == 422

    async def test_anonymous_may_not(self, service: Conversation) -> None:
        assert (await service.client.post("/api/v1/conversations", json={})).status_code == 401


class TestChange:
    @pytest.mark.parametrize("method", ["PATCH", "PUT"])
    async def test_only_what_is_sent_changes(self, service: Conversation, ada: UUID, method: str) -> None:
        body = (await service.send("POST", "/conversations", ada, {"title": "Old", "tags": ["a"]})).json()

        renamed = await service.send(method, f"/conversations/{body['id']}", ada, {"title": "New"})
        archived = await service.send(method, f"/conversations/{body['id']}", ada, {"archived": True, "tags": []})

        assert (renamed.json()["title"], renamed.json()["tags"]) == ("New", ["a"])
        assert (archived.json()["title"], archived.json()["archived"], archived.json()["tags"]) == ("New", True, [])

    async def test_its_model_stays_until_it_is_taken_away(self, service: Conversation, ada: UUID) -> None:
        body = (await service.send("POST", "/conversations", ada, {"model": "small"})).json()
        path = f"/conversations/{body['id']}"
        plain = (await service.send("POST", "/conversations", ada, {})).json()

        renamed = (await service.send("PATCH", path, ada, {"title": "New", "tags": None})).json()
        told = await service.started(ada, "one", conversation_id=body["id"])
        changed = (await service.send("PATCH", path, ada, {"model": "large"})).json()
        told_then = await service.started(ada, "two", conversation_id=body["id"])
        taken = (await service.send("PATCH", path, ada, {"model": None})).json()
        told_last = await service.started(ada, "three", conversation_id=body["id"])

        assert [found["model"] for found in (body, plain, renamed, changed, taken)] == [
            "small",
            None,
            "small",
            "large",
            None,
        ]
        assert [turn["model"] for turn in (told, told_then, told_last)] == ["small", "large", None]
        for wrong in ("", "x" * 129, 5):
            assert (await service.send("PATCH", path, ada, {"model": wrong})).status_code == 422

    async def test_someone_elses_is_not_found(self, service: Conversation, ada: UUID, bob: UUID) -> None:
        theirs = (await service.send("POST", "/conversations", bob, {"title": "Mine"})).json()["id"]

        for method, body in (("GET", None), ("PATCH", {"title": "x"}), ("PUT", {}), ("DELETE", None)):
            assert (await service.send(method, f"/conversations/{theirs}", ada, body)).status_code == 404
        assert (await service.get(f"/conversations/{theirs}/messages", ada)).status_code == 404
        assert (await service.get(f"/conversations/{theirs}", bob)).json()["title"] == "Mine"


class TestDelete:
    async def test_takes_messages_turns_and_vectors_along(
        self, service: Conversation, ada: UUID, sql: asyncpg.Connection
    ) -> None:
        turn = await service.exchange(ada, "Where is the harbour?", "By the sea.")
        vectors = "SELECT count(*) FROM vectors_messages_384 WHERE tenant = $1"
        async with working(service.settings):
            await eventually(lambda: sql.fetchval("SELECT to_regclass('vectors_messages_384') IS NOT NULL"))
            await eventually(lambda: sql.fetchval(f"SELECT ({vectors}) = 2", ada))

            response = await service.send("DELETE", f"/conversations/{turn['conversation_id']}", ada)

            assert response.status_code == 204
            assert (await service.get(f"/conversations/{turn['conversation_id']}", ada)).status_code == 404
            assert await sql.fetchval("SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM turns)") == 0
            await eventually(lambda: sql.fetchval(f"SELECT ({vectors}) = 0", ada))

    async def test_twice_is_not_found(self, service: Conversation, ada: UUID) -> None:
        body = (await service.send("POST", "/conversations", ada, {})).json()

        assert (await service.send("DELETE", f"/conversations/{body['id']}", ada)).status_code == 204
        assert (await service.send("DELETE", f"/conversations/{body['id']}", ada)).status_code == 404


class TestMessages:
    async def test_oldest_first_unless_asked(self, service: Conversation, ada: UUID) -> None:
        turn = await service.exchange(ada, "one", "eins")
        await service.exchange(ada, "two", "zwei", conversation_id=turn["conversation_id"])
        path = f"/conversations/{turn['conversation_id']}/messages"

        ascending = (await service.get(path, ada)).json()
        newest = (await service.get(path, ada, order="desc", limit=3)).json()
        older = (await service.get(path, ada, order="desc", after=newest["last_id"])).json()

        assert [message["text"] for message in ascending["data"]] == ["one", "eins", "two", "zwei"]
        assert [message["text"] for message in newest["data"]] == ["zwei", "two", "eins"]
        assert newest["has_more"] is True
        assert [message["text"] for message in older["data"]] == ["one"]

    async def test_unknown_conversation_is_not_found(self, service: Conversation, ada: UUID) -> None:
        assert (await service.get(f"/conversations/{uuid7()}/messages", ada)).status_code == 404


class TestHistory:
    async def test_newest_of_all_own_conversations(self, service: Conversation, ada: UUID, bob: UUID) -> None:
        await service.exchange(ada, "one", "eins")
        await service.exchange(bob, "secret", "geheim")
        await service.exchange(ada, "two", "zwei")

        page = (await service.get("/history", ada, limit=3)).json()

        assert [message["text"] for message in page["data"]] == ["zwei", "two", "eins"]
        assert page["has_more"] is True
