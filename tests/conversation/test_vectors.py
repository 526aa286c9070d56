"""The vector store behind its port: what both stores promise, and what Weaviate does when it goes away."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from uuid import UUID, uuid4

import pytest
import weaviate as weaviate_client
from chatbot_common.database import Database
from chatbot_common.errors import Unavailable
from chatbot_conversation.vectors import KNOWLEDGE, MESSAGES, Vector, VectorStore
from chatbot_conversation.vectors import weaviate as module
from chatbot_conversation.vectors.pgvector import PGVectorStore
from chatbot_conversation.vectors.weaviate import WeaviateStore
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from weaviate.classes.init import Auth

from tests.conversation.running import eventually
from tests.support.patience import within
from tests.support.serving import free_port
from tests.support.weaviate import KEY, Weaviate

DIMENSIONS = 16
_bots = itertools.count()


def vector(**values: float) -> Vector:
    """A vector that is zero but for the named places, `_0` to `_15`."""
    return [values.get(f"_{place}", 0.0) for place in range(DIMENSIONS)]


EAST, NORTH, WEST = vector(_0=1), vector(_1=1), vector(_0=-1)
NORTH_EAST = vector(_0=3, _1=3)


@contextlib.asynccontextmanager
async def silence() -> AsyncIterator[int]:
    """Port of somebody who takes connections and never says a word."""
    visits: set[asyncio.Task[None]] = set()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()
        await writer.wait_closed()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.add(asyncio.create_task(listen(reader, writer)))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*visits, return_exceptions=True)


@pytest.fixture
async def pgvector(database_url: str) -> AsyncIterator[Callable[[], VectorStore]]:
    databases: list[Database] = []

    def make() -> VectorStore:
        databases.append(Database(database_url))
        return PGVectorStore(databases[-1], DIMENSIONS)

    yield make
    for database in databases:
        await database.close()


@pytest.fixture
async def in_weaviate(weaviate: Weaviate) -> AsyncIterator[Callable[..., WeaviateStore]]:
    """Makes stores of one bot that no other test has; each is as another process would have it."""
    stores: list[WeaviateStore] = []
    name = f"harbour-{next(_bots)}"

    def make(bot: str = name, key: str | None = KEY) -> WeaviateStore:
        stores.append(WeaviateStore(bot, DIMENSIONS, weaviate.url, weaviate.grpc_port, key))
        return stores[-1]

    yield make
    for store in stores:
        await store.close()


@pytest.fixture(params=["pgvector", "in_weaviate"])
def make(request: pytest.FixtureRequest) -> Callable[[], VectorStore]:
    """Makes a store as every process has its own."""
    maker: Callable[[], VectorStore] = request.getfixturevalue(request.param)
    return maker


@pytest.fixture
def store(make: Callable[[], VectorStore]) -> VectorStore:
    return make()


async def found(store: VectorStore, query: Vector = EAST, tenant: UUID | None = None, limit: int = 10) -> list[UUID]:
    collection = MESSAGES if tenant else KNOWLEDGE
    return [hit.id for hit in await store.search(collection, tenant, query, limit)]


class TestSearch:
    async def test_nearest_first_with_clipped_cosine(self, store: VectorStore) -> None:
        east, north_east, north, west = (uuid4() for _ in range(4))
        await store.upsert(KNOWLEDGE, None, {north: NORTH, west: WEST, east: EAST, north_east: NORTH_EAST})

        hits = await store.search(KNOWLEDGE, None, EAST, 10)

        assert [hit.id for hit in hits] == [east, north_east, north, west]
        assert [round(hit.score, 3) for hit in hits] == [1.0, 0.707, 0.0, 0.0]
        assert all(0 <= hit.score <= 1 for hit in hits)

    async def test_at_most_so_many(self, store: VectorStore) -> None:
        await store.upsert(KNOWLEDGE, None, {uuid4(): EAST for _ in range(5)})

        assert len(await found(store, limit=3)) == 3

    async def test_of_nothing(self, store: VectorStore) -> None:
        assert await found(store) == []
        assert await found(store, tenant=uuid4()) == []

    async def test_tenants_see_only_their_own(self, store: VectorStore) -> None:
        ada, bob, hers, his, shared = (uuid4() for _ in range(5))
        await store.upsert(MESSAGES, ada, {hers: EAST})
        await store.upsert(MESSAGES, bob, {his: EAST})
        await store.upsert(KNOWLEDGE, None, {shared: EAST})

        assert await found(store, tenant=ada) == [hers]
        assert await found(store, tenant=bob) == [his]
        assert await found(store, tenant=uuid4()) == []
        assert await found(store) == [shared]


class TestUpsert:
    async def test_again_replaces(self, store: VectorStore) -> None:
        one, other = uuid4(), uuid4()
        await store.upsert(KNOWLEDGE, None, {one: EAST, other: WEST})
        await store.upsert(KNOWLEDGE, None, {one: EAST, other: WEST})
        await store.upsert(KNOWLEDGE, None, {one: NORTH})

        assert await found(store, NORTH) == [one, other]
        assert (await store.search(KNOWLEDGE, None, NORTH, 1))[0].score == pytest.approx(1, abs=1e-5)

    async def test_the_same_id_of_two_tenants(self, store: VectorStore) -> None:
        ada, bob, one = uuid4(), uuid4(), uuid4()
        await store.upsert(MESSAGES, ada, {one: EAST})
        await store.upsert(MESSAGES, bob, {one: EAST})
        await store.delete(MESSAGES, ada, [one])

        assert await found(store, tenant=ada) == []
        assert await found(store, tenant=bob) == [one]

    async def test_many(self, store: VectorStore) -> None:
        vectors = {uuid4(): vector(_0=1, _1=number / 1200) for number in range(1200)}
        await store.upsert(KNOWLEDGE, None, vectors)

        assert set(await found(store, limit=1200)) == set(vectors)

    async def test_nothing(self, store: VectorStore) -> None:
        await store.upsert(KNOWLEDGE, None, {})

        assert await found(store) == []


class TestDelete:
    async def test_only_what_is_named(self, store: VectorStore) -> None:
        gone, kept = uuid4(), uuid4()
        await store.upsert(KNOWLEDGE, None, {gone: EAST, kept: NORTH})
        await store.delete(KNOWLEDGE, None, [gone, uuid4()])
        await store.delete(KNOWLEDGE, None, [gone])

        assert await found(store) == [kept]

    async def test_of_nothing(self, store: VectorStore) -> None:
        await store.delete(KNOWLEDGE, None, [])
        await store.delete(KNOWLEDGE, None, [uuid4()])
        await store.delete(MESSAGES, uuid4(), [uuid4()])

    async def test_many(self, store: VectorStore) -> None:
        vectors = {uuid4(): EAST for _ in range(1100)}
        await store.upsert(KNOWLEDGE, None, vectors)
        await store.delete(KNOWLEDGE, None, list(vectors))

        assert await found(store) == []


class TestEnsure:
    async def test_by_several_processes_at_once(self, make: Callable[[], VectorStore]) -> None:
        stores = [make() for _ in range(6)]
        await asyncio.gather(*(store.ensure() for store in stores))

        assert len({await store.generation() for store in stores}) == 1
        one = uuid4()
        await stores[0].upsert(KNOWLEDGE, None, {one: EAST})
        assert await found(stores[5]) == [one]

    async def test_first_writes_at_once(self, make: Callable[[], VectorStore]) -> None:
        ada = uuid4()
        ids = [uuid4() for _ in range(6)]
        await asyncio.gather(*(make().upsert(MESSAGES, ada, {id_: EAST}) for id_ in ids))

        assert set(await found(make(), tenant=ada)) == set(ids)

    async def test_ping(self, store: VectorStore) -> None:
        await store.ping()


class TestWeaviate:
    async def test_bots_share_a_server_and_nothing_else(self, in_weaviate: Callable[..., WeaviateStore]) -> None:
        one, other = in_weaviate(), in_weaviate("lighthouse-1")
        await one.upsert(KNOWLEDGE, None, {uuid4(): EAST})

        assert await found(other) == []

    async def test_work_is_traced_as_a_call_to_it(
        self, in_weaviate: Callable[..., WeaviateStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        monkeypatch.setattr(module, "tracer", provider.get_tracer("test"))
        store = in_weaviate("harbour")
        await store.upsert(KNOWLEDGE, None, {uuid4(): EAST})
        await found(store)
        await store.delete(KNOWLEDGE, None, [uuid4()])

        spans = exporter.get_finished_spans()
        assert [(span.name, span.kind) for span in spans] == [
            (f"weaviate.{what}", SpanKind.CLIENT) for what in ("upsert", "search", "delete")
        ]
        assert {(span.attributes or {})["db.collection.name"] for span in spans} == {"Harbour_Knowledge_16"}

    async def test_survives_a_restart(self, weaviate: Weaviate, in_weaviate: Callable[..., WeaviateStore]) -> None:
        store, ada, one = in_weaviate(), uuid4(), uuid4()
        await store.upsert(KNOWLEDGE, None, {one: EAST})
        await store.upsert(MESSAGES, ada, {one: EAST})
        generation = await store.generation()

        weaviate.stop()
        late = in_weaviate()
        for call in (store.ping(), found(store), store.upsert(KNOWLEDGE, None, {one: EAST}), found(late), late.ping()):
            with pytest.raises(Unavailable):
                await call
        weaviate.start()

        await eventually(lambda: _answers(store))
        assert await found(late) == [one]
        assert await found(store) == [one]
        assert await found(store, tenant=ada) == [one]
        assert await store.generation() == generation

    async def test_that_lost_everything_is_used_again(
        self, weaviate: Weaviate, in_weaviate: Callable[..., WeaviateStore]
    ) -> None:
        store, other, ada, one = in_weaviate(), in_weaviate(), uuid4(), uuid4()
        await store.upsert(KNOWLEDGE, None, {one: EAST})
        await other.ping()
        generation = await store.generation()

        weaviate.lose_data()
        weaviate.start()

        # Not a call failed meanwhile, and the server would make a collection without tenants by itself.
        await store.upsert(MESSAGES, ada, {one: EAST})
        assert await found(store, tenant=ada) == [one]
        assert await store.generation() != generation
        assert await found(store) == []
        await eventually(lambda: _answers(other))
        assert await other.generation() == await store.generation()

    async def test_that_hangs_is_given_up(self, weaviate: Weaviate) -> None:
        async with silence() as port:
            for url, grpc_port in ((f"http://127.0.0.1:{port}", free_port()), (weaviate.url, port)):
                store = WeaviateStore("harbour", DIMENSIONS, url, grpc_port, KEY)
                async with within(8):
                    for call in (store.ping(), found(store)):
                        with pytest.raises(Unavailable):
                            await call
                await store.close()

    @pytest.mark.parametrize("key", [None, "wrong"])
    async def test_wants_its_key(self, in_weaviate: Callable[..., WeaviateStore], key: str | None) -> None:
        with pytest.raises(Unavailable) as caught:
            await in_weaviate(key=key).ping()

        assert "401" in str(caught.value.__cause__)

    async def test_others_collection_is_left_alone(
        self, weaviate: Weaviate, in_weaviate: Callable[..., WeaviateStore], capsys: pytest.CaptureFixture[str]
    ) -> None:
        await _create(weaviate, f"Stranger_Knowledge_{DIMENSIONS}")

        with pytest.raises(Unavailable):
            await in_weaviate("stranger").upsert(KNOWLEDGE, None, {uuid4(): EAST})

        assert f"Stranger_Knowledge_{DIMENSIONS} exists and was not made by this service" in capsys.readouterr().out

    @pytest.mark.parametrize("url", ["weaviate:8080", "grpc://weaviate", "http://"])
    def test_url_must_be_one(self, url: str) -> None:
        with pytest.raises(ValueError, match="http://"):
            WeaviateStore("harbour", DIMENSIONS, url, 50051, None)


async def _answers(store: VectorStore) -> bool:
    try:
        await store.ping()
    except Unavailable:
        return False
    return True


async def _create(server: Weaviate, name: str) -> None:
    client = weaviate_client.use_async_with_custom(
        "127.0.0.1",
        server.port,
        False,
        "127.0.0.1",
        server.grpc_port,
        False,
        auth_credentials=Auth.api_key(KEY),
        skip_init_checks=True,
    )
    async with client:
        await client.collections.create(name)
