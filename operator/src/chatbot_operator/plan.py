"""What should be: from the resource and what was observed to ordered steps. Pure, and the same for every caller.

Order: secrets → stores → migrations → conversation, auth → chat → gateway. A step waits for the ones it stands on and
says so; what exists of it meanwhile stays as it is. A step that lacks something a user has to bring is waited for by
nobody: only who reads it is blocked. What hibernates goes the other way: who streams, who stores, stores.
Another image of a store that runs comes last, when all the others have shown that what is asked for comes to run.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from chatbot_resource.configuration import Service
from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import RolledBack

from chatbot_operator import names, renewing
from chatbot_operator.cnpg import STORE_KINDS, store_finding
from chatbot_operator.components import (
    auth,
    chat,
    cloudnativepg,
    configuration,
    conversation,
    exposure,
    gateway,
    images,
    migrations,
    monitoring,
    moving,
    network,
    postgres,
    reads,
    redis,
    revisions,
    secrets,
    stores,
    weaviate,
)
from chatbot_operator.components.configuration import Configs
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import applied_hash, component_of, uid
from chatbot_operator.components.reads import Read
from chatbot_operator.components.stores import Store
from chatbot_operator.kinds import DISK
from chatbot_operator.names import Owner
from chatbot_operator.readiness import asleep, ended, job_finding, rolled_out, settled
from chatbot_operator.reasons import MISSING, Reason
from chatbot_operator.settings import Settings
from chatbot_operator.world import Blocked, Manifest, Name, Observed, Reference, Step, StepName

READS: Mapping[Service, Callable[[ChatbotDeployment], tuple[Read, ...]]] = {
    "gateway": gateway.reads,
    "auth": auth.reads,
    "chat": chat.reads,
    "conversation": conversation.reads,
}
BUILDERS: Mapping[Service, Callable[[Context, Configs], list[Manifest]]] = {
    "gateway": gateway.build,
    "auth": auth.build,
    "chat": chat.build,
    "conversation": conversation.build,
}
STORES: Mapping[names.Store, Callable[[ChatbotDeployment], Store | None]] = {
    "postgres": postgres.store,
    "redis": redis.store,
    "weaviate": weaviate.store,
}
SERVED = frozenset(READS)
"""Components that others call; nobody waits for the worker."""
PODS = frozenset({*names.SERVICE_COMPONENTS, "conversation-worker"})
"""Component labels of pods that use stores."""
STREAMING = ("gateway", "chat")
"""Components that may take minutes to finish an answer, which the others then store."""


def references(bot: ChatbotDeployment) -> frozenset[Reference]:
    """Everything a user owns that the resource refers to."""
    read = reads.references(read for own in READS.values() for read in own(bot))
    return read | set(exposure.certificate(bot))


def plan(
    bot: ChatbotDeployment, observed: Observed, settings: Settings, rolled_back: RolledBack | None = None
) -> list[Step]:
    """Steps in the order in which they are applied.

    `stores` is there once per store that we run, `migrations` once per database: each has a gate of its own.
    """
    return _Planner(Context(bot, observed, settings, rolled_back)).steps()


@dataclass(frozen=True)
class _Planner:
    context: Context

    def steps(self) -> list[Step]:
        no_settings = images.unknown(self.context) or configuration.missing(self.context, self.context.bot.name)
        configs = {} if no_settings else configuration.build(self.context)
        # Stores that slept under pods that cannot be taken away would be an outage, not a hibernation.
        asleep = no_settings if self.context.hibernated else None
        last = (asleep, self._stopping(PODS))
        asked = {name: store for name, make in STORES.items() if (store := make(self.context.bot))}
        kept = {name: self._running(store) for name, store in asked.items()}
        running = {name: self._store(store, last) for name, store in kept.items()}
        cluster_image = cloudnativepg.running(self.context, revisions.cluster_image(self.context.observed))
        if cloudnativepg.used(self.context.bot):
            running["postgres"] = self._cloud_native_pg(cluster_image, last)
        postgres_gate = self._store_gate(running.get("postgres"))
        before = moving.formers(self.context)
        formers = [self._step("stores", moving.build_former(former)) for former in before]
        # Those that sleep on hold nothing that is copied now.
        sources = [step for former, step in zip(before, formers, strict=True) if former.awake]
        resting = moving.not_at_rest(self.context)
        ready = (self._stopping(PODS), resting, postgres_gate, *map(self._store_gate, sources))
        copies = self._copies(configs, no_settings, *ready)
        databases = {owner: self._migration(owner, configs, no_settings, postgres_gate) for owner in names.OWNERS}
        services = self._services(configs, no_settings, databases, running)
        proven = (*map(self._migration_gate, databases.values()), *map(self._rollout_gate, services))
        renewed = [self._store(store, proven) for name, store in asked.items() if store != kept[name]]
        if cloudnativepg.used(self.context.bot) and (image := cloudnativepg.asked(self.context)) != cluster_image:
            renewed.append(self._cloud_native_pg(image, proven))
        waiting = [*running.values(), *formers, *copies, *databases.values()]
        beside = [
            self._step("monitoring", monitoring.build(self.context)),
            self._revision([*running.values(), *services, *renewed]),
        ]
        return [self._secrets(), *waiting, *services, *renewed, *beside]

    def _secrets(self) -> Step:
        made = secrets.build(self.context)
        return self._step("secrets", made, secrets.problem(self.context))

    def _running(self, store: Store) -> Store:
        return stores.running(self.context, store, revisions.image(self.context.observed, store.name))

    def _store(self, store: Store, gates: Iterable[Blocked | None]) -> Step:
        made = [*network.build(self.context, store.name), *stores.build(self.context, store)]
        return self._step("stores", made, stores.needs(self.context, store), *gates)

    def _cloud_native_pg(self, image: str, gates: Iterable[Blocked | None]) -> Step:
        made = [*network.cluster(self.context), *cloudnativepg.build(self.context, image)]
        return self._step("stores", made, cloudnativepg.needs(self.context), *gates)

    def _copies(self, configs: Configs, no_settings: Blocked | None, *gates: Blocked | None) -> list[Step]:
        if not self.context.moving:
            return []
        if no_settings or not moving.started(self.context):
            begins = Blocked(Reason.COPYING_DATA, "The copy of the data is about to begin.")
            return [Step("copy", (), no_settings or begins)]
        return [self._job("copy", moving.build(self.context, owner, configs), *gates) for owner in names.OWNERS]

    def _migration(self, owner: Owner, configs: Configs, no_settings: Blocked | None, gate: Blocked | None) -> Step:
        if self.context.hibernated:
            return Step("migrations", (), Blocked(Reason.HIBERNATED, "No database is migrated while none runs."))
        if self.context.rolled_back:
            # The tables stay those of the version that was given up; the one before works with them.
            return Step("migrations", ())
        needs = migrations.needs(self.context.bot, owner)
        lost = no_settings or reads.missing(owner, needs, self.context)
        if lost:
            return Step("migrations", (), lost)
        made = migrations.build(self.context, owner, configs)
        return self._job("migrations", made, gate)

    def _job(self, name: StepName, made: list[Manifest], *gates: Blocked | None) -> Step:
        step = self._step(name, made, *gates)
        job = _only(step, "Job")
        if step.blocked is None and (going := renewing.outdated(job, self.context.observed)):
            return replace(step, blocked=going, anew=frozenset({_name(job)}))
        return replace(step, blocked=step.blocked or renewing.ending(job, self.context.observed))

    def _services(
        self,
        configs: Configs,
        no_settings: Blocked | None,
        databases: Mapping[Owner, Step],
        running: Mapping[names.Store, Step],
    ) -> list[Step]:
        """Who owns data first, and then who calls whom."""

        def service(name: Service, *gates: Blocked | None) -> Step:
            return self._service(name, configs, no_settings, *gates)

        redis_gate, vectors_gate = self._store_gate(running.get("redis")), self._store_gate(running.get("weaviate"))
        owners = [
            service("conversation", self._migration_gate(databases["conversation"]), vectors_gate),
            service("auth", self._migration_gate(databases["auth"])),
        ]
        below = [self._rollout_gate(step) for step in owners]
        chatting = service("chat", *below, redis_gate)
        return [*owners, chatting, service("gateway", *below, self._rollout_gate(chatting), redis_gate)]

    def _service(self, name: Service, configs: Configs, no_settings: Blocked | None, *gates: Blocked | None) -> Step:
        lost = no_settings or reads.missing(name, READS[name](self.context.bot), self.context)
        if no_settings or (lost and not self.context.hibernated):
            return Step(name, (), lost)
        manifests = BUILDERS[name](self.context, configs)
        if self.context.hibernated:
            return self._step(name, manifests, None if name in STREAMING else self._stopping(STREAMING))
        # What was rolled out before is kept as it was made, even while something it calls is away.
        return self._step(name, manifests, *(() if self._made_before(manifests) else gates))

    def _stopping(self, parts: Collection[str]) -> Blocked | None:
        """While a bot falls asleep: a pod of these that still does something, and needs what it stands on for it."""
        if not self.context.hibernated:
            return None
        pods = (pod for pod in self.context.observed.pods if component_of(pod) in parts and not ended(pod))
        left = min((pod["metadata"]["name"] for pod in pods), default=None)
        return _waiting(Reason.STOPPING, f"Pod {left}, which finishes what it is doing") if left else None

    def _revision(self, steps: list[Step]) -> Step:
        """What is to be gone back to: whatever has settled."""
        settling = any(
            step.blocked or not settled(item, self.context.observed)
            for step in steps
            for item in step.manifests
            if item["kind"] in ("Deployment", "StatefulSet")
        )
        unfinished = settling or self.context.rolled_back or not all(step.manifests for step in steps)
        if unfinished or self.context.bot.spec.mode != "Active":
            return Step("revision", (), Blocked(Reason.ROLLING_OUT, "Kept once every component has settled."))
        return self._step("revision", [revisions.build(self.context)])

    def _made_before(self, manifests: Iterable[Manifest]) -> bool:
        # A ConfigMap may be there for a migration.
        own = [item for item in manifests if item["kind"] != "ConfigMap"]
        pairs = [(item, self.context.observed.child(*_name(item))) for item in own]
        live = [(item, found) for item, found in pairs if found is not None]
        return bool(live) and all(applied_hash(item) == applied_hash(found) for item, found in live)

    def _step(self, name: StepName, manifests: list[Manifest], *gates: Blocked | None) -> Step:
        checks = (self._conflict(manifests), *gates)
        return Step(name, tuple(manifests), next(filter(None, checks), None))

    def _conflict(self, manifests: Iterable[Manifest]) -> Blocked | None:
        """What carries our name and labels, but belongs to another: often an earlier resource that is still going."""
        for wanted_one in (item for item in manifests if item["kind"] != DISK):
            live = self.context.observed.child(*_name(wanted_one))
            owners = (live or {"metadata": {}})["metadata"].get("ownerReferences") or []
            if any(item.get("controller") and item["uid"] != uid(self.context.bot) for item in owners):
                kind, name = _name(wanted_one)
                text = (
                    f"{kind} {name} belongs to another resource, perhaps one that is being deleted: wait or delete it."
                )
                return Blocked(Reason.NAME_CONFLICT, text)
        return None

    def _store_gate(self, step: Step | None) -> Blocked | None:
        """A store that is not ours has no step and no gate."""
        if step is None:
            return None
        runs = next(item for item in step.manifests if item["kind"] in STORE_KINDS)
        if step.blocked is None and store_finding(runs, self.context.observed) is None:
            return None
        return _waiting(Reason.WAITING_FOR_STORE, f"{runs['kind']} {runs['metadata']['name']}")

    def _migration_gate(self, step: Step) -> Blocked | None:
        if step.blocked:
            return _waiting(Reason.WAITING_FOR_MIGRATION, "the migration of its database, which waits too")
        if not step.manifests:
            return None
        job = _only(step, "Job")
        finding = job_finding(job, self.context.observed)
        if finding is None or finding.reason == Reason.MIGRATION_FAILED:
            return finding
        return _waiting(Reason.WAITING_FOR_MIGRATION, f"Job {job['metadata']['name']}")

    def _rollout_gate(self, step: Step) -> Blocked | None:
        """Callers follow when what they call runs in its wanted form."""
        if step.blocked:
            return None if step.blocked.reason in MISSING else _waiting(Reason.WAITING_FOR_COMPONENT, step.name)
        for item in step.manifests:
            if item["kind"] == "Deployment":
                name = item["metadata"]["name"]
                live = self.context.observed.child("Deployment", name)
                if component_of(item) in SERVED and not (rolled_out(item, live) or asleep(item, live)):
                    return _waiting(Reason.WAITING_FOR_COMPONENT, f"the rollout of Deployment {name}")
        return None


def _waiting(reason: Reason, what: str) -> Blocked:
    return Blocked(reason, f"Waits for {what}.")


def _only(step: Step, kind: str) -> Manifest:
    return next(item for item in step.manifests if item["kind"] == kind)


def _name(item: Manifest) -> Name:
    return item["kind"], item["metadata"]["name"]
