"""What Kopf tells us becomes keys in the queue, and nothing else. Kopf itself writes nothing.

Only `on.event`: Kopf's other handlers keep their progress in annotations and finalizers of the objects they watch.
Nothing is returned from a handler, because Kopf would write that into the object's status.
"""

import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import kopf
from chatbot_resource.model import KIND

from chatbot_operator import names
from chatbot_operator.kinds import WATCHED, group_and_version, plural
from chatbot_operator.queue import Key
from chatbot_operator.referrers import Referrers

WATCH_SECONDS = 240
"""A watch is begun anew after this long; the API server is asked to end it, and the client insists."""
DEAF_SECONDS = 70.0
"""Begun anew, too, when it has said nothing for so long: each minute the API server sends at least a bookmark."""
CHUNK = 500
EXIT_SECONDS = 20.0
"""Less than the grace period of the operator's pod."""


class Backoffs:
    """Seconds between Kopf's attempts at one request. After the last, Kopf would end the operator: so there is none.

    What cannot be watched for lack of a right is no reason to stop watching everything else.
    """

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0), itertools.repeat(20.0))


Enqueue = Callable[[Key], None]
Login = Callable[[], Awaitable[kopf.AiohttpSession]]


def registry(enqueue: Enqueue, referrers: Referrers, login: Login) -> kopf.OperatorRegistry:
    """Handlers for our own kind and for every kind a resource is made of."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers, errors=kopf.ErrorsMode.PERMANENT)
    async def _login(**_: Any) -> kopf.AiohttpSession:
        return await login()

    @kopf.on.event(*_address(KIND), registry=handlers)
    async def _resource(namespace: str | None, name: str, **_: Any) -> None:
        enqueue((str(namespace), name))

    async def _child(namespace: str | None, name: str, body: kopf.Body, **_: Any) -> None:
        for key in keys(str(body.get("kind")), str(namespace), name, body.metadata.labels, referrers):
            enqueue(key)

    for kind in WATCHED:
        kopf.on.event(*_address(kind), id=plural(kind), registry=handlers)(_child)
    return handlers


def keys(kind: str, namespace: str, name: str, labels: Mapping[str, str], referrers: Referrers) -> set[Key]:
    """The resources that an object matters to: the one it is a child of, and those that refer to it."""
    found = set(referrers.of((kind, namespace, name)))
    if instance := labels.get(names.BOT):
        found.add((namespace, instance))
    return found


def settings() -> kopf.OperatorSettings:
    """Kopf's own."""
    told = kopf.OperatorSettings()
    told.posting.enabled = False
    told.peering.standalone = True
    # Namespaces and definitions are not looked for, so that no rights in the whole cluster are needed.
    told.scanning.disabled = True
    # Never written, since no handler needs them; but if ever, then under names of ours. Kopf removes this finalizer.
    told.persistence.finalizer = f"{names.PREFIX}/watched"
    told.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=f"watched.{names.PREFIX}")
    told.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=f"watched.{names.PREFIX}")
    told.process.ultimate_exiting_timeout = EXIT_SECONDS
    told.watching.server_timeout = WATCH_SECONDS
    told.watching.client_timeout = WATCH_SECONDS + 30
    told.watching.connect_timeout = 10
    told.watching.inactivity_timeout = DEAF_SECONDS
    told.watching.chunk_size = CHUNK
    told.networking.request_timeout = 60
    told.networking.connect_timeout = 10
    told.networking.error_backoffs = Backoffs()
    told.queueing.idle_timeout = 1.0
    for kind, selector in WATCHED.items():
        told.watching.label_selectors[_address(kind)] = selector
    return told


def _address(kind: str) -> tuple[str, str, str]:
    group, version = group_and_version(kind)
    return group, version, plural(kind)
