"""Who may talk to whom, as the cluster's own enforcer judges it: each part, the operator, who scrapes, and strangers.

That something is not reached is only worth something where somebody else does reach it: strangers are the proof.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from chatbot_operator.components import addresses
from chatbot_resource.profiles import PRIVATE_NETWORKS

from tests.e2e.cluster.cluster import Cluster, wait_for
from tests.e2e.cluster.conftest import BOT, NAMESPACE, SYSTEM
from tests.e2e.cluster.looking import edit

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

CONNECT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def connects(target):
    try:
        socket.create_connection(tuple(target), timeout=3).close()
    except ConnectionRefusedError:
        return "closed"
    except OSError:
        return "silent"
    return "open"

targets = json.loads(sys.argv[1])
print(json.dumps(list(ThreadPoolExecutor(len(targets)).map(connects, targets))))
"""
Target = tuple[str, int]
PARTS = ("gateway", "auth", "chat", "conversation", "conversation-worker")
SERVICES: dict[str, Target] = {
    name: (f"{BOT}-{name}.{NAMESPACE}", 80) for name in ("gateway", "auth", "chat", "conversation")
}
STORES: dict[str, Target] = {
    "postgres": (f"{BOT}-postgres.{NAMESPACE}", 5432),
    "redis": (f"{BOT}-redis.{NAMESPACE}", 6379),
    "weaviate": (f"{BOT}-weaviate.{NAMESPACE}", 8080),
    "weaviate-grpc": (f"{BOT}-weaviate.{NAMESPACE}", 50051),
}
REACHES = {
    "gateway": {"auth", "chat", "conversation", "redis"},
    "auth": {"postgres"},
    "chat": {"auth", "conversation", "redis"},
    "conversation": {"auth", "postgres", "weaviate", "weaviate-grpc"},
    "conversation-worker": {"postgres", "weaviate", "weaviate-grpc"},
}
"""Of the platform itself."""
PRIVATE = {f"{part}:private" for part in PARTS}
"""Probes and metrics."""
STRANGERS: dict[str, dict[str, str]] = {
    "stranger": {},
    "prometheus": {"app.kubernetes.io/name": "prometheus"},
    "watcher": {"role": "watcher"},
}
"""Pods that are none of the bot's, and their labels."""
METADATA = "169.254.169.254"
"""Where clouds tell a machine its credentials, at port 80."""


def pod_address(cluster: Cluster, chosen: str) -> str:
    """Of the one pod that runs and stays."""
    pods = cluster.get("-n", NAMESPACE, "pods", "-l", chosen, "--field-selector=status.phase=Running")["items"]
    [pod] = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    address: str = pod["status"]["podIP"]
    return address


def node_address(cluster: Cluster) -> str:
    addresses = cluster.get("nodes")["items"][0]["status"]["addresses"]
    return next(str(item["address"]) for item in addresses if item["type"] == "InternalIP")


@pytest.fixture(scope="module")
def strangers(cluster: Cluster, bot: None) -> Iterator[None]:
    spec = cluster.get("-n", NAMESPACE, "deploy", f"{BOT}-gateway")["spec"]["template"]["spec"]
    container = {key: spec["containers"][0][key] for key in ("image", "imagePullPolicy", "securityContext")}
    container |= {"name": "stranger", "command": ["python", "-c", "import time; time.sleep(600)"]}
    names = [f"pod/{name}" for name in STRANGERS]
    for name, labels in STRANGERS.items():
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"stranger": name, **labels}},
            "spec": {"containers": [container], "securityContext": spec["securityContext"]},
        }
        cluster.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(pod))
    try:
        cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", *names, "--timeout=60s")
        yield
    finally:
        cluster.kubectl("-n", NAMESPACE, "delete", *names, "--grace-period=0", "--force")


def located(cluster: Cluster) -> dict[str, Target]:
    """Name of each → where it is now."""
    node, stranger = node_address(cluster), pod_address(cluster, "stranger=stranger")
    own = f"app.kubernetes.io/instance={BOT},app.kubernetes.io/component="
    return {
        **SERVICES,
        **STORES,
        **{f"{part}:private": (pod_address(cluster, own + part), 9090) for part in PARTS},
        "api": ("kubernetes.default.svc", 443),
        "metadata:443": (METADATA, 443),
        "metadata:80": (METADATA, 80),
        "neighbour:443": (stranger, 443),
        "neighbour:80": (stranger, 80),
        "node:443": (node, 443),
        "node:444": (node, 444),
    }


def answered(cluster: Cluster, namespace: str, pod: str, targets: Mapping[str, Target]) -> set[str]:
    """Which targets a pod hears from: a policy leaves it in silence, a port where nothing listens says so."""
    command = ("python", "-c", CONNECT, json.dumps(list(targets.values())))
    found = json.loads(cluster.kubectl("-n", namespace, "exec", pod, "--", *command))
    return {name for name, state in zip(targets, found, strict=True) if state != "silent"}


def everybody(cluster: Cluster, targets: Mapping[str, Target]) -> dict[str, set[str]]:
    """What each hears from, asked at once: what is closed does not answer, and each waits for it."""
    asked = {part: (NAMESPACE, f"deploy/{BOT}-{part}") for part in PARTS}
    asked |= {name: (NAMESPACE, f"pod/{name}") for name in STRANGERS}
    asked["operator"] = (SYSTEM, "deploy/chatbot-operator")
    with ThreadPoolExecutor(len(asked)) as threads:
        found = threads.map(lambda place: answered(cluster, place[0], place[1], targets), asked.values())
    # Nothing keeps a pod from itself.
    return {name: heard - {f"{name}:private"} for name, heard in zip(asked, found, strict=True)}


def ways(cluster: Cluster, part: str) -> list[Any]:
    """Out of a part."""
    policy = cluster.get("-n", NAMESPACE, "networkpolicy", f"{BOT}-{part}")
    found: list[Any] = policy["spec"]["egress"]
    return found


def world(cluster: Cluster) -> set[str]:
    """Of the targets the one that is public: a node's own address, where it has one."""
    address = ip_address(node_address(cluster))
    private = any(address in ip_network(net) for net in PRIVATE_NETWORKS if ":" not in net)
    return set() if private else {"node:443"}


@pytest.mark.usefixtures("strangers")
def test_each_reaches_what_it_needs_and_nothing_else(cluster: Cluster) -> None:
    found = everybody(cluster, located(cluster))
    # Models are out in the world, and nothing else is.
    assert {part: found[part] for part in PARTS} == REACHES | {"chat": REACHES["chat"] | world(cluster)}
    # Also where the node has a private address, so that there is nothing public to try.
    assert addresses.PUBLIC in ways(cluster, "chat")
    # A stranger is nobody's prisoner: whatever can be reached at all, it reaches, and of the bot the gateway alone.
    for name in ("stranger", "watcher"):
        assert {"api", "node:443", "node:444", "neighbour:443", "neighbour:80"} <= found[name]
        assert found[name] & (PRIVATE | {*SERVICES, *STORES}) == {"gateway"}
    # Who scrapes, and the operator, which asks pods why they are not ready.
    for name in ("prometheus", "operator"):
        assert found[name] & (PRIVATE | {*SERVICES, *STORES}) == {"gateway"} | PRIVATE


@pytest.mark.usefixtures("strangers")
def test_the_resource_says_who_scrapes_and_what_is_open(cluster: Cluster) -> None:
    """A name may lead anywhere, at its port, but not to where clouds tell credentials."""
    node = {"ipBlock": {"cidr": f"{node_address(cluster)}/32"}}
    network: dict[str, Any] = {
        "metricsFrom": [{"podSelector": {"matchLabels": STRANGERS["watcher"]}}],
        "egress": [{"to": [node], "ports": [{"port": 444}]}],
    }
    edit(cluster, {"network": network, "telemetry": {"otlp": {"endpoint": "http://collector.example.com"}}})
    try:
        # Pods that were replaced drain with the ways that they had.
        wait_for("the world to be closed", lambda: addresses.PUBLIC not in ways(cluster, "chat"))
        found = everybody(cluster, located(cluster))
    finally:
        edit(cluster, {"network": None, "telemetry": None})
    opened = {"node:444", "neighbour:80"}
    assert {part: found[part] for part in PARTS} == {part: REACHES[part] | opened for part in PARTS}
    reached = {name: found[name] & PRIVATE for name in (*STRANGERS, "operator")}
    assert reached == {"stranger": set(), "prometheus": set(), "watcher": PRIVATE, "operator": PRIVATE}
