"""What an edit would make of a bot's children: the operator's own plan against what is there. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from chatbot_operator import plan as operator
from chatbot_operator import staying
from chatbot_operator.components import conversation, secrets
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import component_of
from chatbot_operator.drift import differences, show
from chatbot_operator.kinds import AUTOSCALERS
from chatbot_operator.settings import Settings
from chatbot_operator.world import Blocked, Manifest, Name, Observed, Step
from chatbot_resource.model import ChatbotDeployment

from chatbot_cli.cluster.comparing import going, pair, shown

Verb = Literal["create", "change", "replace", "delete"]
WORKLOADS = ("Deployment", "StatefulSet")
TEMPLATE = "spec.template."


@dataclass(frozen=True)
class Change:
    """What would happen to one child. `before` and `after` hold nothing secret; `{}` where there is nothing."""

    verb: Verb
    kind: str
    name: str
    part: str
    """Component or store."""
    before: Manifest
    after: Manifest
    note: str = ""


@dataclass(frozen=True)
class Restart:
    """Pods that would be replaced, ended or started, of one workload."""

    workload: str
    part: str
    pods: tuple[str, ...]
    """Names of the pods there are now."""
    what: Literal["replaced", "ended", "started", "scaled"]
    why: tuple[str, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether nothing serves while the pod is replaced."""
        return self.what == "replaced" and self.workload.startswith("StatefulSet") and len(self.pods) == 1


@dataclass(frozen=True)
class Wait:
    """A step that is not taken at once, or cannot be computed yet."""

    part: str
    """Component, store or database."""
    blocked: Blocked
    known: bool
    """Whether what it would do is among the changes."""


@dataclass(frozen=True)
class Preview:
    changes: tuple[Change, ...]
    unchanged: int
    restarts: tuple[Restart, ...]
    waits: tuple[Wait, ...]
    workloads: tuple[Manifest, ...] = field(repr=False)
    """Every Deployment, StatefulSet and autoscaler as it is to be, with all defaults in it."""


def preview(bot: ChatbotDeployment, uid: str, observed: Observed, settings: Settings) -> Preview:
    """
    Args:
        bot: the resource after the edit.
        uid: of the live one; what has another owner is not touched.
        observed: the world as it is now.
    """
    made = [_as_if_made(item) for item in secrets.missing(bot, observed)]
    steps = operator.plan(bot, replace(observed, children=(*observed.children, *made)), settings.at(bot.spec.version))
    wanted = [item for step in steps for item in step.manifests]
    anew = {name for step in steps for name in step.anew}
    changes = [*map(_created, made), *_wanted(wanted, {_name(item) for item in made}, anew, observed)]
    changes = [_renamed(change) if made and _versioned(change.after) else change for change in changes]
    replaced = {(change.kind, change.before["metadata"]["name"]) for change in changes if change.before}
    changes += _gone(steps, uid, observed, replaced)
    return Preview(
        changes=tuple(change for change in changes if change.before != change.after),
        unchanged=sum(change.before == change.after for change in changes),
        restarts=tuple(_restarts(changes, observed)),
        waits=tuple(dict.fromkeys(_waits(bot, steps, observed, settings))),
        workloads=tuple(item for item in wanted if item["kind"] in (*WORKLOADS, *AUTOSCALERS)),
    )


def _as_if_made(secret: Manifest) -> Manifest:
    return secret | {"metadata": secret["metadata"] | {"uid": ""}}


def _created(item: Manifest) -> Change:
    return Change("create", *_name(item), component_of(item), {}, shown(item))


def _renamed(change: Change) -> Change:
    """What is named by its content: settings hold public keys, and those of Secrets to be made are made up here."""
    return replace(change, note=f"{change.note} (its name will be another: keys are made first)".strip())


def _wanted(wanted: Iterable[Manifest], made: set[Name], anew: set[Name], observed: Observed) -> Iterable[Change]:
    """Each child once; a ConfigMap may be wanted by several steps, and a Secret to be made is shown as such already.

    Args:
        anew: Jobs that have not begun or have failed, and go to be made as the resource says then.
    """
    for item in {_name(item): item for item in wanted}.values():
        kind, name = _name(item)
        live = observed.child(kind, name)
        if (kind, name) in made:
            continue
        if live is not None and (kind, name) in anew:
            yield Change("replace", kind, name, component_of(item), *pair(live, item), "deleted, and made anew")
        elif live is not None:
            # What is immutable and has the name is what is wanted.
            before, after = (shown(item), shown(item)) if _versioned(item) else pair(live, item)
            yield Change("change", kind, name, component_of(item), before, after)
        elif old := _predecessor(item, observed):
            before, after = pair(old, item)
            yield Change(
                "replace", kind, name, component_of(item), before, after, f"in place of {old['metadata']['name']}"
            )
        else:
            yield _created(item)


def _versioned(item: Manifest) -> bool:
    """What never changes: another content is another object, and the old one goes."""
    return item["kind"] == "Job" or bool(item.get("immutable"))


def _predecessor(item: Manifest, observed: Observed) -> Manifest | None:
    """What said the same before, under another name; the newest of them."""
    kind, part = item["kind"], component_of(item)
    if not _versioned(item):
        return None
    live = [other for other in observed.children if other["kind"] == kind and component_of(other) == part]
    return max(live, key=lambda other: str(other["metadata"].get("creationTimestamp")), default=None)


def _gone(steps: list[Step], uid: str, observed: Observed, replaced: set[Name]) -> Iterable[Change]:
    """What is owned by the resource and no longer wanted, once every step has been taken that is known."""
    taken = [replace(step, blocked=None) if step.manifests else step for step in steps]
    stay = staying.wanted(taken, observed)
    in_use = staying.keep(observed)
    named = {_name(item) for step in taken for item in step.manifests}
    for live in observed.children:
        name = _name(live)
        later = name in in_use and name not in named
        if live["kind"] == "ReplicaSet" or not _owned(live, uid) or name in named or name in replaced:
            continue
        if name not in stay or (later and live["kind"] != "ConfigMap"):
            note = "once no pod uses it" if later else ""
            yield Change("delete", *name, component_of(live), going(live), {}, note)


def _owned(live: Manifest, uid: str) -> bool:
    return any(reference["uid"] == uid for reference in live["metadata"].get("ownerReferences") or [])


def _waits(bot: ChatbotDeployment, steps: list[Step], observed: Observed, settings: Settings) -> Iterable[Wait]:
    yield from (_wait(step, step.blocked) for step in steps if step.blocked)
    if bad := conversation.bad_faqs(Context(bot, observed, settings)):
        yield Wait("conversation-worker", bad, known=True)


def _wait(step: Step, blocked: Blocked) -> Wait:
    workers = (component_of(item) for item in step.manifests if item["kind"] in (*WORKLOADS, "Job"))
    part = next(workers, step.name)
    return Wait(part, blocked, bool(step.manifests))


def _restarts(changes: Iterable[Change], observed: Observed) -> Iterable[Restart]:
    for change in changes:
        if change.kind not in WORKLOADS or change.before == change.after:
            continue
        pods = _pods(change, observed)
        workload = f"{change.kind} {change.name}"
        if change.verb in ("create", "delete"):
            yield Restart(workload, change.part, pods, "started" if change.verb == "create" else "ended")
        elif why := tuple(_why(change)):
            yield Restart(workload, change.part, pods, "replaced", why)
        elif how := _scaled(change):
            yield Restart(
                workload, change.part, pods, "scaled" if change.after["spec"]["replicas"] else "ended", (how,)
            )


def _scaled(change: Change) -> str:
    """Empty where the number stays or is an autoscaler's."""
    was, count = (side["spec"].get("replicas") for side in (change.before, change.after))
    return "" if count is None or count == was else f"to {count}" if was is None else f"from {was} to {count}"


def _pods(change: Change, observed: Observed) -> tuple[str, ...]:
    live = (pod for pod in observed.pods if component_of(pod) == change.part)
    running = (pod for pod in live if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"))
    return tuple(sorted(pod["metadata"]["name"] for pod in running if not pod["metadata"].get("deletionTimestamp")))


def _why(change: Change) -> Iterable[str]:
    """What of the pods differs, in a word each."""
    before, after = ({"spec": {"template": side["spec"].get("template")}} for side in (change.before, change.after))
    paths = {show(path) for one, other in ((after, before), (before, after)) for path in differences(one, other)}
    return dict.fromkeys(_word(path.removeprefix(TEMPLATE)) for path in sorted(paths))


def _word(path: str) -> str:
    words = {
        ".image": "image",
        "configMap.name": "settings",
        "references-hash": "a Secret or ConfigMap it reads",
        ".resources": "resources",
        "volumes": "what it mounts",
        "volumeMounts": "what it mounts",
        "env": "environment",
    }
    return next((word for part, word in words.items() if part in path), path)


def _name(item: Manifest) -> Name:
    return item["kind"], item["metadata"]["name"]
