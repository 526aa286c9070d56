"""What each job does, and what happens when one fails: again later, up to a point, then it is kept for a person."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, NoReturn
from uuid import UUID

import structlog
from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Job
from prometheus_client import Counter, Histogram

from chatbot_conversation.context import Context
from chatbot_conversation.conversations.indexing import MessageIndexer
from chatbot_conversation.jobs import JobName, Payload
from chatbot_conversation.knowledge.indexing import KnowledgeIndexer

log = structlog.get_logger(__name__)

JOBS = Counter("conversation_jobs_total", "Background jobs by outcome", ["job", "outcome"])
JOB_DURATION = Histogram("conversation_job_duration_seconds", "Time one attempt at a job takes", ["job"])

MAX_ATTEMPTS = 8
FIRST_DELAY = timedelta(seconds=1)
MAX_DELAY = timedelta(minutes=5)

Handler = Callable[[Payload], Awaitable[None]]


class JobFailed(Exception):
    """A job has failed for good. Carries only the kind of error: its text could quote what a person wrote."""


class Handlers:
    def __init__(self, context: Context) -> None:
        self._knowledge = KnowledgeIndexer(context.database, context.embedder, context.vectors)
        self._messages = MessageIndexer(context.database, context.embedder, context.vectors)
        self._vectors = context.vectors

    def register(self, manager: QueueManager) -> None:
        handlers: dict[JobName, Handler] = {
            "index_message": self._index_message,
            "index_faq": self._index_faq,
            "index_document": self._index_document,
            "forget_vectors": self._forget_vectors,
        }
        for name, handler in handlers.items():
            manager.entrypoint(name, on_failure="hold")(_guarded(handler))

    async def _index_message(self, payload: Payload) -> None:
        await self._messages.index_message(UUID(payload["user_id"]), UUID(payload["message_id"]))

    async def _index_faq(self, payload: Payload) -> None:
        await self._knowledge.index_faq(UUID(payload["id"]))

    async def _index_document(self, payload: Payload) -> None:
        await self._knowledge.index_document(UUID(payload["id"]))

    async def _forget_vectors(self, payload: Payload) -> None:
        tenant = UUID(payload["tenant"]) if payload["tenant"] else None
        await self._vectors.delete(payload["collection"], tenant, [UUID(text) for text in payload["ids"]])


def _guarded(handler: Handler) -> Callable[[Job], Awaitable[None]]:
    async def run(job: Job) -> None:
        # The queue's own polling is kept out of traces; what a job does belongs to the request that enqueued it.
        token = otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, False))
        try:
            with JOB_DURATION.labels(job.entrypoint).time():
                await handler(json.loads(job.payload or b"{}"))
        except asyncio.CancelledError:
            # The worker's time to drain is over. The queue would drop a cancelled job; another worker shall do it.
            raise RetryRequested(delay=timedelta(0), reason="worker stopped") from None
        except Exception as error:
            _fail(job, type(error).__name__)
        else:
            JOBS.labels(job.entrypoint, "done").inc()
        finally:
            otel_context.detach(token)

    return run


def _fail(job: Job, kind: str) -> NoReturn:
    """Again with growing delay, or for good after the last attempt. The cause is cut off: the queue logs tracebacks."""
    facts: dict[str, Any] = {"job": job.entrypoint, "job_id": job.id, "attempt": job.attempts + 1, "error": kind}
    if job.attempts + 1 >= MAX_ATTEMPTS:
        JOBS.labels(job.entrypoint, "failed").inc()
        log.error("job failed for good", **facts)
        raise JobFailed(kind) from None
    JOBS.labels(job.entrypoint, "retried").inc()
    log.warning("job failed, will be tried again", **facts)
    raise RetryRequested(delay=min(FIRST_DELAY * 2**job.attempts, MAX_DELAY), reason=kind) from None
