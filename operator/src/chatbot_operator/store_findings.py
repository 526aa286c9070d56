"""What is wrong with each store, with the copy of its data, and with the migrations of its databases. Pure."""

from collections.abc import Iterable, Iterator

from chatbot_resource.status import Status

from chatbot_operator import names, reachability
from chatbot_operator.cnpg import store_finding
from chatbot_operator.components import migrations as parts
from chatbot_operator.components import moving, postgres, reads, redis
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import component_of
from chatbot_operator.components.stores import disk as disk_of
from chatbot_operator.kinds import DISK
from chatbot_operator.readiness import job_finding
from chatbot_operator.reasons import STUCK, Reason
from chatbot_operator.views import View
from chatbot_operator.world import Blocked, Manifest, Observed, Step


def stores(context: Context, steps: list[Step]) -> dict[names.Store, Blocked | None]:
    """What is wrong with each, whoever needs it."""
    bot, observed = context.bot, context.observed
    return {
        "postgres": reads.missing("auth and conversation", postgres.external(bot), context)
        or _store("postgres", steps, observed, moving.RUN_BY.get(bot.spec.stores.postgres.mode))
        or _copying(context, steps),
        "redis": reads.missing("gateway and chat", redis.external(bot), context) or _store("redis", steps, observed),
        "weaviate": _store("weaviate", steps, observed),
    }


def lacked(
    context: Context, views: Iterable[View], migrating: Blocked | None, previous: Status | None
) -> dict[names.Store, Blocked]:
    """Stores that pods cannot use: those that are not ready because of that come first.

    Args:
        migrating: what keeps databases from being migrated.
    """
    found = [view.lost for view in views] + [reachability.lacked(context.bot, context.observed)]
    if previous and reachability.unheard(context.bot, context.observed):
        found.append(_last_heard(previous))
    if migrating and migrating.reason == Reason.STORE_UNREACHABLE:
        found.append({"postgres": migrating})
    return {store: finding for several in reversed(found) for store, finding in several.items()}


def disks_going(observed: Observed) -> Iterator[str]:
    """What was deleted under a store that runs: Kubernetes keeps it until its pod ends, and no longer."""
    for store in observed.children:
        if store["kind"] != "StatefulSet":
            continue
        pod, disk = f"{store['metadata']['name']}-0", disk_of(store["metadata"]["name"])
        live = observed.child(DISK, disk)
        runs = (item for item in observed.pods if item["metadata"]["name"] == pod and not _going(item))
        if live and _going(live) and any(runs):
            yield (
                f"PersistentVolumeClaim {disk} was deleted: it goes, with all that is on it, when Pod {pod} ends. "
                "Save what is on it before that."
            )


def _going(item: Manifest) -> bool:
    return bool(item["metadata"].get("deletionTimestamp"))


def _last_heard(previous: Status) -> dict[names.Store, Blocked]:
    """Silence is no recovery: what was heard last holds."""
    said = next((item for item in previous.conditions if item.type == "CacheReady"), None)
    if said is None or said.reason != Reason.STORE_UNREACHABLE:
        return {}
    return {"redis": Blocked(Reason.STORE_UNREACHABLE, said.message)}


def _store(
    store: names.Store, steps: Iterable[Step], observed: Observed, kind: str | None = "StatefulSet"
) -> Blocked | None:
    for step in steps:
        for item in step.manifests:
            if item["kind"] == kind and component_of(item) == store:
                return step.blocked or store_finding(item, observed)
    return None


def _copying(context: Context, steps: Iterable[Step]) -> Blocked | None:
    """What is worse comes first: a copy that goes on must not hide one that failed."""
    if not context.moving or context.observed.data is None:
        return None
    kind = moving.RUN_BY.get(context.observed.data.mode)
    if former := _store("postgres", steps, context.observed, kind):
        return former
    found = [_copy_finding(step, context) for step in steps if step.name == "copy"]
    stuck = (finding for finding in found if finding and finding.reason in STUCK)
    done = Blocked(Reason.COPYING_DATA, "The data has been copied.")
    return next(stuck, None) or next(filter(None, found), None) or done


def _copy_finding(step: Step, context: Context) -> Blocked | None:
    finding = step.blocked or job_finding(_job(step), context.observed, "one of its databases")
    if finding and finding.reason == Reason.MIGRATION_FAILED:
        mode = context.observed.data.mode if context.observed.data else ""
        text = f"{finding.message} The data is where it was: spec.stores.postgres.mode may go back to {mode}"
        text += ", unless the chatbot has run on the new one." if "not empty" in finding.message else "."
        return Blocked(Reason.COPY_FAILED, text)
    if finding and finding.reason in (Reason.MIGRATING, Reason.NOT_CREATED):
        name = _job(step)["metadata"]["name"]
        return Blocked(Reason.COPYING_DATA, f"Job {name} copies the data; until then no component runs.")
    return finding


def migrations(context: Context, steps: Iterable[Step]) -> Blocked | None:
    """What is worse comes first: a database that waits must not hide one that failed."""
    found = [
        finding
        for step in steps
        if step.name == "migrations"
        and (step.blocked or step.manifests)
        and (finding := step.blocked or _migration(context, _job(step)))
    ]
    return next((finding for finding in found if finding.reason in STUCK), next(iter(found), None))


def _migration(context: Context, job: Manifest) -> Blocked | None:
    owner = next(owner for owner in names.OWNERS if component_of(job) == parts.part(owner))
    return job_finding(job, context.observed, reachability.named(context.bot, owner, "postgres"))


def _job(step: Step) -> Manifest:
    return next(item for item in step.manifests if item["kind"] == "Job")
