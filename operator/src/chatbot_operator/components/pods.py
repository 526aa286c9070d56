"""The pod that all parts share: it satisfies the *restricted* Pod Security Standard, and stops losing no request."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chatbot_resource.scheduling import Spread
from pydantic import BaseModel

from chatbot_operator import names
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import selector
from chatbot_operator.world import Manifest

USER = 10001
"""User and group of every image."""

PRE_STOP_SECONDS = 5
"""Endpoints need a moment to forget a pod; until then it goes on taking requests."""
CLOSING_SECONDS = 10
"""After the drain: to close connections and export the last spans."""
TMP_SIZE = "128Mi"

SPREAD = tuple(Spread(topology_key=key) for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone"))
"""Of what has several pods, unless the resource says it. `ScheduleAnyway`: an uneven pod is better than none."""


def grace(drain_seconds: int) -> int:
    """Seconds between the request to stop and the kill."""
    return PRE_STOP_SECONDS + drain_seconds + CLOSING_SECONDS


def pod(containers: Sequence[Manifest], volumes: Iterable[Manifest], grace_seconds: int, **more: Any) -> Manifest:
    """A pod's spec."""
    return {
        "automountServiceAccountToken": False,
        # Old-style variables for every Service in the namespace: slow to start with, and names that mean other things.
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        # The kernel keeps from process 1 what it has no handler for yet: a pod that is told to end while its program is
        # still being loaded would stay for the whole time below. So the pod's own pause is process 1.
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": grace_seconds,
        "containers": list(containers),
        "volumes": [*volumes, scratch("tmp")],
        **more,
    }


def container(
    name: str,
    image: str,
    pull_policy: str,
    resources: Mapping[str, Any],
    mounts: Iterable[Manifest],
    **more: Any,
) -> Manifest:
    """A container. Its last words go into its status when it fails, where `kubectl describe` shows them."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": pull_policy,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": dict(resources),
        "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - its own, in its own pod
        **more,
    }


def template(context: Context, part: str, content: str, spec: Manifest) -> Manifest:
    """A pod template, with what the resource gives to every pod.

    Args:
        content: hash of what the pods read, so that another content makes other pods.
    """
    given = context.bot.spec.defaults
    labels = given.pod_labels | selector(context.bot, part)
    annotations = given.pod_annotations | {names.REFERENCES_HASH: content}
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec | _given(context, part)}


def _given(context: Context, part: str) -> Manifest:
    """Where pods may run, and with what they pull: what the operator was told, and what the resource says."""
    defaults = context.bot.spec.defaults
    pull = [*context.settings.image_pull_secrets, *(item.name for item in defaults.image_pull_secrets)]
    fields = {
        "nodeSelector": defaults.node_selector,
        "tolerations": [_plain(item) for item in defaults.tolerations],
        "affinity": _plain(defaults.affinity) if defaults.affinity else {},
        "topologySpreadConstraints": spread(defaults.topology_spread, selector(context.bot, part)),
        "imagePullSecrets": [{"name": name} for name in dict.fromkeys(pull)],
    }
    return {name: value for name, value in fields.items() if value}


def _plain(written: BaseModel) -> Manifest:
    return written.model_dump(by_alias=True, exclude_defaults=True)


def scratch(name: str, size: str = TMP_SIZE) -> Manifest:
    return {"name": name, "emptyDir": {"sizeLimit": size}}


def spread(places: Iterable[Spread], labels: Mapping[str, str]) -> list[Manifest]:
    """How evenly the pods with these labels lie over places."""
    return [
        {
            "maxSkew": item.max_skew,
            "topologyKey": item.topology_key,
            "whenUnsatisfiable": item.when_unsatisfiable,
            "labelSelector": {"matchLabels": dict(labels)},
            # Else the old pods of a rollout would count, and the new ones end up together. Only Deployments have it.
            "matchLabelKeys": ["pod-template-hash"],
        }
        for item in places
    ]


def probes() -> Manifest:
    """Of a service. Liveness asks the process alone: restarting it would not mend a store."""
    private: Manifest = {"port": "private", "scheme": "HTTP"}
    return {
        "startupProbe": {
            "httpGet": {"path": "/livez"} | private,
            "periodSeconds": 1,
            "timeoutSeconds": 2,
            "failureThreshold": 120,
        },
        # A check of a dependency may take 2 s; see chatbot_common.app.
        "readinessProbe": {
            "httpGet": {"path": "/readyz"} | private,
            "periodSeconds": 5,
            "timeoutSeconds": 4,
            "failureThreshold": 2,
        },
        "livenessProbe": {
            "httpGet": {"path": "/livez"} | private,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
    }
