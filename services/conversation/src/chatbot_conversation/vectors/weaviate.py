"""Vectors in Weaviate, the store of a cluster: one collection per kind and dimension, named after the bot.

Knowledge is one collection under an HNSW index. Messages are multi-tenant: a tenant per user, made with their first
message, its few vectors compared exactly. The client is opened by the first call and then mends itself. Whatever it
raises leaves as `Unavailable`, and the next call looks again whether our collections are still there: a Weaviate that
came back empty gets new ones, and their `generation` tells the worker to fill them from Postgres.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import structlog
import weaviate
from chatbot_common.errors import Unavailable
from chatbot_common.ids import uuid7
from opentelemetry import trace
from weaviate.classes.config import Configure, VectorDistances
from weaviate.classes.data import DataObject
from weaviate.classes.init import AdditionalConfig, Auth, Timeout
from weaviate.classes.query import Filter, MetadataQuery
from weaviate.config import GrpcConfig
from weaviate.exceptions import UnexpectedStatusCodeError, WeaviateDeleteManyError, WeaviateQueryError

from chatbot_conversation.vectors import KNOWLEDGE, MESSAGES, Collection, Hit, Vector

log = structlog.get_logger(__name__)
tracer = trace.get_tracer(__name__)

PING_SECONDS = 1.5
"""Less than a readiness check may take, so that it says what is wrong and not that time ran out."""
SEARCH_SECONDS = 3.0
"""A turn waits for this; the client alone would try for half a minute."""
WRITE_SECONDS = 30.0
BATCH = 500
"""Objects per request: at most 8 MB of the largest vectors."""
DESCRIPTION = "Vectors of a chatbot, made from its database. Generation "
CHANNEL = [
    # By itself gRPC waits up to two minutes before it tries a lost server again, and 30 s before it asks DNS again.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.dns_min_time_between_resolutions_ms", 2000),
]


class ForeignCollection(Exception):
    """A collection of our name that we did not make: its tenants or its metric may be others."""


class WeaviateStore:
    """Nothing is connected yet.

    Args:
        bot: name of the ChatbotDeployment; a Weaviate may serve several.
        url: `http://…` or `https://…`; gRPC is at the same host, with TLS when `url` has it.
        key: None where anonymous access is allowed.
    """

    def __init__(self, bot: str, dimensions: int, url: str, grpc_port: int, key: str | None) -> None:
        # Class names have letters, digits and `_`, and a bot's name none of the latter: two bots never share a class.
        self._prefix = (bot[0].upper() + bot[1:]).replace("-", "_")
        self._dimensions = dimensions
        self._client = _client(url, grpc_port, key)
        self._generation: str | None = None
        self._ensuring = asyncio.Lock()

    def _name(self, collection: Collection) -> str:
        return f"{self._prefix}_{collection.capitalize()}_{self._dimensions}"

    async def ensure(self) -> None:
        async with self._reaching("ensure", WRITE_SECONDS):
            await self._unless_seen()

    async def generation(self) -> str:
        async with self._reaching("ensure", WRITE_SECONDS):
            return await self._look()

    async def upsert(self, collection: Collection, tenant: UUID | None, vectors: dict[UUID, Vector]) -> None:
        objects: list[Any] = [
            DataObject(properties={}, uuid=id_, vector=list(vector)) for id_, vector in vectors.items()
        ]
        async with self._reaching("upsert", WRITE_SECONDS, collection):
            # Always looked up: a server that lost our collections would make others, without tenants, by guessing.
            await self._look()
            for batch in _batches(objects):
                done = await self._collection(collection, tenant).data.insert_many(batch)
                if done.errors:
                    raise ValueError(next(iter(done.errors.values())).message)

    async def search(self, collection: Collection, tenant: UUID | None, vector: Vector, limit: int) -> list[Hit]:
        async with self._reaching("search", SEARCH_SECONDS, collection):
            await self._unless_seen()
            try:
                found = await self._collection(collection, tenant).query.near_vector(
                    list(vector), limit=limit, return_metadata=MetadataQuery(distance=True), return_properties=[]
                )
            except WeaviateQueryError as error:
                if _no_tenant(error):
                    return []
                raise
            return [Hit(UUID(str(item.uuid)), _score(item.metadata.distance)) for item in found.objects]

    async def delete(self, collection: Collection, tenant: UUID | None, ids: Sequence[UUID]) -> None:
        async with self._reaching("delete", WRITE_SECONDS, collection):
            await self._unless_seen()
            for batch in _batches(ids):
                try:
                    await self._collection(collection, tenant).data.delete_many(
                        where=Filter.by_id().contains_any(batch)
                    )
                except WeaviateDeleteManyError as error:
                    if not _no_tenant(error):
                        raise

    async def ping(self) -> None:
        """Over both of its ports: one can be shut by a network policy while the other answers."""
        async with self._reaching("ping", PING_SECONDS):
            await self._look()
            await self._collection(KNOWLEDGE, None).query.fetch_objects(limit=1, return_properties=[])

    async def close(self) -> None:
        await self._client.close()

    def _collection(self, collection: Collection, tenant: UUID | None) -> Any:
        handle = self._client.collections.use(self._name(collection))
        return handle.with_tenant(str(tenant)) if tenant else handle

    async def _unless_seen(self) -> None:
        if self._generation is None:
            await self._look()

    async def _look(self) -> str:
        """Open the client, make collections that are missing, and return the generation of the knowledge there."""
        async with self._ensuring:
            if not self._client.is_connected():
                await self._connect()
            await self._found(MESSAGES)
            self._generation = await self._found(KNOWLEDGE)
            return self._generation

    async def _connect(self) -> None:
        try:
            await self._client.connect()
        finally:
            if not self._client.is_connected():
                await self._client.close()

    async def _found(self, collection: Collection) -> str:
        """Generation of a collection, made if it is missing."""
        name = self._name(collection)
        try:
            config = await self._client.collections.use(name).config.get()
        except UnexpectedStatusCodeError as error:
            if error.status_code != 404:
                raise
            await self._create(collection)
            config = await self._client.collections.use(name).config.get()
        generation = (config.description or "").removeprefix(DESCRIPTION)
        if not re.fullmatch(r"[0-9a-f-]{36}", generation):
            raise ForeignCollection(f"{name} exists and was not made by this service; remove or rename it")
        return generation

    async def _create(self, collection: Collection) -> None:
        index, exact = Configure.VectorIndex, Configure.VectorIndex.Quantizer.none()
        metric = VectorDistances.COSINE
        shared = collection == KNOWLEDGE
        try:
            await self._client.collections.create(
                self._name(collection),
                description=DESCRIPTION + str(uuid7()),
                vector_config=Configure.Vectors.self_provided(
                    vector_index_config=index.hnsw(distance_metric=metric, quantizer=exact)
                    if shared
                    else index.flat(distance_metric=metric, quantizer=exact)
                ),
                multi_tenancy_config=Configure.multi_tenancy(
                    enabled=not shared, auto_tenant_creation=not shared, auto_tenant_activation=not shared
                ),
            )
        except UnexpectedStatusCodeError as error:
            if error.status_code != 422:  # another process was faster; what it made is looked at next
                raise
        else:
            log.info("vector collection created", collection=self._name(collection))

    @contextlib.asynccontextmanager
    async def _reaching(self, what: str, seconds: float, collection: Collection | None = None) -> AsyncIterator[None]:
        """A bounded call to Weaviate, as a span of its own where it works on vectors. Raises `Unavailable`."""
        try:
            async with asyncio.timeout(seconds):
                if collection is None:
                    yield
                else:
                    with _span(what, self._name(collection)):
                        yield
        except Exception as error:
            self._generation = None
            log.warning("vector store unavailable", doing=what, error=type(error).__name__, reason=_reason(error))
            raise Unavailable("The vector store cannot be used right now; try again shortly.") from error


def _client(url: str, grpc_port: int, key: str | None) -> weaviate.WeaviateAsyncClient:
    """Raises `ValueError` when the URL is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the vector store's url must start with http:// or https:// and name a host")
    secure = parts.scheme == "https"
    return weaviate.use_async_with_custom(
        http_host=parts.hostname,
        http_port=parts.port or (443 if secure else 80),
        http_secure=secure,
        grpc_host=parts.hostname,
        grpc_port=grpc_port,
        grpc_secure=secure,
        auth_credentials=Auth.api_key(key) if key else None,
        additional_config=AdditionalConfig(
            timeout=Timeout(init=2, query=SEARCH_SECONDS, insert=WRITE_SECONDS),
            grpc_config=GrpcConfig(channel_options=CHANNEL),
        ),
        skip_init_checks=True,
    )


def _span(what: str, name: str) -> Any:
    attributes = {"db.system.name": "weaviate", "db.operation.name": what, "db.collection.name": name}
    return tracer.start_as_current_span(f"weaviate.{what}", kind=trace.SpanKind.CLIENT, attributes=attributes)


def _batches(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _score(distance: float | None) -> float:
    return min(1.0, max(0.0, 1.0 - (distance or 0.0)))


def _no_tenant(error: Exception) -> bool:
    """Nobody has written for this user yet. Over gRPC the server says so in words only."""
    return "tenant not found" in str(error)


def _reason(error: Exception) -> str:
    """First line: answers of the server never quote a vector, and our key is in none."""
    return (str(error).splitlines() or [""])[0][:200]
