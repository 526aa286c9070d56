"""`kubectl chatbot restart`: replaces pods as kubectl does it, and waits until the new ones serve."""

import time
from collections.abc import Iterable, Sequence

from chatbot_operator import names
from chatbot_operator.readiness import count, current, deployment_finding, desired, settled
from chatbot_operator.world import Blocked, Manifest, Observed

from chatbot_cli import screen
from chatbot_cli.cluster import operators, resources
from chatbot_cli.cluster.kubectl import Kubectl
from chatbot_cli.errors import CliError

COMPONENTS: tuple[names.Component, ...] = (*names.SERVICE_COMPONENTS, "conversation-worker")
STORES = ("postgres", "redis", "valkey", "weaviate")
LOOK_SECONDS = 1.0
STUCK_SECONDS = 30.0
"""What keeps pods from starting for so long will not pass by waiting."""


def restart(kubectl: Kubectl, name: str, parts: Sequence[str], *, wait: bool, timeout: float) -> None:
    """
    Args:
        timeout: seconds for each component.

    Raises:
        CliError: there is nothing to restart, or its new pods do not start.
    """
    chosen = _chosen(kubectl, name, parts)
    bot = resources.get(kubectl, name)
    if bot.mode == "Hibernated":
        raise CliError(f"{bot.name} hibernates: no pod runs.", f"Wake it: {kubectl.here(f'chatbot resume {bot.name}')}")
    kubectl = kubectl.within(bot.namespace)
    deployments = [names.child(bot.name, part) for part in chosen]
    kubectl.run("rollout", "restart", *(f"deployment/{deployment}" for deployment in deployments))
    operators.warn(kubectl, "Kubernetes replaces the pods all the same.")
    if not wait:
        screen.say(
            "Restarting", f"{', '.join(chosen)}; follow it: {kubectl.here(f'chatbot status {bot.name} --watch')}"
        )
        return
    for part in chosen:
        _wait(kubectl, bot.name, part, timeout)


def _chosen(kubectl: Kubectl, name: str, parts: Iterable[str]) -> list[names.Component]:
    known: dict[str, names.Component] = {part: part for part in COMPONENTS} | {"worker": "conversation-worker"}
    chosen: dict[names.Component, None] = {}
    for part in parts:
        if part in STORES:
            command = kubectl.here(f"rollout restart statefulset/{name}-{part}")
            text = f"{part} is a store with a single pod: everybody waits while it restarts, so this command leaves it."
            raise CliError(text, f"If you mean it: {command}", code=2)
        if part not in known and part != "all":
            raise CliError(f"There is no component {part}.", f"There are: {', '.join(COMPONENTS)}; or all.", code=2)
        chosen |= dict.fromkeys(COMPONENTS if part == "all" else [known[part]])
    return list(chosen)


def _wait(kubectl: Kubectl, bot: str, part: names.Component, timeout: float) -> None:
    began, stuck_since, said = time.monotonic(), None, ""
    with screen.step(part, "replacing its pods") as step:
        while True:
            now = time.monotonic()
            live, observed = _look(kubectl, bot, part)
            if settled(live, observed):
                step.done(_done(desired(live)))
                return
            finding = deployment_finding(part, live, observed)
            stuck_since = (stuck_since or now) if finding else None
            said = finding.message if finding else _progress(live)
            step.note(said)
            if finding and stuck_since is not None and now - stuck_since >= min(STUCK_SECONDS, timeout):
                raise _stuck(kubectl, live, finding)
            if now - began >= timeout:
                raise _late(kubectl, live, said, timeout)
            time.sleep(LOOK_SECONDS)


def _look(kubectl: Kubectl, bot: str, part: names.Component) -> tuple[Manifest, Observed]:
    found = kubectl.list(["Deployment", "ReplicaSet", "Pod"], f"{names.BOT}={bot},{names.COMPONENT}={part}")
    children = tuple(item for item in found if item["kind"] != "Pod")
    observed = Observed(children, tuple(item for item in found if item["kind"] == "Pod"))
    live = observed.child("Deployment", names.child(bot, part))
    if live is None:
        raise CliError(f"Deployment {names.child(bot, part)} is gone.", kubectl.here(f"chatbot explain {bot}"))
    return live, observed


def _progress(live: Manifest) -> str:
    if not current(live):
        return "asked for new pods"
    new, old = count(live, "updatedReplicas"), count(live, "replicas") - count(live, "updatedReplicas")
    return f"{new} of {desired(live)} pods are new" + (f"; {old} old still there" if old > 0 else ", and starting")


def _done(pods: int) -> str:
    return "its pod is new and ready" if pods == 1 else f"all {pods} pods are new and ready"


def _stuck(kubectl: Kubectl, live: Manifest, finding: Blocked) -> CliError:
    undo = kubectl.here(f"rollout undo deployment/{live['metadata']['name']}")
    return CliError(
        "The new pods do not start; the earlier ones go on serving.",
        f"Once mended it goes on by itself. To take the restart back: {undo}",
        [f"{finding.reason}: {finding.message}"],
    )


def _late(kubectl: Kubectl, live: Manifest, said: str, timeout: float) -> CliError:
    name = live["metadata"]["name"]
    text = f"{name} is not done after {timeout:.0f} s; it goes on by itself."
    return CliError(text, f"See how: {kubectl.here(f'rollout status deployment/{name}')}", [said])
