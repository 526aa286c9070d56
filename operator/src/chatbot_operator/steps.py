"""Applies the steps of a plan in their order; applying.py does it for one child."""

import time
from dataclasses import replace

from chatbot_operator import tracing
from chatbot_operator.applying import Applier, NameTaken
from chatbot_operator.disks import held
from chatbot_operator.faults import Refused
from chatbot_operator.fights import Fought, Taken
from chatbot_operator.handover import SEEN_SECONDS, waits
from chatbot_operator.kinds import MAKERS
from chatbot_operator.progress import Progress
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest, Name, Observed, Step

RUN_PODS = ("Deployment", "StatefulSet", "Cluster", "Job")
"""Kinds that are not made where the network policy of their pods was refused: what runs already goes on."""


async def apply_steps(
    done: Progress, applier: Applier, steps: list[Step], observed: Observed, found: Observed
) -> list[Step]:
    """The steps again, those that were refused as blocked ones.

    Args:
        found: what was there before this reconcile wrote anything.
    """
    return [step if step.blocked else await _apply_step(done, applier, step, observed, found) for step in steps]


async def _apply_step(done: Progress, applier: Applier, step: Step, observed: Observed, found: Observed) -> Step:
    before, began = done.writes, time.time_ns()
    judged = [item for item in step.manifests if item["kind"] not in MAKERS or _may_be_judged(item, found)]
    blocked: Blocked | None = None
    unguarded = False
    for wanted in judged:
        if unguarded and wanted["kind"] in RUN_PODS and observed.child(*_name(wanted)) is None:
            continue
        finding = await _apply_child(done, applier, wanted, observed)
        unguarded |= finding is not None and wanted["kind"] == "NetworkPolicy"
        blocked = blocked or finding
    # What was refused is not asked again every second: only what was written is yet to be seen by others.
    if len(judged) < len(step.manifests) and done.writes and not blocked:
        done.soon(SEEN_SECONDS)
    if written := done.writes - before:
        done.parts.append(tracing.Part(step.name, written, began))
    return replace(step, blocked=blocked) if blocked else step


async def _apply_child(done: Progress, applier: Applier, wanted: Manifest, observed: Observed) -> Blocked | None:
    if waiting := waits(done, applier, wanted, observed):
        return waiting
    blocked = await _settle(done, applier, wanted, observed)
    done.refused |= blocked is not None
    return blocked


async def _settle(done: Progress, applier: Applier, wanted: Manifest, observed: Observed) -> Blocked | None:
    kind, name = _name(wanted)
    try:
        wrote = await applier.settle(wanted, observed.child(kind, name))
        if not wrote and (disk := held(wanted, observed)):
            wrote = bool(await applier.patch(*disk))
    except NameTaken as taken:
        return Blocked(Reason.NAME_CONFLICT, str(taken))
    except Fought as fought:
        return Blocked(Reason.FIELD_CONFLICT, str(fought))
    except Refused as refused:
        return done.refusal(kind, name, refused)
    finally:
        done.written += applier.answers()
    done.writes += bool(wrote)
    done.taken += [wrote] if isinstance(wrote, Taken) else []
    return None


def _may_be_judged(wanted: Manifest, found: Observed) -> bool:
    """KEDA's webhook goes by what it saw a moment ago: it refuses what is for a Deployment that we have only just made,
    or one that had an autoscaler of ours until now."""
    name = wanted["metadata"]["name"]
    return found.child("Deployment", name) is not None and found.child("HorizontalPodAutoscaler", name) is None


def _name(item: Manifest) -> Name:
    return item["kind"], item["metadata"]["name"]
