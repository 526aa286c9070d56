"""The data of Postgres goes where `stores.postgres.mode` says, while nothing else runs.

Where it is, the status says, not the resource: what the resource names is only where it is to be, until both databases
have been copied. Postgres is awake on both sides for that time. Then the former one sleeps, and stays as it was until
the resource is gone: nobody has looked at the copy yet.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from chatbot_resource.fields import SecretRef
from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import CopyStatus, PostgresStatus
from chatbot_resource.stores import ExternalPostgres, PostgresMode, PostgresStore, Storage
from pydantic import ValidationError

from chatbot_operator import names
from chatbot_operator.components import (
    cloudnativepg,
    migrations,
    network,
    postgres,
    reads,
    secrets,
    services,
    stores,
)
from chatbot_operator.components.configuration import Configs
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import component_of, digest, generation, manifest, uid
from chatbot_operator.components.pods import pod, template
from chatbot_operator.components.reads import Read
from chatbot_operator.components.services import Program
from chatbot_operator.names import Owner
from chatbot_operator.readiness import count, current, desired, job_state
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest

DEADLINE_SECONDS = 24 * 3600
RUN_BY: dict[PostgresMode, str] = {"Dev": "StatefulSet", "CloudNativePG": "Cluster"}
"""The kind that runs Postgres."""
RECORDED = {"mode", "auth_secret", "conversation_secret", "moving_to", "moving_since", "formerly"}
"""Of where the data is: what the Jobs of a move tell of it."""


def noted(status: Mapping[str, Any] | None) -> PostgresStatus | None:
    """Where the data is, also when a version that knew other fields has written the rest."""
    try:
        return PostgresStatus.model_validate((status or {})["stores"]["postgres"], extra="ignore")
    except (KeyError, TypeError, ValidationError):
        return None


def settled(status: Mapping[str, Any] | None) -> tuple[object, ...] | None:
    """What of that a plan goes by."""
    data = noted(status)
    return (data.mode, data.moving_to, data.moving_since, data.formerly) if data else None


def part(owner: Owner) -> str:
    """Component label of the Job and its pods."""
    return f"{owner}-copy"


def formers(context: Context) -> list[Context]:
    """Each Postgres that is still there although the resource no longer names it, as it was."""
    wanted, data = context.bot.spec.stores.postgres.mode, context.observed.data
    # What is there and ours stays, whatever a status says that somebody has edited: it may be the only one.
    known = owned(context) | ({data.mode, *data.formerly} if data else set())
    return [
        replace(context, bot=_as_it_was(context, live, mode), former=True, awake=_is_source(context, data, mode))
        for mode, kind in RUN_BY.items()
        if mode in known - {wanted} and (live := live_of(context, kind)) is not None
    ]


def build_former(former: Context) -> list[Manifest]:
    """All of it, with its passwords: what is not wanted would be deleted."""
    kept = secrets.build_stores(former)
    if cloudnativepg.used(former.bot):
        return [*network.cluster(former), *kept, *cloudnativepg.build(former, cloudnativepg.asked(former))]
    store = postgres.store(former.bot)
    return [*network.build(former, "postgres"), *kept, *(stores.build(former, store) if store else ())]


def started(context: Context) -> bool:
    """Whether the status has noted since when: the Jobs of each move have names of their own."""
    data = context.observed.data
    return data is not None and data.moving_to == context.bot.spec.stores.postgres.mode


def not_at_rest(context: Context) -> Blocked | None:
    """A Deployment of which a pod may still be made: its controller has not seen yet that it is to have none."""
    live = (item for item in context.observed.children if item["kind"] == "Deployment")
    found = [item for item in live if desired(item) or not current(item) or count(item, "replicas")]
    left = min((item["metadata"]["name"] for item in found), default=None)
    return Blocked(Reason.STOPPING, f"Waits for Deployment {left}, which is to have no pods.") if left else None


def name(context: Context, owner: Owner) -> str:
    data = context.observed.data
    # With the uid: generations of another resource of that name begin with 1 again, and its copies are old.
    told = [uid(context.bot), data.mode, data.moving_to, data.moving_since] if data else []
    return names.copy(context.bot.name, owner, digest([owner, *told]))


def build(context: Context, owner: Owner, configs: Configs) -> list[Manifest]:
    """The Job, which reads like the migration of the new database, and where the old one is."""
    source = _source(context)
    own = reads.there(migrations.needs(context.bot, owner), context.observed)
    former = replace(postgres.address(source, owner), folder="former")
    program = Program(part(owner), owner, "copy", configs[owner], (*own, former, *_former_authority(source, owner)))
    job = name(context, owner)
    running = services.program_container(context, program, args=["--mark", job])
    spec = {
        "backoffLimit": migrations.ATTEMPTS,
        "activeDeadlineSeconds": DEADLINE_SECONDS,
        "template": template(
            context,
            program.part,
            reads.content(program.reads, context.observed),
            # Never: each attempt is a pod of its own, whose logs can be read.
            pod([running], services.program_volumes(program), migrations.GRACE_SECONDS, restartPolicy="Never"),
        ),
    }
    policy = network.copying(context, program.part, source)
    made = manifest(context.bot, program.part, "Job", job, {"spec": spec}, annotations={names.MOVE: record(context)})
    return [program.config, *policy, made]


def record(context: Context) -> str:
    """The move, as its Jobs tell of it; see lost_status.py."""
    assert context.observed.data is not None  # noqa: S101 - else nothing is moving
    told = {"from": context.observed.data, "to": at(context.bot.spec.stores.postgres)}
    fields = {side: told[side].model_dump(mode="json", by_alias=True, include=RECORDED) for side in told}
    return json.dumps(fields, sort_keys=True)


def _former_authority(source: ChatbotDeployment, owner: Owner) -> list[Read]:
    """What the certificate of the old one is checked with. What a user brought with its address is beside that."""
    found = postgres.authority(source, owner)
    return [replace(read, file=postgres.AUTHORITY, folder="former") if read.origin else read for read in found]


def located(context: Context) -> PostgresStatus:
    """Where the data is now: at its new place as soon as both Jobs are complete."""
    store, data = context.bot.spec.stores.postgres, context.observed.data
    known = {data.mode, data.moving_to, *data.formerly} if data else owned(context)
    here = at(store, copies=data.copies if data else [], formerly=formerly(known, store.mode))
    if data is None or data.mode == store.mode:
        return here
    if not started(context):
        begun = {"moving_to": store.mode, "moving_since": generation(context.bot)}
        slept = formerly({data.moving_to, *data.formerly}, data.mode)
        return data.model_copy(update=begun | {"copies": [], "formerly": slept})
    copies = [*_copied(context, context.observed.children)]
    return (here if len(copies) == len(names.OWNERS) else data).model_copy(update={"copies": copies})


def at(store: PostgresStore, **more: Any) -> PostgresStatus:
    external = store.external
    return PostgresStatus(
        mode=store.mode,
        auth_secret=external.auth_secret_ref.name if external else "",
        conversation_secret=external.conversation_secret_ref.name if external else "",
        **more,
    )


def formerly(known: Collection[PostgresMode | None], now: PostgresMode) -> list[PostgresMode]:
    """Every mode whose store may be there, besides that of the present: also of a move that was given up."""
    return [mode for mode in RUN_BY if mode in known and mode != now]


def owned(context: Context) -> set[PostgresMode]:
    """What is there, where no status tells of it: rather too much is kept. What nobody owns is retained anyway."""
    found = ((mode, live_of(context, kind)) for mode, kind in RUN_BY.items())
    return {
        mode
        for mode, live in found
        for owner in (live or {"metadata": {}})["metadata"].get("ownerReferences") or []
        if owner["uid"] == uid(context.bot)
    }


def _copied(context: Context, children: Iterable[Manifest]) -> Iterable[CopyStatus]:
    data = context.observed.data
    known = {item.owner: item for item in data.copies} if data else {}
    jobs = {item["metadata"]["name"]: item for item in children if item["kind"] == "Job"}
    for owner in names.OWNERS:
        live = jobs.get(name(context, owner))
        if live and component_of(live) == part(owner) and job_state(live) == "complete":
            when = str(live["status"].get("completionTime", ""))
            yield CopyStatus(owner=owner, job=live["metadata"]["name"], completed_at=when)
        elif owner in known:
            yield known[owner]


def _is_source(context: Context, data: PostgresStatus | None, mode: PostgresMode) -> bool:
    return context.moving and data is not None and data.mode == mode


def _source(context: Context) -> ChatbotDeployment:
    """The resource as it was where the data is."""
    data = context.observed.data
    assert data is not None  # noqa: S101 - else nothing is moving
    external = None
    if data.mode == "External":
        external = ExternalPostgres(
            auth_secret_ref=SecretRef(name=data.auth_secret),
            conversation_secret_ref=SecretRef(name=data.conversation_secret),
        )
    return _with(context.bot, PostgresStore(mode=data.mode, external=external))


def _as_it_was(context: Context, live: Manifest, mode: PostgresMode) -> ChatbotDeployment:
    """Its own disk and image, whatever the resource says now of another."""
    told = context.bot.spec.stores.postgres
    if mode == "Dev":
        claims = live["spec"].get("volumeClaimTemplates") or [{"spec": {}}]
        size = (claims[0]["spec"].get("resources") or {}).get("requests", {}).get("storage")
        image = live["spec"]["template"]["spec"]["containers"][0]["image"]
    else:
        size, image = live["spec"]["storage"].get("size"), live["spec"].get("imageName")
    bot = _with(context.bot, PostgresStore(mode=mode, storage=Storage(size=size), resources=told.resources))
    images = bot.spec.images.model_copy(update={"postgres": image})
    return bot.model_copy(update={"spec": bot.spec.model_copy(update={"images": images})})


def _with(bot: ChatbotDeployment, store: PostgresStore) -> ChatbotDeployment:
    all_stores = bot.spec.stores.model_copy(update={"postgres": store})
    return bot.model_copy(update={"spec": bot.spec.model_copy(update={"stores": all_stores})})


def live_of(context: Context, kind: str) -> Manifest | None:
    """The Postgres of that kind which is there, and is not going."""
    found = context.observed.child(kind, names.child(context.bot.name, "postgres"))
    return found if found and not found["metadata"].get("deletionTimestamp") else None
