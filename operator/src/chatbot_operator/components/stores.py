"""A store as one StatefulSet of one pod and its Service: for development, and for who needs no more."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from chatbot_resource.fields import amount

from chatbot_operator import names
from chatbot_operator.components import reads
from chatbot_operator.components.context import Context
from chatbot_operator.components.images import image
from chatbot_operator.components.metadata import labels, manifest, selector
from chatbot_operator.components.pods import container, pod, template
from chatbot_operator.components.reads import FILE_MODE, Read
from chatbot_operator.components.sizes import Size
from chatbot_operator.pod_findings import pods_finding
from chatbot_operator.readiness import image_of, own_pods
from chatbot_operator.world import Blocked, Manifest

PASSWORDS_FOLDER = "/etc/chatbot/store"
CLAIM = "data"
GRACE_SECONDS = 60


@dataclass(frozen=True)
class Store:
    """What differs between the stores."""

    name: names.Store
    ports: Mapping[str, int]
    probe: Manifest
    size: Size
    started: Manifest | None = None
    """Probe until it is ready for the first time, where that is another question."""
    passwords: tuple[str, ...] = ()
    """Keys of the store's Secret that it reads as files."""
    secret_keys: tuple[str, ...] = ()
    """Keys that it reads in another way."""
    args: tuple[str, ...] = ()
    env: tuple[Manifest, ...] = ()
    volumes: tuple[Manifest, ...] = ()
    mounts: tuple[Manifest, ...] = ()
    data: str = ""
    """Where its disk is mounted; empty: it has none."""
    image: str = ""
    """What it runs; empty: what the resource says."""

    @property
    def keys(self) -> tuple[str, ...]:
        return (*self.passwords, *self.secret_keys)


def running(context: Context, store: Store, before: str) -> Store:
    """With the image that it has, where a new one is asked for that nothing has proven yet.

    Its only pod would be the first that tries it. One that cannot run as it is has nothing to lose.

    Args:
        before: the image that it had when everything had settled last.
    """
    live = context.observed.child("StatefulSet", names.child(context.bot.name, store.name))
    if live is None or context.hibernated or context.rolled_back:
        return store
    if image_of(live) != before or pods_finding(own_pods(live, context.observed), context.observed.at):
        return store
    return store if before == image(context, store.name) else replace(store, image=before)


def needs(context: Context, store: Store) -> Blocked | None:
    """Why it cannot start."""
    return reads.missing(names.child(context.bot.name, store.name), _reads(context, store), context)


def build(context: Context, store: Store) -> list[Manifest]:
    return [*_growing(context, store), _service(context, store), _stateful_set(context, store)]


def _service(context: Context, store: Store) -> Manifest:
    ports = [{"name": name, "port": port, "targetPort": name} for name, port in store.ports.items()]
    body = {"spec": {"type": "ClusterIP", "selector": selector(context.bot, store.name), "ports": ports}}
    return manifest(context.bot, store.name, "Service", names.child(context.bot.name, store.name), body)


def _stateful_set(context: Context, store: Store) -> Manifest:
    bot, name = context.bot, names.child(context.bot.name, store.name)
    content = reads.content(_reads(context, store), context.observed)
    inside = _pod(context, store)
    spec: Manifest = {
        "replicas": 0 if context.asleep(store.name) else 1,
        "serviceName": name,
        # Else a pod that never gets ready is not replaced when its template is mended.
        "podManagementPolicy": "Parallel",
        # Else one that somebody holds back would be waited for without a word.
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": selector(bot, store.name)},
        "persistentVolumeClaimRetentionPolicy": {
            "whenDeleted": bot.spec.stores.deletion_policy,
            "whenScaled": "Retain",
        },
        "template": template(context, store.name, content, inside),
    }
    if store.data:
        spec["volumeClaimTemplates"] = [_claim(context, store, name)]
    noted = {names.IMAGE: inside["containers"][0]["image"]}
    return manifest(bot, store.name, "StatefulSet", name, {"spec": spec}, annotations=noted)


def _reads(context: Context, store: Store) -> list[Read]:
    secret = names.store(context.bot.name, store.name)
    return [reads.generated(secret, key, key) for key in store.keys]


def _claim(context: Context, store: Store, name: str) -> Manifest:
    """What a StatefulSet was made with stays; a larger disk first has to be there, see `_growing`."""
    live = context.observed.child("StatefulSet", name)
    templates = ((live or {}).get("spec") or {}).get("volumeClaimTemplates") or []
    spec: Manifest = {"accessModes": ["ReadWriteOnce"]}
    if templates:
        spec |= {key: templates[0]["spec"][key] for key in ("storageClassName",) if key in templates[0]["spec"]}
        size = templates[0]["spec"]["resources"]["requests"]["storage"]
        live_disk = context.observed.child("PersistentVolumeClaim", disk(name))
        if live_disk and amount(_requested(live_disk)) >= amount(store.size.disk) > amount(size):
            size = store.size.disk
    else:
        spec |= {"storageClassName": store.size.disk_class} if store.size.disk_class else {}
        size = store.size.disk
    spec["resources"] = {"requests": {"storage": size}}
    return {"metadata": {"name": CLAIM, "labels": labels(context.bot, store.name)}, "spec": spec}


def _growing(context: Context, store: Store) -> list[Manifest]:
    """The disk that is to be larger than it is. Kubernetes lets a claim grow, and nothing else of it change."""
    name = disk(names.child(context.bot.name, store.name))
    live = context.observed.child("PersistentVolumeClaim", name) if store.data else None
    if live is None or amount(_requested(live)) >= amount(store.size.disk):
        return []
    body = {"spec": {"resources": {"requests": {"storage": store.size.disk}}}}
    made = manifest(context.bot, store.name, "PersistentVolumeClaim", name, body, owned=False)
    # Without its uid, applying to a claim that has just been deleted would make half a one.
    made["metadata"]["uid"] = live["metadata"]["uid"]
    return [made]


def disk(stateful_set: str) -> str:
    """Name of the claim that Kubernetes makes for its pod."""
    return f"{CLAIM}-{stateful_set}-0"


def _requested(disk: Manifest) -> str:
    return str(disk["spec"]["resources"]["requests"]["storage"])


def _pod(context: Context, store: Store) -> Manifest:
    return pod([_container(context, store)], [*_passwords(context, store), *store.volumes], GRACE_SECONDS)


def _container(context: Context, store: Store) -> Manifest:
    mounts = list(store.mounts)
    if store.passwords:
        mounts.append({"name": "passwords", "mountPath": PASSWORDS_FOLDER, "readOnly": True})
    if store.data:
        mounts.append({"name": CLAIM, "mountPath": store.data})
    return container(
        store.name,
        store.image or image(context, store.name),
        context.settings.image_pull_policy,
        store.size.resources,
        mounts,
        ports=[{"name": name, "containerPort": port} for name, port in store.ports.items()],
        **_probes(store),
        **_told(store),
    )


def _told(store: Store) -> dict[str, Any]:
    told: dict[str, Any] = {"args": list(store.args), "env": list(store.env)}
    return {name: value for name, value in told.items() if value}


def _probes(store: Store) -> dict[str, Manifest]:
    probe = store.probe
    return {
        # Recovery after a crash may read its whole log: five minutes.
        "startupProbe": (store.started or probe) | {"periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 150},
        "readinessProbe": probe | {"periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 3},
        "livenessProbe": probe | {"periodSeconds": 20, "timeoutSeconds": 5, "failureThreshold": 6},
    }


def _passwords(context: Context, store: Store) -> list[Manifest]:
    if not store.passwords:
        return []
    items = [{"key": key, "path": key} for key in store.passwords]
    secret = {"secretName": names.store(context.bot.name, store.name), "defaultMode": FILE_MODE, "items": items}
    return [{"name": "passwords", "secret": secret}]
