"""Every reason a condition may carry: a closed set, each with its meaning and the way out.

`docs/reference/conditions.md` has the same table; tests/operator/test_reasons.py keeps the two in step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Ordered from good to bad within the three groups below."""

    SETTLED = "Settled"
    SERVING = "Serving"
    FOUND = "Found"
    STORE_READY = "StoreReady"
    EXTERNAL = "External"
    IN_POSTGRES = "InPostgres"
    MIGRATED = "Migrated"
    ACTIVE = "Active"
    AUTOSCALING = "Autoscaling"
    NOT_AUTOSCALED = "NotAutoscaled"
    NOT_EXPOSED = "NotExposed"
    ROUTE_ADMITTED = "RouteAdmitted"
    APIS_INSTALLED = "ApisInstalled"
    PAUSED = "Paused"
    HIBERNATED = "Hibernated"
    SCALED_TO_ZERO = "ScaledToZero"
    BEING_DELETED = "BeingDeleted"

    NOT_CREATED = "NotCreated"
    STARTING = "Starting"
    MIGRATING = "Migrating"
    COPYING_DATA = "CopyingData"
    ROLLING_OUT = "RollingOut"
    STOPPING = "Stopping"
    ROUTE_PENDING = "RoutePending"
    METRICS_PENDING = "MetricsPending"
    WAITING_FOR_STORE = "WaitingForStore"
    WAITING_FOR_MIGRATION = "WaitingForMigration"
    WAITING_FOR_COMPONENT = "WaitingForComponent"

    INVALID_SPEC = "InvalidSpec"
    NAME_CONFLICT = "NameConflict"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    KEY_NOT_FOUND = "KeyNotFound"
    INVALID_FAQS = "InvalidFaqs"
    APPLY_REFUSED = "ApplyRefused"
    STORE_FAILED = "StoreFailed"
    STORE_UNREACHABLE = "StoreUnreachable"
    STORAGE_EXPANSION_UNSUPPORTED = "StorageExpansionUnsupported"
    FIELD_CONFLICT = "FieldConflict"
    HOSTNAME_TAKEN = "HostnameTaken"
    ROUTE_REFUSED = "RouteRefused"
    API_NOT_INSTALLED = "ApiNotInstalled"
    METRICS_UNAVAILABLE = "MetricsUnavailable"
    CUSTOM_METRICS_UNAVAILABLE = "CustomMetricsUnavailable"
    SCALED_OBJECT_NOT_READY = "ScaledObjectNotReady"
    ROLLED_BACK = "RolledBack"
    PODS_REFUSED = "PodsRefused"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    CRASH_LOOP = "CrashLoop"
    MIGRATION_FAILED = "MigrationFailed"
    COPY_FAILED = "CopyFailed"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"


@dataclass(frozen=True)
class Meaning:
    says: str
    do: str = ""
    """What a person does about it; empty when nothing has to be done."""


REASONS: Mapping[Reason, Meaning] = {
    Reason.SETTLED: Meaning("Everything is as the resource says, and every replica runs it."),
    Reason.SERVING: Meaning(
        "Every component that answers, which is all but the worker, has at least one available replica, to which its "
        "Service leads."
    ),
    Reason.FOUND: Meaning("Every Secret and ConfigMap that is generated or referred to is there."),
    Reason.STORE_READY: Meaning("The store's StatefulSet is ready, or its Cluster with all instances and databases."),
    Reason.EXTERNAL: Meaning(
        "The store is yours, the Secret with its address is there, and no pod says that it lacks the store."
    ),
    Reason.IN_POSTGRES: Meaning("Vectors are kept in Postgres; there is no store of their own."),
    Reason.MIGRATED: Meaning("Both databases have the tables that the wanted version needs."),
    Reason.ACTIVE: Meaning("Changes of the resource are applied."),
    Reason.AUTOSCALING: Meaning("Every autoscaler has what it scales by."),
    Reason.NOT_AUTOSCALED: Meaning("No component has an autoscaler of the operator's."),
    Reason.NOT_EXPOSED: Meaning("`spec.exposure.type` is None: nothing leads in from outside."),
    Reason.ROUTE_ADMITTED: Meaning("The Ingress or HTTPRoute was taken up by a controller."),
    Reason.APIS_INSTALLED: Meaning("The cluster has every optional API that the resource asks for."),
    Reason.PAUSED: Meaning("`spec.mode` is Paused: what is seen is reported, and nothing is changed."),
    Reason.HIBERNATED: Meaning("`spec.mode` is Hibernated: no pod runs, and all data is kept."),
    Reason.SCALED_TO_ZERO: Meaning(
        "Whoever scales the Deployment named has taken its last pod: KEDA while nobody asks, or you. What needs it is "
        "answered with an error until it has one again."
    ),
    Reason.BEING_DELETED: Meaning(
        "The resource or its namespace is being deleted: nothing is made or changed any more. The message says what "
        "may hold it."
    ),
    Reason.NOT_CREATED: Meaning("The object named is about to be created."),
    Reason.STARTING: Meaning("The store named is not ready yet, or is being changed."),
    Reason.MIGRATING: Meaning("The Job named brings a database to the wanted version."),
    Reason.COPYING_DATA: Meaning(
        "`spec.stores.postgres.mode` has changed, and the Job named copies the data. Until then no component runs."
    ),
    Reason.ROLLING_OUT: Meaning("The Deployment named is replacing, adding or starting pods."),
    Reason.STOPPING: Meaning("The object named, or its pods, finish what they are doing, and then end."),
    Reason.ROUTE_PENDING: Meaning(
        "No controller has taken up the Ingress or HTTPRoute yet. Some controllers never say that they did."
    ),
    Reason.METRICS_PENDING: Meaning(
        "An autoscaler does not know the load of its pods yet: it or they have just been made, as after each rollout."
    ),
    Reason.WAITING_FOR_STORE: Meaning("A step waits until a store is ready."),
    Reason.WAITING_FOR_MIGRATION: Meaning("A step waits until a database has been migrated."),
    Reason.WAITING_FOR_COMPONENT: Meaning("A step waits until the components it calls have been rolled out."),
    Reason.INVALID_SPEC: Meaning(
        "The resource says something that cannot be. What ran before is left as it is.", "Mend the field named."
    ),
    Reason.NAME_CONFLICT: Meaning(
        "An object with a name we need belongs to something else, such as an earlier resource that is being deleted.",
        "Wait until it is gone, delete it, or give the resource another name.",
    ),
    Reason.SECRET_NOT_FOUND: Meaning(
        "A Secret is missing. Only components that read it wait.",
        "Create the Secret named, or name in the resource one that is there; pods follow by themselves.",
    ),
    Reason.CONFIG_MAP_NOT_FOUND: Meaning(
        "A ConfigMap is missing. Only components that read it wait.",
        "Create the ConfigMap named, or name in the resource one that is there; pods follow by themselves.",
    ),
    Reason.KEY_NOT_FOUND: Meaning(
        "A Secret or ConfigMap lacks a key.",
        "Add the key, or name in the resource one that is there; pods follow by themselves. A Secret that the operator "
        "made is to be restored: deleting it makes a new one, and requests fail until every pod has it.",
    ),
    Reason.INVALID_FAQS: Meaning(
        "The FAQs in the ConfigMap named cannot be read. What was read before is kept, and no pod that runs is missed.",
        "Mend the line named; its pods follow by themselves.",
    ),
    Reason.APPLY_REFUSED: Meaning(
        "The API server refused an object: a policy, a quota or the operator's rights.",
        "Mend what the message names; it is tried again by itself.",
    ),
    Reason.STORE_FAILED: Meaning(
        "CloudNativePG says that it cannot go on with the Cluster or Database named.",
        "`kubectl describe` it, and mend what CloudNativePG says of it.",
    ),
    Reason.STORE_UNREACHABLE: Meaning(
        "Pods cannot use the store named; the kind of error is said. Without Redis they go on, and nobody is limited; "
        "without any other store they are not ready.",
        "Bring the store back, or mend its address or password; pods recover by themselves.",
    ),
    Reason.STORAGE_EXPANSION_UNSUPPORTED: Meaning(
        "The disk named cannot grow; the store goes on with the size it has.",
        "Use a StorageClass with `allowVolumeExpansion`, or take the size back.",
    ),
    Reason.FIELD_CONFLICT: Meaning(
        "Somebody keeps changing a field that the operator keeps changing back; it is left alone for ten minutes.",
        "Stop who is named, or say it in the resource.",
    ),
    Reason.HOSTNAME_TAKEN: Meaning(
        "An older resource has the same host name; which of the two answers, the controller decides.",
        "Give one of them another name in `spec.exposure.hostnames`.",
    ),
    Reason.ROUTE_REFUSED: Meaning(
        "A Gateway does not take the HTTPRoute.", "Mend `spec.exposure.parentRefs`, or what the Gateway allows."
    ),
    Reason.API_NOT_INSTALLED: Meaning(
        "The resource asks for a kind of object that this cluster does not know; the rest goes on without it.",
        "Install what the message names, or choose another way in the resource.",
    ),
    Reason.METRICS_UNAVAILABLE: Meaning(
        "An autoscaler does not learn the load of its pods, and leaves their number as it is.",
        "Install metrics-server, or look at what the message says of it.",
    ),
    Reason.CUSTOM_METRICS_UNAVAILABLE: Meaning(
        "An autoscaler is to go by `inFlightStreams`, and the cluster has no `custom.metrics.k8s.io`: it goes by cpu.",
        "Install an adapter that serves `chat_runs_in_flight` of pods, or use mode KEDA.",
    ),
    Reason.SCALED_OBJECT_NOT_READY: Meaning(
        "KEDA does not follow the load by the ScaledObject named, and the number of pods stays as it is. Just after a "
        "start that passes by itself.",
        "Mend what the message says in KEDA's words; see that its operator runs.",
    ),
    Reason.ROLLED_BACK: Meaning(
        "A change made no progress within `spec.rollout.deadline` and was given up: what ran before it runs again.",
        "Mend what the message names in the resource, and any edit makes another attempt; or outside of it, and "
        "`kubectl chatbot retry NAME` does.",
    ),
    Reason.PODS_REFUSED: Meaning(
        "Pods of the object named may not be created: a quota, a policy, a missing ServiceAccount.",
        "Mend what the message names, such as by raising the quota; Kubernetes tries again by itself, less and less "
        "often.",
    ),
    Reason.UNSCHEDULABLE: Meaning(
        "No node can take the pod named.",
        "Add nodes or room, `kubectl uncordon` one that is unschedulable, or lower `components.X.resources` or the "
        "replicas.",
    ),
    Reason.IMAGE_PULL_FAILED: Meaning(
        "The image named cannot be pulled.",
        "Mend `spec.images` or `spec.version`, where neither is set the chart's `images.tag` or `registry`, or the "
        "node's way to the registry.",
    ),
    Reason.CONTAINER_CONFIG_ERROR: Meaning(
        "A container cannot be made: something it mounts or names is not there, or its node cannot make it.",
        "`kubectl describe pod`. Of a memory limit that is too low to begin with: raise `resources.limits.memory`",
    ),
    Reason.CRASH_LOOP: Meaning(
        "A container ends again and again; exit code and last words are in the message.",
        "`kubectl logs --previous`. Of one that was OOMKilled: raise its `resources.limits.memory`",
    ),
    Reason.MIGRATION_FAILED: Meaning(
        "The Job named gave up; the old version goes on serving.",
        "Read `kubectl logs job/NAME`, and mend the cause. In the resource or a Secret that it names, that makes "
        "another attempt by itself; else delete the Job, and a new one is made.",
    ),
    Reason.COPY_FAILED: Meaning(
        "The Job named could not copy the data to where `spec.stores.postgres.mode` says. Where it was, it still is.",
        "Read `kubectl logs job/NAME`, mend the cause and delete the Job; or change the mode back.",
    ),
    Reason.PROGRESS_DEADLINE_EXCEEDED: Meaning(
        "A rollout made no progress within `spec.rollout.deadline`, and no pod says why.",
        "`kubectl describe deployment`",
    ),
}

STUCK: frozenset[Reason] = frozenset(reason for reason in Reason if REASONS[reason].do)
"""What does not pass by waiting alone."""

AT_REST: frozenset[Reason] = frozenset({Reason.PAUSED, Reason.HIBERNATED, Reason.SCALED_TO_ZERO, Reason.BEING_DELETED})
"""What somebody asked for, and what stays so until it is asked for otherwise."""

MISSING: frozenset[Reason] = frozenset({Reason.SECRET_NOT_FOUND, Reason.CONFIG_MAP_NOT_FOUND, Reason.KEY_NOT_FOUND})
"""Inputs that are not there. Other steps do not wait for a step that lacks one: only its readers are blocked."""


def table() -> str:
    """The reasons as a Markdown table."""
    rows = [f"| `{reason}` | {meaning.says} | {meaning.do} |" for reason, meaning in REASONS.items()]
    return "\n".join(["| Reason | It says | What to do |", "| --- | --- | --- |", *rows])
