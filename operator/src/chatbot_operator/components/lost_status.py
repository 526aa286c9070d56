"""Where the data of Postgres is, when the status that should say so is lost, or says what cannot be. Pure.

Pods that run are believed first: where they write is where the data is. Then the Jobs that copy it, which say by
themselves from where to where, and stay until everything has settled there; then what had settled before.
"""

import json
from collections.abc import Mapping
from typing import Any

from chatbot_resource.status import PostgresStatus
from chatbot_resource.stores import PostgresStore
from pydantic import ValidationError

from chatbot_operator import names
from chatbot_operator.components import postgres, revisions
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import component_of
from chatbot_operator.components.moving import RUN_BY, at, formerly, live_of, noted, owned, part
from chatbot_operator.readiness import desired, job_state
from chatbot_operator.world import Manifest, Name, Observed

Move = tuple[PostgresStatus, PostgresStatus]
"""From where, and to where."""


def whereabouts(context: Context, status: Mapping[str, Any] | None) -> PostgresStatus | None:
    """As the status has it, unless that is lost or edited; None: wherever the resource says."""
    data, store = noted(status), context.bot.spec.stores.postgres
    if data and data.mode == store.mode:
        # Who says so while the data is still copied there knows less than the Jobs.
        return _unfinished(context) or data
    if not _goes_on(context):
        return data or _copying(context) or _settled(context)
    return at(store, copies=data.copies, formerly=formerly({data.mode, *data.formerly}, store.mode)) if data else None


def evidence(observed: Observed) -> frozenset[Name]:
    """Jobs that have copied the data to where it is, until everything has settled there."""
    data, revision = observed.data, revisions.latest(observed)
    if data is None or (revision and revisions.postgres_mode(revision) == data.mode):
        return frozenset()
    done = (job for move, job in _moves(observed) if move[1].mode == data.mode and job_state(job) == "complete")
    return frozenset(("Job", job["metadata"]["name"]) for job in done)


def _goes_on(context: Context) -> bool:
    """Whether pods are meant to run that write into the database which the resource names."""
    found = (
        (owner, context.observed.child("Deployment", names.child(context.bot.name, owner))) for owner in names.OWNERS
    )
    return any(live and desired(live) and _reads(live, context, owner) for owner, live in found)


def _reads(live: Manifest, context: Context, owner: names.Owner) -> bool:
    address = postgres.address(context.bot, owner)
    volumes = live["spec"]["template"]["spec"].get("volumes") or []
    sources = [source for volume in volumes for source in (volume.get("projected") or {}).get("sources") or []]
    wanted = {"key": address.reference.key, "path": address.file}
    secrets = (source["secret"] for source in sources if "secret" in source)
    return any(item["name"] == address.reference.name and wanted in (item.get("items") or []) for item in secrets)


def _copying(context: Context) -> PostgresStatus | None:
    """From the Jobs of the last move: where the data is copied from, or where it is when that is done."""
    found = _moves(context.observed)
    if not found:
        return None
    old, new = last = max((move for move, _ in found), key=lambda move: move[0].moving_since)
    done = [job for move, job in found if move == last and job_state(job) == "complete"]
    if len(done) < len(names.OWNERS):
        return old
    return new.model_copy(update={"formerly": formerly({old.mode, *old.formerly}, new.mode)})


def _unfinished(context: Context) -> PostgresStatus | None:
    """Where the data is that a Job copies at this moment to where the resource wants it."""
    wanted = context.bot.spec.stores.postgres.mode
    going = (move for move, job in _moves(context.observed) if job_state(job) == "running")
    return next((old for old, new in going if new.mode == wanted != old.mode), None)


def _moves(observed: Observed) -> list[tuple[Move, Manifest]]:
    parts = {part(owner) for owner in names.OWNERS}
    jobs = [item for item in observed.children if item["kind"] == "Job" and component_of(item) in parts]
    return [(move, job) for job in jobs if (move := _move(job))]


def _move(job: Manifest) -> Move | None:
    text = (job["metadata"].get("annotations") or {}).get(names.MOVE)
    try:
        told = json.loads(text or "")
        return PostgresStatus.model_validate(told["from"]), PostgresStatus.model_validate(told["to"])
    except (ValueError, KeyError, TypeError, ValidationError):  # edited, or written by a version that knew other fields
        return None


def _settled(context: Context) -> PostgresStatus | None:
    """Where it was when everything had settled last, if it is still to be moved from there; None: not known."""
    revision = revisions.latest(context.observed)
    if revision is None:
        return None
    told = (revision["data"]["spec"].get("stores") or {}).get("postgres") or {}
    try:
        store = PostgresStore.model_validate(told, by_alias=True, by_name=False)
    except ValidationError:  # written by an operator that knew other fields
        return None
    kind = RUN_BY.get(store.mode)
    if store.mode == context.bot.spec.stores.postgres.mode or (kind and live_of(context, kind) is None):
        return None
    return at(store, formerly=formerly(owned(context), store.mode))
