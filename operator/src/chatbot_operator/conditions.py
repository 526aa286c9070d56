"""Findings turned into conditions, with the times at which each last flipped. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import MAX_TEXT, Condition, ConditionType, Status

from chatbot_operator import names
from chatbot_operator.components.metadata import generation
from chatbot_operator.reasons import AT_REST, STUCK, Reason
from chatbot_operator.world import Blocked


@dataclass(frozen=True)
class Findings:
    """What is not as it should be; None wherever all is well."""

    secrets: Blocked | None
    stores: Mapping[names.Store, Blocked | None]
    migrations: Blocked | None
    components: Mapping[names.Component, Blocked | None]
    blocked: Blocked | None
    """The first step that was not applied."""
    available: bool | Blocked
    autoscaling: Blocked | None = None
    autoscaled: bool = False
    """Whether anything has an autoscaler of ours."""
    route: Blocked | None = None
    dependencies: Blocked | None = None
    rolled_back: Blocked | None = None
    deleted: Blocked | None = None
    """That nothing can be made any more: it outweighs all else."""

    @property
    def cause(self) -> Blocked | None:
        """What a person should know first: what does not pass by waiting, else what all the rest waits for."""
        found = [
            finding
            for finding in (
                self.rolled_back,
                self.secrets,
                *self.stores.values(),
                self.migrations,
                *self.components.values(),
                self.blocked,
                None if self.available is True else self.available,
            )
            if isinstance(finding, Blocked)
        ]
        if self.deleted:
            return self.deleted
        stuck = (finding for finding in found if finding.reason in STUCK)
        moving = (finding for finding in found if finding.reason not in AT_REST)
        return next(stuck, None) or next(moving, None) or next(iter(found), None)


PASSING: frozenset[Reason | str] = frozenset(
    {
        Reason.NOT_CREATED,
        Reason.ROLLING_OUT,
        Reason.WAITING_FOR_STORE,
        Reason.WAITING_FOR_MIGRATION,
        Reason.WAITING_FOR_COMPONENT,
    }
)
"""What would pass if the operator went on."""


def paused(found: Findings, held: Blocked | None) -> Findings:
    """The same while nothing is applied: what would be done next waits for a person.

    Args:
        held: what is not as the resource says, of everything.
    """

    def waits(finding: Blocked | None) -> Blocked | None:
        if finding is None or finding.reason not in PASSING:
            return finding
        return Blocked(Reason.PAUSED, f"Left as it is while spec.mode is Paused: {finding.message}")

    available = found.available
    return replace(
        found,
        secrets=waits(found.secrets),
        stores={name: waits(finding) for name, finding in found.stores.items()},
        migrations=waits(found.migrations),
        components={name: waits(finding) for name, finding in found.components.items()},
        available=available if isinstance(available, bool) else waits(available) or available,
        autoscaling=waits(found.autoscaling),
        blocked=waits(held),
    )


Said = tuple[bool, Reason | str, str]
"""Status, reason, message."""


def conditions(bot: ChatbotDeployment, found: Findings, previous: Status | None, now: str) -> list[Condition]:
    said: dict[ConditionType, Said] = {
        "Available": _available(found.available),
        "Progressing": _progressing(found),
        "Ready": _unless(found.cause, Reason.SETTLED, "Everything runs as the resource says."),
        "Degraded": _degraded(found),
        "Paused": _paused(bot),
        "SecretsReady": _unless(found.secrets, Reason.FOUND, "Every Secret and text that is read is there."),
        "PostgresReady": _store(bot, "postgres", found),
        "CacheReady": _store(bot, "redis", found),
        "VectorStoreReady": _vectors(bot, found),
        "MigrationsComplete": _unless(found.migrations, Reason.MIGRATED, "Both databases are migrated."),
        "AutoscalingReady": _autoscaling(found),
        "RouteReady": _route(bot, found),
        "DependenciesDetected": _unless(
            found.dependencies, Reason.APIS_INSTALLED, "The cluster has every API that the resource asks for."
        ),
    }
    return [_condition(kind, item, generation(bot), previous, now) for kind, item in said.items()]


def left_conditions(
    finding: Blocked, available: bool | Blocked, seen: int, previous: Status | None, now: str
) -> list[Condition]:
    """Of what is left as it is: whether it serves is seen, and nothing can be said to be ready."""
    told: Said = (False, finding.reason, finding.message)
    said: dict[ConditionType, Said] = {"Available": _available(available), "Progressing": told, "Ready": told}
    if finding.reason in STUCK:
        said["Degraded"] = (True, finding.reason, finding.message)
    known = {item.type: item for item in previous.conditions} if previous else {}
    known |= {kind: _condition(kind, item, seen, previous, now) for kind, item in said.items()}
    return list(known.values())


def is_true(said: Iterable[Condition], kind: ConditionType) -> bool:
    return any(item.type == kind and item.status == "True" for item in said)


def _available(available: bool | Blocked) -> Said:
    if isinstance(available, Blocked):
        return False, available.reason, available.message
    return True, Reason.SERVING, "Every component that answers has an available pod."


def _progressing(found: Findings) -> Said:
    """True while waiting is all there is to do."""
    cause = found.cause
    if cause is None:
        return False, Reason.SETTLED, "Nothing is left to do."
    return cause.reason not in STUCK | AT_REST, cause.reason, cause.message


def _degraded(found: Findings) -> Said:
    """True when somebody has to do something."""
    cause = found.cause
    if cause is None or cause.reason not in STUCK:
        return False, Reason.SETTLED, "Nothing needs a person."
    return True, cause.reason, cause.message


def _paused(bot: ChatbotDeployment) -> Said:
    if bot.spec.mode == "Paused":
        return True, Reason.PAUSED, "spec.mode is Paused: nothing is changed until it is Active."
    return False, Reason.ACTIVE, f"spec.mode is {bot.spec.mode}."


def _route(bot: ChatbotDeployment, found: Findings) -> Said:
    told = bot.spec.exposure
    if told.type == "None":
        return True, Reason.NOT_EXPOSED, "spec.exposure.type is None."
    return _unless(found.route, Reason.ROUTE_ADMITTED, f"{told.type} {names.child(bot.name, 'gateway')} is taken up.")


def _autoscaling(found: Findings) -> Said:
    if not found.autoscaled and found.autoscaling is None:
        return True, Reason.NOT_AUTOSCALED, "No component has an autoscaler of the operator's."
    return _unless(found.autoscaling, Reason.AUTOSCALING, "Every autoscaler knows the load of its pods.")


def _unless(finding: Blocked | None, reason: Reason, message: str) -> Said:
    return (False, finding.reason, finding.message) if finding else (True, reason, message)


def _vectors(bot: ChatbotDeployment, found: Findings) -> Said:
    if bot.spec.stores.vectors.type == "Weaviate":
        return _store(bot, "weaviate", found)
    ready, reason, message = _store(bot, "postgres", found)
    return (True, Reason.IN_POSTGRES, "Vectors are kept in Postgres.") if ready else (ready, reason, message)


def _store(bot: ChatbotDeployment, store: names.Store, found: Findings) -> Said:
    if store != "weaviate" and getattr(bot.spec.stores, store).mode == "External":
        text = f"spec.stores.{store}.external leads to a Secret that is there, and no pod says that it lacks the store."
        return _unless(found.stores[store], Reason.EXTERNAL, text)
    kind = "Cluster" if store == "postgres" and bot.spec.stores.postgres.mode == "CloudNativePG" else "StatefulSet"
    return _unless(found.stores[store], Reason.STORE_READY, f"{kind} {names.child(bot.name, store)} is ready.")


def _condition(kind: ConditionType, said: Said, seen: int, previous: Status | None, now: str) -> Condition:
    ready, reason, message = said
    status: Literal["True", "False"] = "True" if ready else "False"
    before = next((item for item in previous.conditions if item.type == kind), None) if previous else None
    since = before.last_transition_time if before and before.status == status else now
    return Condition(
        type=kind,
        status=status,
        reason=str(reason),
        message=message[:MAX_TEXT],
        last_transition_time=since,
        observed_generation=seen,
    )
