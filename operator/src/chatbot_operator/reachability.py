"""Which store keeps a pod from being ready, as the pod itself says, see asking.py: nobody else connects to it. Pure.

`redis` is among the checks for the day on which a service hangs on it. Today none does: without Redis all go on.
"""

from collections.abc import Mapping

from chatbot_resource.model import ChatbotDeployment

from chatbot_operator import names
from chatbot_operator.components import postgres, redis, weaviate
from chatbot_operator.readiness import is_ready, newest, pods_of
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest, Observed

STORES: Mapping[str, names.Store] = {"database": "postgres", "redis": "redis", "vectors": "weaviate"}
"""What each check of a service asks."""


def runs_unready(pod: Manifest) -> bool:
    """Whether it can be asked why it is not ready: it has an address, and a container that runs."""
    status = pod.get("status") or {}
    runs = any("running" in (item.get("state") or {}) for item in status.get("containerStatuses") or [])
    leaving = pod["metadata"].get("deletionTimestamp")
    return bool(runs and status.get("podIP") and private_port(pod) and not leaving and not is_ready(pod))


def private_port(pod: Manifest) -> int | None:
    """Where it answers for itself."""
    ports = (port for container in pod["spec"]["containers"] for port in container.get("ports") or [])
    return next((port["containerPort"] for port in ports if port.get("name") == "private"), None)


def lost(
    bot: ChatbotDeployment, part: names.Component, live: Manifest, observed: Observed
) -> dict[names.Store, Blocked]:
    """Stores that pods of a component cannot use, each with the first pod that says so."""
    found: dict[names.Store, Blocked] = {}
    for name in sorted(str(pod["metadata"]["name"]) for pod in newest(live, observed)):
        answer = observed.answers.get(name)
        for check, state in answer.failing.items() if answer else ():
            store = _store(bot, check)
            text = f"Pod {name} of {part} cannot use {_named(bot, part, store)}: {state}."
            found.setdefault(store, Blocked(Reason.STORE_UNREACHABLE, text))
    return found


def waits_for_store(live: Manifest, observed: Observed) -> bool:
    """Whether a rollout that is overdue waits for a store alone: going back would not mend that.

    While a pod from before is ready it has what the new ones lack, such as the right address: then the change is wrong.
    """
    pods = newest(live, observed)
    unready = [pod for pod in pods if not is_ready(pod)]
    found = [observed.answers[name] for pod in unready if (name := pod["metadata"]["name"]) in observed.answers]
    if not pods or (unready and not found):
        return False
    away = not any(map(is_ready, pods_of(live, observed)))
    # Ready ones too: their Deployment is about to say so.
    return all(answer.ready or (away and answer.failing) for answer in found)


def _store(bot: ChatbotDeployment, check: str) -> names.Store:
    store = STORES[check]
    return "postgres" if store == "weaviate" and not weaviate.used(bot) else store


def _named(bot: ChatbotDeployment, part: names.Component, store: names.Store) -> str:
    """What a person looks at; of an address never more than host and port."""
    spec = bot.spec.stores
    if store == "postgres" and spec.postgres.mode == "External":
        owner: names.Owner = "auth" if part == "auth" else "conversation"
        return f"the Postgres whose address is in Secret {postgres.address(bot, owner).reference.name}"
    if store == "redis" and spec.redis.mode == "External":
        return f"the Redis whose address is in Secret {redis.address(bot).reference.name}"
    if store == "weaviate" and not weaviate.managed(bot):
        return f"the Weaviate at {weaviate.host(bot)}"
    kind = "Cluster" if store == "postgres" and spec.postgres.mode == "CloudNativePG" else "StatefulSet"
    return f"{kind} {names.child(bot.name, store)}"
