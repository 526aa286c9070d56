"""The one sequence: read, observe, create missing Secrets, plan, apply what moved, prune, write the status.

It never asks what has happened, only what should be. For an unchanged world it sends no write at all.
"""

import datetime
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

import structlog
from chatbot_resource.model import KIND, ChatbotDeployment
from chatbot_resource.status import RolledBack, Status
from opentelemetry.trace import NoOpTracer, Tracer
from pydantic import ValidationError

from chatbot_operator import events, tracing
from chatbot_operator.applying import Applier, Fought, NameTaken, Taken
from chatbot_operator.asking import serving
from chatbot_operator.cluster import Cluster
from chatbot_operator.components.context import Context
from chatbot_operator.components.moving import noted
from chatbot_operator.components.revisions import Effective
from chatbot_operator.components.rotation import Rotation
from chatbot_operator.faults import AlreadyExists, Conflict, NamespaceGoing, NotFound, Refused
from chatbot_operator.hosts import taken_hosts
from chatbot_operator.kinds import AUTOSCALERS, DISK, OPTIONAL, WRITTEN
from chatbot_operator.known import Known
from chatbot_operator.metrics import Metrics
from chatbot_operator.observing import observe
from chatbot_operator.outside import Outside
from chatbot_operator.pod_findings import waits_for_disk
from chatbot_operator.queue import Key, jitter
from chatbot_operator.reachability import doing_without, runs_unready
from chatbot_operator.readiness import lacks_figures, lacks_pods
from chatbot_operator.reasons import Reason
from chatbot_operator.referrers import Referrers
from chatbot_operator.settings import Settings
from chatbot_operator.world import Blocked, Manifest, Name, Observed, Reference, Step

MISSING_SECONDS = 10.0
"""What does not exist has no label to be watched by, so it is looked for."""
LACKING_SECONDS = 10.0
"""That a pod was refused is only told by an Event, and Events are not watched."""
UNREADY_SECONDS = 10.0
"""Why a pod is not ready only the pod itself tells, and only when it is asked."""
PASSING_SECONDS = 20.0
"""What passes by itself within minutes is told when it does not."""
REFUSED_SECONDS = 30.0
HOSTS_SECONDS = 60.0
CONFLICT_SECONDS = 1.0
MAX_CONFLICTS = 6
"""In a row, each of which doubles the pause before the next look: so long somebody else writes all the time."""
COMPLETE = 24
"""Resyncs until a resource that nothing happens to is looked at completely, see resync.py."""
MAX_MESSAGE = 1000
MAKERS = ("ScaledObject",)
"""Kinds whose controllers make something of them that goes first: KEDA's HorizontalPodAutoscaler would act on."""

log = structlog.get_logger("reconcile")


@dataclass(frozen=True)
class Rules:
    """The pure part, see plan.py and status.py. A test of the mechanics brings its own."""

    references: Callable[[ChatbotDeployment], frozenset[Reference]]
    missing_secrets: Callable[[ChatbotDeployment, Observed], list[Manifest]]
    effective: Callable[[ChatbotDeployment, Observed, Status | None, Settings], Effective]
    plan: Callable[[ChatbotDeployment, Observed, Settings, RolledBack | None], list[Step]]
    wanted: Callable[[Iterable[Step], Observed], set[Name]]
    rotate: Callable[[Context, str], Rotation]
    status_of: Callable[
        [ChatbotDeployment, list[Step], Observed, Settings, Status | None, str, RolledBack | None], Status
    ]
    invalid: Callable[[Manifest, ValidationError, Settings, Status | None, str], Status]


@dataclass
class Pass:
    """What one reconcile has done so far."""

    key: Key
    writes: int = 0
    refused: bool = False
    again: float | None = None
    """Seconds until a rotation has something to do."""
    no_secrets: Blocked | None = None
    """Why generated Secrets could not be made."""
    taken: list[Taken] = field(default_factory=list)
    began: int = field(default_factory=time.time_ns)
    parts: list[tracing.Part] = field(default_factory=list)


class Reconciler:
    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        metrics: Metrics,
        referrers: Referrers,
        rules: Rules,
        known: Known | None = None,
        apis: Callable[[], frozenset[str]] = frozenset,
        tracer: Tracer | None = None,
        outside: Outside | None = None,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._metrics = metrics
        self._referrers = referrers
        self._rules = rules
        self._known = known or Known()
        self._apis = apis
        self._tracer = tracer or NoOpTracer()
        self._outside = outside or Outside(self._known, lambda _: None)
        self._events = events.Events(cluster)
        self._appliers: dict[Key, Applier] = {}
        self._phases: dict[Key, str] = {}
        self._conflicts: dict[Key, int] = {}
        """Since a reconcile came to its end."""

    async def __call__(self, key: Key) -> float | None:
        """Reconcile one resource; the work of queue.py.

        Returns:
            Seconds until it wants to be looked at again without an event; None when it is gone.
        """
        done = Pass(key)
        with structlog.contextvars.bound_contextvars(namespace=key[0], bot=key[1]), self._metrics.seconds.time():
            try:
                result, again = await self._reconcile(done)
            except (NamespaceGoing, NotFound):
                # Deleted while we were at work; what was made in the race is deleted by its owner reference.
                result, again = "gone", MISSING_SECONDS
            except Conflict:
                # Something was changed after it was read: look again.
                result, again = "changed", CONFLICT_SECONDS * 2.0 ** self._conflict(key)
            except Exception as error:
                self._metrics.reconciles.labels("error").inc()
                self._metrics.errors.labels(type(error).__name__).inc()
                self._known.forget(key)
                self._trace(done, "error")
                raise
            else:
                self._conflicts.pop(key, None)
        if result != "unchanged":
            self._known.forget(key)
        self._metrics.reconciles.labels(result).inc()
        self._trace(done, result)
        return again

    def _trace(self, done: Pass, result: str) -> None:
        if done.writes:
            tracing.tell(self._tracer, *done.key, result, done.writes, done.began, done.parts)

    async def _reconcile(self, done: Pass) -> tuple[str, float | None]:
        raw = await self._cluster.get(KIND, *done.key)
        if raw is None:
            self._forget(done.key)
            return "gone", None
        if raw["metadata"].get("deletionTimestamp"):
            return "gone", self._resync()
        previous = _previous(raw)
        try:
            bot = ChatbotDeployment.model_validate(raw, by_alias=True, by_name=False)
        except ValidationError as error:
            told = self._rules.invalid(raw, error, self._settings, previous, _now())
            done.writes += await self._report(raw, previous, told)
            return "invalid", self._resync()
        return await self._converge(done, raw, bot, previous)

    async def _converge(
        self, done: Pass, raw: Manifest, bot: ChatbotDeployment, previous: Status | None
    ) -> tuple[str, float | None]:
        uid = raw["metadata"]["uid"]
        references = self._rules.references(bot)
        self._referrers.refer(done.key, references)
        version = raw["metadata"]["resourceVersion"]
        others = self._known.others(done.key, uid, version)
        self._known.begin(done.key)
        paused = bot.spec.mode == "Paused"
        asked = doing_without(bot)
        look = await observe(
            self._cluster, done.key, uid, references, others, self._apis(), label=not paused, asked=asked
        )
        chosen = self._rules.effective(bot, look.observed, previous, self._settings)
        if chosen.rolled_back:
            references |= self._rules.references(chosen.bot)
            self._referrers.refer(done.key, references)
            asked = doing_without(chosen.bot)
            look = await observe(self._cluster, done.key, uid, references, None, self._apis(), asked=asked)
        self._outside.note(done.key, serving(look.observed.pods, asked), look.observed.answers)
        hosts = await taken_hosts(self._cluster, chosen.bot, self._settings.watch_namespaces, self._apis())
        observed = replace(look.observed, hosts=hosts, data=noted(raw.get("status")), at=_now())
        if paused:
            steps = self._rules.plan(bot, observed, chosen.settings, None)
        else:
            observed, steps = await self._act(done, raw, chosen, observed)
        status = self._rules.status_of(
            chosen.bot, steps, observed, chosen.settings, previous, _now(), chosen.rolled_back
        )
        done.writes += await self._report(raw, previous, status)
        if not done.writes:
            self._known.settled(done.key, {uid: version, **look.versions}, look.others)
        return self._result(done, observed)

    async def _act(
        self, done: Pass, raw: Manifest, chosen: Effective, observed: Observed
    ) -> tuple[Observed, list[Step]]:
        """Make what is missing, apply what moved, delete what is left over."""
        observed = await self._create_secrets(done, chosen.bot, observed)
        observed = await self._rotate(done, chosen.bot, observed)
        steps = self._rules.plan(chosen.bot, observed, chosen.settings, chosen.rolled_back)
        if done.no_secrets:
            steps = [replace(step, blocked=done.no_secrets) if step.name == "secrets" else step for step in steps]
        steps = await self._apply(done, self._applier(done.key, raw["metadata"]["uid"]), steps, observed)
        for taken in done.taken:
            await self._events.taken_back(raw, taken)
        return observed, steps

    def _result(self, done: Pass, observed: Observed) -> tuple[str, float]:
        if done.refused:
            return "refused", REFUSED_SECONDS * jitter()
        result = "changed" if done.writes else "unchanged"
        if None in observed.references.values():
            return result, MISSING_SECONDS * jitter()
        if any(map(lacks_pods, observed.children)):  # nothing of ours changes when one is refused
            return result, LACKING_SECONDS * jitter()
        if any(map(runs_unready, observed.pods)):
            return result, UNREADY_SECONDS * jitter()
        if _passing(observed):
            return result, PASSING_SECONDS * jitter()
        if observed.hosts:  # whoever has them says nothing to us when it lets them go
            return result, HOSTS_SECONDS * jitter()
        return result, min(self._resync() * (1 if done.writes else COMPLETE), done.again or math.inf)

    async def _create_secrets(self, done: Pass, bot: ChatbotDeployment, observed: Observed) -> Observed:
        """Generated once. One that is there is never written over."""
        made = []
        for manifest in self._rules.missing_secrets(bot, observed):
            name = manifest["metadata"]["name"]
            try:
                made.append(await self._cluster.create(manifest))
                done.writes += 1
            except AlreadyExists as error:
                done.refused = True
                log.warning("Secret exists without our labels", secret=name, error=str(error))
            except Refused as refused:
                done.no_secrets = _refusal(done, "Secret", name, refused)
        return replace(observed, children=(*observed.children, *made))

    async def _rotate(self, done: Pass, bot: ChatbotDeployment, observed: Observed) -> Observed:
        """One step of a rotation that is due; who reads the Secret is rolled by what it says then."""
        rotation = self._rules.rotate(Context(bot, observed, self._settings), _now())
        done.again = rotation.again
        if rotation.patch is None:
            return observed
        metadata = rotation.patch["metadata"]
        try:
            written = await self._cluster.patch("Secret", metadata["namespace"], metadata["name"], rotation.patch)
        except Refused as refused:
            done.no_secrets = _refusal(done, "Secret", metadata["name"], refused)
            return observed
        done.writes += 1
        log.info("rotated", secret=metadata["name"])
        before = observed.child("Secret", metadata["name"])
        kept = (item for item in observed.children if item is not before)
        return replace(observed, children=(*kept, {"apiVersion": "v1", "kind": "Secret"} | written))

    async def _apply(self, done: Pass, applier: Applier, steps: list[Step], observed: Observed) -> list[Step]:
        """The steps again, those that were refused as blocked ones."""
        # Before anything else: an autoscaler would undo what is applied next.
        await self._prune(done, applier.owner, steps, observed, AUTOSCALERS)
        steps = [step if step.blocked else await self._apply_step(done, applier, step, observed) for step in steps]
        # Last: pods may use a configuration until the new one has been applied.
        await self._prune(
            done, applier.owner, steps, observed, [kind for kind in (*WRITTEN, *OPTIONAL) if kind not in AUTOSCALERS]
        )
        return steps

    async def _apply_step(self, done: Pass, applier: Applier, step: Step, observed: Observed) -> Step:
        blocked: Blocked | None = None
        before, began = done.writes, time.time_ns()
        for wanted in step.manifests:
            kind, name = wanted["kind"], wanted["metadata"]["name"]
            if kind in MAKERS and not _may_be_judged(name, observed):
                continue
            try:
                wrote = await applier.settle(wanted, observed.child(kind, name))
            except NameTaken as taken:
                blocked = blocked or Blocked(Reason.NAME_CONFLICT, str(taken))
            except Fought as fought:
                blocked = blocked or Blocked(Reason.FIELD_CONFLICT, str(fought))
            except Refused as refused:
                blocked = blocked or _refusal(done, kind, name, refused)
            else:
                done.writes += bool(wrote)
                done.taken += [wrote] if isinstance(wrote, Taken) else []
        done.refused |= blocked is not None
        if written := done.writes - before:
            done.parts.append(tracing.Part(step.name, written, began))
        return replace(step, blocked=blocked) if blocked else step

    async def _prune(self, done: Pass, owner: str, steps: list[Step], observed: Observed, kinds: Iterable[str]) -> None:
        """Delete what this resource owns and no longer wants."""
        wanted = self._rules.wanted(steps, observed)
        unwanted = [live for live in observed.children if live["kind"] in kinds and _is_left_over(live, owner, wanted)]
        for live in unwanted:
            kind, name = live["kind"], live["metadata"]["name"]
            try:
                await self._cluster.delete(live, "Foreground" if kind in MAKERS else "Background")
                done.writes += 1
                log.info("pruned", kind=kind, name=name)
            except Refused as refused:
                _refusal(done, kind, name, refused)

    async def _report(self, raw: Manifest, previous: Status | None, status: Status) -> bool:
        """Write the status if it says something new."""
        key = (raw["metadata"]["namespace"], raw["metadata"]["name"])
        self._count_phase(key, status.phase)
        if status == _previous(raw, "forbid"):
            return False
        # With the uid: never on another resource that has taken the name meanwhile.
        uid = {"uid": raw["metadata"]["uid"]}
        written = _instead(raw.get("status") or {}, status.model_dump(mode="json", by_alias=True))
        await self._cluster.patch(KIND, *key, {"metadata": uid, "status": written}, "status")
        await self._events.told(raw, previous, status)
        return True

    def _conflict(self, key: Key) -> int:
        """How many there were in a row before this one."""
        before = self._conflicts.get(key, 0)
        self._conflicts[key] = min(before + 1, MAX_CONFLICTS)
        return before

    def _applier(self, key: Key, uid: str) -> Applier:
        applier = self._appliers.get(key)
        if applier is None or applier.owner != uid:
            applier = self._appliers[key] = Applier(self._cluster, self._metrics, uid)
        return applier

    def _forget(self, key: Key) -> None:
        self._appliers.pop(key, None)
        self._referrers.refer(key, ())
        self._outside.note(key, (), {})
        self._count_phase(key, None)

    def _count_phase(self, key: Key, phase: str | None) -> None:
        old = self._phases.pop(key, None)
        if old:
            self._metrics.resources.labels(old).dec()
            self._metrics.resource_phase.remove(*key, old)
        if phase:
            self._phases[key] = phase
            self._metrics.resources.labels(phase).inc()
            self._metrics.resource_phase.labels(*key, phase).set(1)

    def _resync(self) -> float:
        return self._settings.resync_seconds * jitter()


def _may_be_judged(name: str, observed: Observed) -> bool:
    """KEDA's webhook goes by what it saw a moment ago: it refuses what is for a Deployment that we have only just made,
    or one that had an autoscaler of ours until now. Their events lead to another look."""
    return observed.child("Deployment", name) is not None and observed.child("HorizontalPodAutoscaler", name) is None


def _passing(observed: Observed) -> bool:
    """Whether something is too young to be told."""
    at = observed.at
    return any(waits_for_disk(pod, at) for pod in observed.pods) or any(
        lacks_figures(item, at) for item in observed.children
    )


def _refusal(done: Pass, kind: str, name: str, refused: Refused) -> Blocked:
    """Says so in the log, and in the status where the step is told by it. The others go on."""
    log.warning("refused", kind=kind, name=name, error=str(refused))
    done.refused = True
    reason = Reason.STORAGE_EXPANSION_UNSUPPORTED if kind == DISK else Reason.APPLY_REFUSED
    return Blocked(reason, f"{kind} {name}: {refused}"[:MAX_MESSAGE])


def _is_left_over(live: Manifest, owner: str, wanted: set[Name]) -> bool:
    """What has no owner is kept on purpose; what has another is not ours to delete."""
    metadata = live["metadata"]
    owned = any(reference["uid"] == owner for reference in metadata.get("ownerReferences") or [])
    return owned and (live["kind"], metadata["name"]) not in wanted and not metadata.get("deletionTimestamp")


def _previous(raw: Manifest, extra: Literal["ignore", "forbid"] = "ignore") -> Status | None:
    """What was written last. Fields that only another version knows are passed over, or make it none."""
    try:
        return Status.model_validate(raw["status"], extra=extra)
    except (KeyError, ValidationError):  # never written, or with values that are not known here
        return None


def _instead(old: Manifest, new: Manifest) -> Manifest:
    """What makes `new` of `old` when merged: fields that a newer operator or a person has left are taken away."""
    both = {key: _instead(old[key], value) for key, value in new.items() if _are_maps(old.get(key), value)}
    return dict.fromkeys(old.keys() - new.keys()) | new | both


def _are_maps(*values: object) -> bool:
    return all(isinstance(value, dict) for value in values)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
