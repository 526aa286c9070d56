"""Which store a pod cannot use, as the pod itself says, see asking.py: nobody else connects to it. Pure.

Most keep it from being ready. Without Redis all go on; of one that we run its own pod tells, of another only these do.
Without a vector store conversation goes on, and its worker tells.
"""

from collections.abc import Mapping

from chatbot_resource.model import ChatbotDeployment

from chatbot_operator import names
from chatbot_operator.components import postgres, redis, weaviate
from chatbot_operator.components.metadata import component_of
from chatbot_operator.pod_findings import steady
from chatbot_operator.readiness import is_ready, newest, pods_of
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest, Observed

STORES: Mapping[str, names.Store] = {"database": "postgres", "redis": "redis", "vectors": "weaviate"}
"""What each check of a service asks."""
DO_WITHOUT: Mapping[names.Store, frozenset[names.Component]] = {"redis": frozenset({"gateway", "chat"})}
"""Stores without which pods are ready all the same, and the components that use them."""


def runs_unready(pod: Manifest) -> bool:
    """Whether it can be asked why it is not ready: it has an address, and a container that runs."""
    status = pod.get("status") or {}
    runs = any("running" in (item.get("state") or {}) for item in status.get("containerStatuses") or [])
    return runs and _can_be_asked(pod) and not is_ready(pod)


def runs_ready(pod: Manifest) -> bool:
    return _can_be_asked(pod) and is_ready(pod)


def _can_be_asked(pod: Manifest) -> bool:
    address = (pod.get("status") or {}).get("podIP")
    return bool(address and private_port(pod) and not pod["metadata"].get("deletionTimestamp"))


def private_port(pod: Manifest) -> int | None:
    """Where it answers for itself."""
    ports = (port for container in pod["spec"]["containers"] for port in container.get("ports") or [])
    return next((port["containerPort"] for port in ports if port.get("name") == "private"), None)


def lost(
    bot: ChatbotDeployment, part: names.Component, live: Manifest, observed: Observed
) -> dict[names.Store, Blocked]:
    """Stores that pods of a component cannot use, each as the first pod that answers says it."""
    found: dict[names.Store, Blocked] = {}
    for name in sorted(str(pod["metadata"]["name"]) for pod in newest(live, observed)):
        answer = observed.answers.get(name)
        for check, state in answer.failing.items() if answer else ():
            store = _store(bot, check)
            # Which of them answers first changes from one look to the next.
            text = f"Pods of {part} cannot use {named(bot, part, store)}: {steady(state)}."
            found.setdefault(store, Blocked(Reason.STORE_UNREACHABLE, text))
    return found


def doing_without(bot: ChatbotDeployment) -> frozenset[names.Component]:
    """Components whose pods are asked although they are ready: no object in the cluster tells of a store outside it."""
    external = bot.spec.stores.redis.mode == "External"
    return DO_WITHOUT["redis"] if external else frozenset()


def lacked(bot: ChatbotDeployment, observed: Observed) -> dict[names.Store, Blocked]:
    """Stores outside the cluster that components go on without, each with the first component that says so."""
    found: dict[names.Store, Blocked] = {}
    for pod in sorted(observed.pods, key=lambda pod: (component_of(pod), pod["metadata"]["name"])):
        answer, part = observed.answers.get(pod["metadata"]["name"]), component_of(pod)
        for check, state in answer.lacking.items() if answer and part in doing_without(bot) else ():
            store = STORES[check]
            text = f"Pods of {part} go on without {named(bot, part, store)}: {steady(state)}."
            if part in DO_WITHOUT.get(store, ()):
                found.setdefault(store, Blocked(Reason.STORE_UNREACHABLE, text))
    return found


def unheard(bot: ChatbotDeployment, observed: Observed) -> bool:
    """Whether there are pods to be asked of those stores, and none has answered."""
    asked = [pod for pod in observed.pods if component_of(pod) in doing_without(bot) and runs_ready(pod)]
    return bool(asked) and not any(pod["metadata"]["name"] in observed.answers for pod in asked)


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


def named(bot: ChatbotDeployment, part: str, store: names.Store) -> str:
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
