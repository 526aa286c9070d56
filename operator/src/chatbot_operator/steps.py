"""Applies the steps of a plan in their order; applying.py does it for one child."""

import time
from dataclasses import replace

from chatbot_operator import tracing
from chatbot_operator.applying import Applier, Fought, NameTaken, Taken
from chatbot_operator.faults import Refused
from chatbot_operator.kinds import MAKERS
from chatbot_operator.progress import Progress
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest, Observed, Step

SEEN_SECONDS = 1.0
"""In which others have seen what we have written."""


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
    if len(judged) < len(step.manifests):
        done.soon(SEEN_SECONDS)
    refused = [await _apply_child(done, applier, wanted, observed) for wanted in judged]
    blocked = next(filter(None, refused), None)
    done.refused |= blocked is not None
    if written := done.writes - before:
        done.parts.append(tracing.Part(step.name, written, began))
    return replace(step, blocked=blocked) if blocked else step


async def _apply_child(done: Progress, applier: Applier, wanted: Manifest, observed: Observed) -> Blocked | None:
    kind, name = wanted["kind"], wanted["metadata"]["name"]
    try:
        wrote = await applier.settle(wanted, observed.child(kind, name))
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
