"""The system of record as CloudNativePG runs it: a Cluster of three, of which one takes over when another fails.

We say what it holds, a role and a database for each owner; everything else, certificates, Services, failover, the
growth of disks, is CloudNativePG's. `auth` comes with the Cluster's first start, `conversation` is a managed role and a
Database object: a first start makes one database alone.
"""

from chatbot_resource.fields import amount
from chatbot_resource.model import ChatbotDeployment
from pydantic import BaseModel

from chatbot_operator import names
from chatbot_operator.components import dependencies, postgres, reads, sizes
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import CLOUD_NATIVE_PG, manifest
from chatbot_operator.components.pods import spread
from chatbot_operator.managed import we_own
from chatbot_operator.pod_findings import pods_finding
from chatbot_operator.readiness import ended
from chatbot_operator.world import Blocked, Manifest

HIBERNATION = "cnpg.io/hibernation"
"""Annotation by which pods are taken away and disks are kept, and the condition that says so."""

CLUSTER = "cnpg.io/cluster"
"""Label of its pods."""

SETTINGS = {
    # The pools of ten pods of each service; a slot that is not used costs next to nothing.
    "max_connections": "600",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
HBA = (
    # After CloudNativePG's own rules and before its last one, which would let every role into every database.
    *(f"hostssl {owner} {owner} all scram-sha-256" for owner in names.OWNERS),
    f"host all {','.join(names.OWNERS)} all reject",
)


def used(bot: ChatbotDeployment) -> bool:
    return bot.spec.stores.postgres.mode == "CloudNativePG"


def needs(context: Context) -> Blocked | None:
    """Why it cannot be made."""
    if lost := next(filter(None, (dependencies.lacks(context, kind) for kind in CLOUD_NATIVE_PG)), None):
        return lost
    bot = context.bot.name
    passwords = [reads.generated(names.role(bot, owner), "password", "password") for owner in names.OWNERS]
    return reads.missing(names.child(bot, "postgres"), passwords, context)


def asked(context: Context) -> str:
    """The image that is wanted in the end; empty: CloudNativePG's own.

    Never one of before, where a rollout is given up: CloudNativePG upgrades data to a new major version, and not back.
    """
    live = _live(context)
    return _has(live) if live and context.rolled_back else context.bot.spec.images.postgres or ""


def running(context: Context, before: str) -> str:
    """The image that it has, where a new one is asked for that nothing has proven yet; as `running` of stores.py.

    Args:
        before: what the resource said when everything had settled last.
    """
    live, new = _live(context), asked(context)
    if live is None or context.hibernated or context.former or _has(live) != before:
        return new
    pods = [pod for pod in context.observed.pods if runs(pod, live["metadata"]["name"])]
    return new if pods_finding(pods, context.observed.at) else before


def runs(pod: Manifest, cluster: str) -> bool:
    metadata = pod["metadata"]
    mine = (metadata.get("labels") or {}).get(CLUSTER) == cluster
    return mine and not metadata.get("deletionTimestamp") and not ended(pod)


def _live(context: Context) -> Manifest | None:
    return context.observed.child("Cluster", names.child(context.bot.name, "postgres"))


def _has(live: Manifest) -> str:
    """What we have given it; where we gave none, CloudNativePG has written its own."""
    return str(live["spec"].get("imageName") or "") if we_own(live, ("spec", "imageName")) else ""


def build(context: Context, image: str) -> list[Manifest]:
    """The Cluster, and the database that its first start does not make. Data that is retained has no owner."""
    bot, name = context.bot, names.child(context.bot.name, "postgres")
    owned = bot.spec.stores.deletion_policy == "Delete"
    annotations = {HIBERNATION: "on" if context.asleep("postgres") else "off"}
    cluster = manifest(
        bot, "postgres", "Cluster", name, {"spec": _spec(context, name, image)}, owned=owned, annotations=annotations
    )
    database = manifest(bot, "postgres", "Database", names.database(name), {"spec": _database(bot, name)}, owned=owned)
    return [cluster, database]


def _spec(context: Context, name: str, image: str) -> Manifest:
    bot = context.bot
    size, instances = sizes.postgres(bot.spec), 1 if bot.spec.profile == "Dev" else 3
    configuration: Manifest = {
        "parameters": SETTINGS | {"shared_buffers": _shared_buffers(size)},
        "pg_hba": list(HBA),
    }
    if instances > 1:
        # What was committed survives the loss of the primary; with no standby left it goes on alone.
        configuration["synchronous"] = {"method": "any", "number": 1, "dataDurability": "preferred"}
    spec: Manifest = {
        "instances": instances,
        # Else a node with the only one could not be emptied.
        "enablePDB": instances > 1,
        "postgresql": configuration,
        "bootstrap": {"initdb": _first_start(bot.name)},
        "managed": {"roles": [_role(bot.name)]},
        "storage": _storage(context, name, size),
        "resources": size.resources,
        "affinity": _placement(context),
        "inheritedMetadata": _inherited(bot),
    }
    if image:
        # The operator's own image is for mode Dev: CloudNativePG needs one of those made for it, and has a default.
        spec["imageName"] = image
    if secrets := [
        *context.settings.image_pull_secrets,
        *(item.name for item in bot.spec.defaults.image_pull_secrets),
    ]:
        spec["imagePullSecrets"] = [{"name": secret} for secret in dict.fromkeys(secrets)]
    if places := bot.spec.defaults.topology_spread:
        spec["topologySpreadConstraints"] = spread(places, {CLUSTER: name})
    return spec


def _shared_buffers(size: sizes.Size) -> str:
    """A quarter of the memory that a pod may use, but well below what it asks for: more would be refused."""
    limit, request = (amount(size.resources[kind]["memory"]) for kind in ("limits", "requests"))
    return f"{max(1, int(min(limit / 4, request / 2) / 2**20))}MB"


def _first_start(bot: str) -> Manifest:
    """As the other Postgres of ours is made: text in UTF-8, the same order everywhere."""
    return {
        "database": "auth",
        "owner": "auth",
        "secret": {"name": names.role(bot, "auth")},
        "encoding": "UTF8",
        "localeProvider": "builtin",
        "builtinLocale": "C.UTF-8",
        "dataChecksums": True,
    }


def _role(bot: str) -> Manifest:
    secret = {"name": names.role(bot, "conversation")}
    return {"name": "conversation", "ensure": "present", "login": True, "passwordSecret": secret}


def _database(bot: ChatbotDeployment, cluster: str) -> Manifest:
    spec: Manifest = {
        "cluster": {"name": cluster},
        "name": "conversation",
        "owner": "conversation",
        "databaseReclaimPolicy": "retain",
    }
    if bot.spec.stores.vectors.type == "PGVector":
        spec["extensions"] = [{"name": "vector", "ensure": "present"}]
    return spec


def _storage(context: Context, name: str, size: sizes.Size) -> Manifest:
    """It grows with the resource. What exists never shrinks, nor changes its class: CloudNativePG would refuse all."""
    live = context.observed.child("Cluster", name)
    before = ((live or {}).get("spec") or {}).get("storage") or {}
    largest = max(size.disk, str(before.get("size") or "0"), key=amount)
    kept = before.get("storageClass") if before else size.disk_class
    return {"size": largest} | ({"storageClass": kept} if kept else {})


def _placement(context: Context) -> Manifest:
    """Where pods may run. No two of them on one node, where there are several, is CloudNativePG's default."""
    given = context.bot.spec.defaults
    affinity = given.affinity
    fields: Manifest = {
        "nodeSelector": given.node_selector,
        "tolerations": [_plain(item) for item in given.tolerations],
        "nodeAffinity": _plain(affinity.node_affinity if affinity else None),
        "additionalPodAffinity": _plain(affinity.pod_affinity if affinity else None),
        "additionalPodAntiAffinity": _plain(affinity.pod_anti_affinity if affinity else None),
    }
    return {name: value for name, value in fields.items() if value}


def _plain(written: BaseModel | None) -> Manifest:
    return written.model_dump(by_alias=True, exclude_defaults=True) if written else {}


def _inherited(bot: ChatbotDeployment) -> Manifest:
    """On everything that CloudNativePG makes of it. Ours makes its pods seen, see kinds.py."""
    given = bot.spec.defaults
    labels = given.pod_labels | {names.BOT: bot.name}
    return {"labels": labels} | ({"annotations": dict(given.pod_annotations)} if given.pod_annotations else {})


def uri(bot: str, owner: names.Owner, password: str) -> str:
    """Where the owner of a database reaches whichever instance is the primary."""
    host = f"{names.child(bot, 'postgres')}-rw:{postgres.PORT}"
    trusted = f"sslmode=verify-full&sslrootcert={names.POSTGRES_AUTHORITY}"
    return f"postgresql+asyncpg://{owner}:{password}@{host}/{owner}?{trusted}"
