"""Knowledge over HTTP: seeds on disk become FAQs, passages and search hits."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from chatbot_common.ids import uuid7
from chatbot_conversation.settings import Settings, VectorSettings

from tests.conversation.running import Conversation, eventually, make_settings, running, working
from tests.support.identity import Keys
from tests.support.weaviate import KEY, Weaviate

FAQS = """
- question: How do I reset my password?
  answer: Open Settings, choose Security and press Reset. A link arrives by e-mail.
  category: Account
  priority: 5
- question: What are your opening hours?
  answer: We are open Monday to Friday from nine to five.
  category: Visiting
  keywords: [hours, times]
  priority: 10
- question: Can I get a refund?
  answer: Within thirty days of purchase we return the full price.
  category: Payment
  slug: refund
- question: Do you ship abroad?
  answer: We ship to all countries of the European Union.
  category: Payment
"""
INDEXED_IN = "SELECT count(*) = 4 AND bool_and(split_part(indexed_as, ':', 2) LIKE $1) FROM faqs"
GUIDE = """# Lighthouse guide

The lighthouse was built in 1893 and is 42 metres tall.

## Tickets

A ticket for the tower costs six euros; children climb for free.
"""


@pytest.fixture
def faq_file(tmp_path: Path) -> Path:
    path = tmp_path / "faqs.yaml"
    path.write_text(FAQS)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "documents"
    (path / "guides").mkdir(parents=True)
    (path / "guides" / "lighthouse.md").write_text(GUIDE)
    (path / ".hidden.md").write_text("# Hidden")
    (path / "notes.txt").write_text("not Markdown")
    return path


@pytest.fixture
def settings(keys: Keys, auth_url: str, database_url: str, faq_file: Path, folder: Path) -> Settings:
    return make_settings(keys, auth_url, database_url, faq_file=str(faq_file), documents_dir=str(folder))


def change(path: Path, content: str | None) -> None:
    """Rewrite a seed, or remove it (None)."""
    if content is None:
        path.unlink()
    else:
        path.write_text(content)


async def indexed(sql: asyncpg.Connection, faqs: int, documents: int) -> None:
    """Wait until this many are there and all of them indexed as they stand."""
    done = """
        SELECT (SELECT array_agg(indexed_as LIKE '%:' || content_hash) FROM {0}), (SELECT count(*) FROM {0})
    """

    async def ready() -> bool:
        for table, count in (("faqs", faqs), ("documents", documents)):
            states, found = await sql.fetchrow(done.format(table))
            if found != count or not all(states or []):
                return False
        return True

    await eventually(ready)


@pytest.fixture
async def seeded(keys: Keys, settings: Settings, sql: asyncpg.Connection) -> AsyncIterator[Conversation]:
    """A service whose knowledge has been indexed by a worker that has gone again."""
    async with working(settings):
        await indexed(sql, faqs=4, documents=1)
    async with running(keys, settings) as service:
        yield service


async def search(service: Conversation, user: UUID, query: str, **body: Any) -> dict[str, Any]:
    response = await service.send("POST", "/knowledge/search", user, {"query": query} | body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


class TestSearch:
    async def test_finds_what_is_meant(self, seeded: Conversation, ada: UUID) -> None:
        found = await search(seeded, ada, "I forgot my password")

        best = found["passages"][0]
        assert set(best) == {"id", "kind", "title", "text", "keywords", "url", "score"}
        assert (best["kind"], best["title"]) == ("faq", "How do I reset my password?")
        assert best["text"].startswith("Open Settings")
        assert 0.45 <= best["score"] <= 1
        scores = [passage["score"] for passage in found["passages"]]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)

    async def test_finds_documents(self, seeded: Conversation, ada: UUID) -> None:
        [best] = (await search(seeded, ada, "What does it cost to climb the tower?", limit=1))["passages"]

        assert (best["kind"], best["title"], best["url"]) == ("document", "Lighthouse guide", None)
        assert "six euros" in best["text"]

    async def test_says_what_there_is(self, seeded: Conversation, ada: UUID) -> None:
        found = await search(seeded, ada, "hello", limit=1)

        assert found["topics"] == ["Visiting", "Account", "Payment", "Lighthouse guide"]
        assert found["questions"][:2] == ["What are your opening hours?", "How do I reset my password?"]
        assert len(found["questions"]) == 3

    async def test_documents_alone_offer_questions_too(
        self, keys: Keys, auth_url: str, database_url: str, folder: Path, sql: asyncpg.Connection, ada: UUID
    ) -> None:
        settings = make_settings(keys, auth_url, database_url, documents_dir=str(folder))
        async with working(settings):
            await indexed(sql, faqs=0, documents=1)
        async with running(keys, settings) as service:
            assert (await search(service, ada, "hello"))["questions"] == ["What does Lighthouse guide say?"]

    @pytest.mark.parametrize("wrong", [{"query": ""}, {"query": "x", "limit": 0}, {"query": "x", "limit": 1.5}, {}])
    async def test_wrong_body_is_refused(self, service: Conversation, ada: UUID, wrong: dict[str, object]) -> None:
        assert (await service.send("POST", "/knowledge/search", ada, wrong)).status_code == 422

    async def test_anonymous_may_not(self, service: Conversation) -> None:
        assert (await service.client.post("/api/v1/knowledge/search", json={"query": "x"})).status_code == 401

    async def test_without_a_model_it_is_unavailable_but_turns_go_on(
        self, keys: Keys, auth_url: str, database_url: str, ada: UUID
    ) -> None:
        model = {"type": "OpenAICompatible", "base_url": "http://127.0.0.1:1/v1", "model": "m", "dimensions": 16}
        settings = make_settings(keys, auth_url, database_url, embeddings=model)

        async with running(keys, settings) as service:
            response = await service.send("POST", "/knowledge/search", ada, {"query": "x"})
            turn = await service.started(ada)

        assert response.status_code == 503
        assert turn["knowledge"]["passages"] == []

    async def test_more_dimensions_than_can_be_indexed(self, keys: Keys, auth_url: str, database_url: str) -> None:
        model = {"type": "OpenAICompatible", "base_url": "http://127.0.0.1:1/v1", "model": "m", "dimensions": 3072}
        async with running(keys, make_settings(keys, auth_url, database_url, embeddings=model)) as service:
            health = (await service.client.get("/health")).json()

        assert health["checks"]["vectors"] == "ok"


class TestTurnKnowledge:
    async def test_a_started_turn_brings_passages(self, seeded: Conversation, ada: UUID) -> None:
        turn = await seeded.started(ada, "When are you open?")

        assert turn["knowledge"]["passages"][0]["title"] == "What are your opening hours?"
        assert len(turn["knowledge"]["questions"]) == 3


class TestFaqs:
    async def test_most_important_first_in_pages(self, seeded: Conversation, ada: UUID) -> None:
        first = (await seeded.get("/faqs", ada, limit=2)).json()
        rest = (await seeded.get("/faqs", ada, after=first["last_id"])).json()

        assert [faq["priority"] for faq in first["data"]] == [10, 5]
        assert first["has_more"] is True
        assert {faq["slug"] for faq in rest["data"]} == {"refund", "do-you-ship-abroad"}
        assert first["data"][0]["keywords"] == ["hours", "times"]

    async def test_of_one_category(self, seeded: Conversation, ada: UUID) -> None:
        page = (await seeded.get("/faqs", ada, category="Account")).json()

        assert [faq["slug"] for faq in page["data"]] == ["how-do-i-reset-my-password"]

    @pytest.mark.parametrize("name", ["category", "after", "before", "limit"])
    async def test_a_query_with_nul_is_refused(self, service: Conversation, ada: UUID, name: str) -> None:
        assert (await service.get("/faqs", ada, **{name: "a\x00"})).status_code == 422

    async def test_one(self, seeded: Conversation, ada: UUID, sql: asyncpg.Connection) -> None:
        faq = (await seeded.get("/faqs", ada)).json()["data"][0]

        assert (await seeded.get(f"/faqs/{faq['id']}", ada)).json() == faq
        assert (await seeded.get(f"/faqs/{uuid7()}", ada)).status_code == 404
        await sql.execute("UPDATE faqs SET status = 'draft' WHERE id = $1", UUID(faq["id"]))
        assert (await seeded.get(f"/faqs/{faq['id']}", ada)).status_code == 404


class TestSync:
    async def test_unchanged_seeds_cost_nothing(self, settings: Settings, sql: asyncpg.Connection) -> None:
        async with working(settings):
            await indexed(sql, faqs=4, documents=1)
        jobs = "SELECT count(*) FROM pgqueuer_log"
        rows = "SELECT array_agg((id, updated_at, xmin)) FROM faqs"
        before = await sql.fetchval(jobs), await sql.fetchval(rows)

        async with working(settings) as worker:
            await eventually(lambda: _ready(worker))

        assert (await sql.fetchval(jobs), await sql.fetchval(rows)) == before

    async def test_changes_and_removals_are_followed_while_it_runs(
        self, service: Conversation, ada: UUID, sql: asyncpg.Connection, faq_file: Path, folder: Path
    ) -> None:
        async with working(service.settings):
            await indexed(sql, faqs=4, documents=1)
            refund = await sql.fetchval("SELECT id FROM faqs WHERE slug = 'refund'")
            kept = FAQS.replace("Within thirty days", "Within ninety days").split("- question: Do you ship")[0]
            change(faq_file, kept)
            change(folder / "guides" / "lighthouse.md", None)
            change(folder / "harbour_map.md", "The ferry leaves the harbour at noon.")

            await eventually(lambda: sql.fetchval("SELECT count(*) = 3 FROM faqs"))
            await indexed(sql, faqs=3, documents=1)
            vectors = "SELECT count(*) = 4 FROM vectors_knowledge_384"
            await eventually(lambda: sql.fetchval(vectors))

        assert await sql.fetchval("SELECT id FROM faqs WHERE answer LIKE 'Within ninety%'") == refund
        best = (await search(service, ada, "When does the ferry leave?"))["passages"][0]
        assert (best["title"], best["text"]) == ("Harbour map", "The ferry leaves the harbour at noon.")

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("- question: [", "faqs.yaml: line 1, column 14 is not valid YAML"),
            ("faqs: []", "must be a list of entries"),
            ("[1]", "entry 1 must be a mapping with question and answer"),
            ("- question: Why?\n", "entry 1 answer Field required"),
            ("- {question: Why, answer: So, colour: red}", "entry 1 colour Extra inputs are not permitted"),
            ("- {question: Why, answer: So}\n- {question: why, answer: So}", "more than one entry has the slug why"),
        ],
    )
    async def test_bad_file_is_named_and_keeps_what_is_there(
        self,
        settings: Settings,
        sql: asyncpg.Connection,
        faq_file: Path,
        content: str,
        reason: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        async with working(settings):
            await indexed(sql, faqs=4, documents=1)
        change(faq_file, content)

        async with working(settings) as worker:

            async def refused() -> bool:
                return (await worker.probes.run())["faq_file"] == "BadFaqFile"

            await eventually(refused)
            assert reason in capsys.readouterr().out
            assert await sql.fetchval("SELECT count(*) FROM faqs") == 4

            change(faq_file, FAQS)
            await eventually(lambda: _ready(worker))

    async def test_a_link_out_of_the_folder_is_not_followed(
        self, settings: Settings, sql: asyncpg.Connection, folder: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "private.md").write_text("# Private")
        (folder / "link.md").symlink_to(tmp_path / "private.md")
        (folder / "broken.md").write_bytes(b"\xff\xfe")

        async with working(settings):
            await indexed(sql, faqs=4, documents=1)

        assert await sql.fetchval("SELECT path FROM documents") == "guides/lighthouse.md"


class TestInWeaviate:
    @pytest.fixture
    def settings(
        self, keys: Keys, auth_url: str, database_url: str, faq_file: Path, folder: Path, weaviate: Weaviate
    ) -> Settings:
        return make_settings(
            keys,
            auth_url,
            database_url,
            faq_file=str(faq_file),
            documents_dir=str(folder),
            vectors={"type": "Weaviate", "url": weaviate.url, "grpc_port": weaviate.grpc_port},
            weaviate_key=KEY,
        )

    async def test_finds_what_is_meant_and_follows_removals(
        self, seeded: Conversation, ada: UUID, sql: asyncpg.Connection, folder: Path
    ) -> None:
        assert (await search(seeded, ada, "I forgot my password"))["passages"][0][
            "title"
        ] == "How do I reset my password?"
        change(folder / "guides" / "lighthouse.md", None)
        async with working(seeded.settings):
            await indexed(sql, faqs=4, documents=0)
            await eventually(lambda: sql.fetchval("SELECT count(*) = 0 FROM pgqueuer"))

        assert {passage["kind"] for passage in (await search(seeded, ada, "lighthouse tower"))["passages"]} == {"faq"}

    async def test_lost_vectors_are_made_again(self, seeded: Conversation, ada: UUID, weaviate: Weaviate) -> None:
        async with working(seeded.settings) as worker:
            await eventually(lambda: _ready(worker))
            weaviate.lose_data()
            await eventually(lambda: _says(worker, "vectors", "Unavailable"))
            turn = await seeded.started(ada, "When are you open?")
            assert turn["knowledge"]["passages"] == []
            assert len((await seeded.get("/faqs", ada)).json()["data"]) == 4
            assert (await seeded.client.get("/health")).json()["checks"]["vectors"] == "Unavailable"
            weaviate.start()

            async def found_again() -> bool:
                response = await seeded.send("POST", "/knowledge/search", ada, {"query": "climb the tower"})
                return response.status_code == 200 and len(response.json()["passages"]) == 5

            await eventually(found_again)
            await eventually(lambda: _ready(worker))

    async def test_vectors_lost_unnoticed_are_made_again(
        self, seeded: Conversation, ada: UUID, weaviate: Weaviate
    ) -> None:
        """As after a restart on a new volume between two looks, or while no worker ran."""
        weaviate.lose_data()
        weaviate.start()
        async with working(seeded.settings):

            async def found_again() -> bool:
                response = await seeded.send("POST", "/knowledge/search", ada, {"query": "climb the tower"})
                return response.status_code == 200 and len(response.json()["passages"]) == 5

            await eventually(found_again)

    async def test_what_was_in_another_store_is_indexed_again(
        self, keys: Keys, settings: Settings, sql: asyncpg.Connection, ada: UUID
    ) -> None:
        before = settings.model_copy(update={"vectors": VectorSettings(type="PGVector", url=None)})
        for told, generation in ((before, "pgvector-%"), (settings, "0%"), (before, "pgvector-%")):
            async with working(told):
                await eventually(partial(sql.fetchval, INDEXED_IN, generation))
            async with running(keys, told) as service:
                [best] = (await search(service, ada, "I forgot my password", limit=1))["passages"]
            assert best["title"] == "How do I reset my password?"

    async def test_without_it_faqs_can_be_read_and_are_indexed_later(
        self, keys: Keys, settings: Settings, sql: asyncpg.Connection, ada: UUID, weaviate: Weaviate
    ) -> None:
        weaviate.stop()
        async with working(settings) as worker, running(keys, settings) as service:
            await eventually(lambda: sql.fetchval("SELECT count(*) = 4 FROM faqs"))
            assert len((await service.get("/faqs", ada)).json()["data"]) == 4
            assert await sql.fetchval("SELECT count(*) FROM pgqueuer WHERE entrypoint = 'index_faq'") == 0
            assert (await service.send("POST", "/knowledge/search", ada, {"query": "x"})).status_code == 503
            weaviate.start()
            await indexed(sql, faqs=4, documents=1)
            await eventually(lambda: _ready(worker))


async def _ready(worker: Any) -> bool:
    return set((await worker.probes.run()).values()) == {"ok"}


async def _says(worker: Any, check: str, state: str) -> bool:
    return bool((await worker.probes.run())[check] == state)
