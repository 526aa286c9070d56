"""The pod that all parts share: it satisfies the *restricted* Pod Security Standard, and stops losing no request."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chatbot_resource.model import ChatbotDeployment

from chatbot_operator import names
from chatbot_operator.components.metadata import selector
from chatbot_operator.world import Manifest

USER = 10001
"""User and group of every image."""

PRE_STOP_SECONDS = 5
"""Endpoints need a moment to forget a pod; until then it goes on taking requests."""
CLOSING_SECONDS = 10
"""After the drain: to close connections and export the last spans."""
TMP_SIZE = "128Mi"

TOPOLOGY_KEYS = ("kubernetes.io/hostname", "topology.kubernetes.io/zone")


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


def template(bot: ChatbotDeployment, part: str, content: str, spec: Manifest) -> Manifest:
    """A pod template; `content` is the hash of what the pods read, so that another content makes other pods."""
    return {
        "metadata": {"labels": selector(bot, part), "annotations": {names.REFERENCES_HASH: content}},
        "spec": spec,
    }


def scratch(name: str, size: str = TMP_SIZE) -> Manifest:
    return {"name": name, "emptyDir": {"sizeLimit": size}}


def spread(bot: ChatbotDeployment, part: str) -> list[Manifest]:
    """Over hosts and zones where there are several. `ScheduleAnyway`: an uneven pod is better than none."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector(bot, part)},
            # Else the old pods of a rollout would count, and the new ones end up together.
            "matchLabelKeys": ["pod-template-hash"],
        }
        for key in TOPOLOGY_KEYS
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
