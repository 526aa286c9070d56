"""The one sequence: read, observe, create missing Secrets, plan, apply what moved, prune, write the status.

It never asks what has happened, only what should be. For an unchanged world it sends no write at all.
"""

from collections.abc import Callable, Set
from dataclasses import replace

import structlog
from chatbot_resource.model import KIND, ChatbotDeployment
from chatbot_resource.status import Status
from opentelemetry.trace import NoOpTracer, Tracer
from pydantic import ValidationError

from chatbot_operator import names, store_findings, tracing
from chatbot_operator.applying import Applier
from chatbot_operator.asking import serving
from chatbot_operator.cluster import Cluster
from chatbot_operator.components import conversation, revisions, rotation
from chatbot_operator.components.context import Context
from chatbot_operator.components.lost_status import whereabouts
from chatbot_operator.components.moving import noted, settled
from chatbot_operator.components.revisions import Effective
from chatbot_operator.components.stores import disk as disk_of
from chatbot_operator.events import Events
from chatbot_operator.faults import Conflict, NamespaceGoing, NotFound
from chatbot_operator.generated import GeneratedSecrets
from chatbot_operator.handover import claims
from chatbot_operator.hosts import taken_hosts
from chatbot_operator.kinds import DISK
from chatbot_operator.known import Known, Others
from chatbot_operator.metrics import Metrics
from chatbot_operator.observing import RUNNING, Look, left_of, observe, others, versions, with_autoscalers, with_users
from chatbot_operator.outside import Outside
from chatbot_operator.pauses import CONFLICT_SECONDS, MAX_CONFLICTS, MISSING_SECONDS, SOON_SECONDS, after
from chatbot_operator.progress import UNNOTICED_SECONDS, Progress
from chatbot_operator.pruning import FIRST, LAST, prune
from chatbot_operator.queue import Key, jitter
from chatbot_operator.reachability import doing_without
from chatbot_operator.referrers import Referrers
from chatbot_operator.reporting import Reports, written
from chatbot_operator.rules import Rules
from chatbot_operator.settings import Settings
from chatbot_operator.staying import left_over
from chatbot_operator.steps import apply_steps
from chatbot_operator.world import Manifest, Observed, Reference, Step

ROUNDS = 4
"""Of planning and applying in one reconcile: the last finds nothing more to do, usually the second."""


log = structlog.get_logger("reconcile")


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
        self._clock = cluster.clock
        self._settings = settings
        self._metrics = metrics
        self._referrers = referrers
        self._rules = rules
        self._known = known or Known()
        self._apis = apis
        self._tracer = tracer or NoOpTracer()
        self._outside = outside or Outside(self._known, lambda _: None)
        self._secrets = GeneratedSecrets(cluster, rules, settings)
        self._events = Events(cluster)
        self._reports = Reports(cluster, metrics, self._events)
        self._appliers: dict[Key, Applier] = {}
        self._conflicts: dict[Key, int] = {}
        """Since a reconcile came to its end."""

    async def __call__(self, key: Key) -> float | None:
        """Reconcile one resource; the work of queue.py.

        Returns:
            Seconds until it wants to be looked at again without an event; None when it is gone.
        """
        if (rest := self._known.rest(key)) is not None:
            return rest
        self._known.begin(key)
        done = Progress(key)
        with structlog.contextvars.bound_contextvars(namespace=key[0], bot=key[1]), self._metrics.seconds.time():
            try:
                result, again = await self._reconcile(done)
            except (NamespaceGoing, NotFound):
                # Deleted, or its namespace, while we were at work; what was made in the race is deleted by its owner.
                result, again = "gone", MISSING_SECONDS
            except Conflict:
                # Something was changed after it was read: look again.
                result, again = "changed", CONFLICT_SECONDS * 2.0 ** self._conflict(key)
            except Exception as error:
                self._metrics.errors.labels(type(error).__name__).inc()
                self._tell(done, "error")
                raise
            else:
                self._conflicts.pop(key, None)
            finally:
                self._known.end(key)
        self._tell(done, result)
        return again

    async def _reconcile(self, done: Progress) -> tuple[str, float | None]:
        raw = await self._cluster.get(KIND, *done.key)
        if raw is None:
            self._forget(done.key)
            return "gone", None
        previous = written(raw)
        if raw["metadata"].get("deletionTimestamp"):
            if previous:
                left = await left_of(self._cluster, done.key)
                said = self._rules.leaving(raw, left, previous, self._clock.text())
                done.writes += await self._reports.report(raw, previous, said) is not None
            self._leave(done.key)
            return "gone", self._resync()
        try:
            bot = ChatbotDeployment.model_validate(raw, by_alias=True, by_name=False)
        except ValidationError as error:
            left = await left_of(self._cluster, done.key)
            said = self._rules.invalid(raw, error, left, self._settings, previous, self._clock.text())
            done.writes += await self._reports.report(raw, previous, said) is not None
            return "invalid", self._resync()
        return await self._converge(done, raw, bot, previous)

    async def _converge(
        self, done: Progress, raw: Manifest, bot: ChatbotDeployment, previous: Status | None
    ) -> tuple[str, float]:
        uid, data = raw["metadata"]["uid"], noted(raw.get("status"))
        known = self._known.others(done.key, uid)
        if Context(bot, Observed(data=data), self._settings).hibernated:
            # Before anything is done that no pod may see: a watch that is deaf would say that there is none.
            known = {kind: found for kind, found in known.items() if kind not in RUNNING}
        chosen, look = await self._look(done.key, uid, bot, previous, known)
        data = whereabouts(Context(bot, look.observed, chosen.settings), raw.get("status"))
        hosts = await taken_hosts(self._cluster, chosen.bot, self._settings.watch_namespaces, self._apis())
        observed = replace(look.observed, hosts=hosts, data=data)
        if bot.spec.mode == "Paused":
            steps = self._rules.plan(bot, observed, chosen.settings, None)
        else:
            observed, steps = await self._act(done, raw, chosen, observed)
        status = self._rules.status_of(
            chosen.bot, steps, observed, chosen.settings, previous, self._clock.text(), chosen.rolled_back
        )
        told = await self._report(done, raw, previous, status)
        if told and done.unnoticed:
            log.info("the API server has not noticed the new definition yet", again_in=UNNOTICED_SECONDS)
        if told and (meaning := rotation.lost(chosen.bot, observed, previous)):
            await self._events.keys_lost(raw, meaning)
        if names.admin(bot.name) in done.secrets and _accounts(bot, look.observed, previous):
            await self._events.password_lost(raw, names.admin(bot.name))
        for meaning in store_findings.disks_going(observed):
            await self._events.disk_going(raw, meaning)
        if told and settled(told.get("status")) != settled(raw.get("status")):  # the next plan begins with that
            done.soon(SOON_SECONDS)
        if left := revisions.due(bot, observed):
            done.soon(left + 1)
        again = after(done, observed, self._resync())
        seen = versions((told or raw, *observed.children, *observed.pods))
        self._known.settled(done.key, {**seen, **look.referenced}, others(observed), again)
        return done.result, again

    async def _look(
        self, key: Key, uid: str, bot: ChatbotDeployment, previous: Status | None, known: Others
    ) -> tuple[Effective, Look]:
        """What is there, and what is rendered by it; where that is what ran before, with what that refers to, too."""
        references = self._rules.references(bot)
        look = await self._observe(key, uid, bot, references, known)
        chosen = self._rules.effective(bot, look.observed, previous, self._settings)
        if chosen.rolled_back:
            references |= self._rules.references(chosen.bot)
            look = await self._observe(key, uid, chosen.bot, references, others(look.observed))
        return chosen, look

    async def _observe(
        self, key: Key, uid: str, bot: ChatbotDeployment, references: Set[Reference], known: Others
    ) -> Look:
        self._referrers.refer(key, references)
        asked, label = doing_without(bot), bot.spec.mode != "Paused"
        faq = conversation.faq_reference(bot)
        look = await observe(
            self._cluster, key, uid, references, known, self._apis(), label=label, asked=asked, faq=faq
        )
        self._outside.note(key, serving(look.observed.pods, asked), look.observed.answers)
        return replace(look, observed=replace(look.observed, at=self._clock.text()))

    async def _report(self, done: Progress, raw: Manifest, previous: Status | None, status: Status) -> Manifest | None:
        if left := self._reports.seconds_to_leave(done.key, previous, status):
            done.soon(left + 1)
            return None
        told = await self._reports.report(raw, previous, status)
        done.writes += told is not None
        return told

    async def _act(
        self, done: Progress, raw: Manifest, chosen: Effective, observed: Observed
    ) -> tuple[Observed, list[Step]]:
        try:
            return await self._make(done, raw, chosen, observed)
        except NamespaceGoing:
            observed, leaving = done.seen(observed), done.leaving()
            steps = self._rules.plan(chosen.bot, observed, chosen.settings, chosen.rolled_back)
            return observed, [replace(step, blocked=leaving) for step in steps]
        finally:
            # Also when somebody was faster later on: what was taken back is not seen again.
            for taken in done.taken:
                await self._events.taken_back(raw, taken)

    async def _make(
        self, done: Progress, raw: Manifest, chosen: Effective, observed: Observed
    ) -> tuple[Observed, list[Step]]:
        """Make what is missing, apply what moved, delete what is left over, until nothing is left to be done."""
        observed = await self._secrets.create(done, chosen.bot, observed)
        observed = await self._secrets.rotate(done, chosen.bot, observed, self._clock.text())
        applier, found = self._applier(done.key, raw["metadata"]["uid"]), observed
        for turn in range(ROUNDS):
            before = done.writes
            steps = self._rules.plan(chosen.bot, observed, chosen.settings, chosen.rolled_back)
            if done.no_secrets:
                steps = [replace(step, blocked=done.no_secrets) if step.name == "secrets" else step for step in steps]
            if done.unnoticed:
                steps = [replace(step, blocked=done.no_secrets) for step in steps]
                break
            if claims(steps, observed):
                observed = await with_autoscalers(self._cluster, done.key, observed)
            await self._prune(done, applier, steps, observed, FIRST)
            observed = done.seen(observed)
            steps = await apply_steps(done, applier, steps, observed, found)
            if turn == 0:  # what was in use before anything was written stays until the next look
                await self._prune(done, applier, steps, observed, LAST)
            observed = done.seen(observed)
            if done.writes == before or done.refused:
                break
        else:
            done.soon(SOON_SECONDS)
        return observed, steps

    async def _prune(
        self, done: Progress, applier: Applier, steps: list[Step], observed: Observed, kinds: Set[str]
    ) -> None:
        def unwanted(seen: Observed) -> list[Manifest]:
            return left_over(seen.children, applier.owner, self._rules.wanted(steps, seen), kinds)

        if unwanted(observed):
            await prune(self._cluster, done, unwanted(await with_users(self._cluster, done.key, observed)))
            applier.forget(done.key[0], done.gone)

    def _tell(self, done: Progress, result: str) -> None:
        """How it ended."""
        self._metrics.reconciles.labels(result).inc()
        if done.writes:
            tracing.tell(self._tracer, *done.key, result, done.writes, done.began, done.parts)

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
        self._leave(key)

    def _leave(self, key: Key) -> None:
        """It is going: nobody is asked about it any more, and it counts for nothing."""
        self._referrers.refer(key, ())
        self._outside.note(key, (), {})
        self._reports.count_phase(key, None)

    def _resync(self) -> float:
        return self._settings.resync_seconds * jitter()


def _accounts(bot: ChatbotDeployment, found: Observed, previous: Status | None) -> bool:
    """Whether accounts were there before: of this resource, or in a database that an earlier one has left."""
    if previous is not None:
        return bool(previous.migrations)
    name, mode = names.child(bot.name, "postgres"), bot.spec.stores.postgres.mode
    left = found.child(DISK, disk_of(name)) if mode == "Dev" else found.child("Cluster", name)
    return left is not None and not left["metadata"].keys() & {"deletionTimestamp", "ownerReferences"}
