"""What is wrong with pods, from what the kubelet and the scheduler say of them. Pure."""

import json
import re
from collections.abc import Iterable

from chatbot_operator.moments import passed, young
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest

PULL_FAILURES = ("ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError")
CONFIG_FAILURES = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
DISK = "persistentvolumeclaim"
DISK_SECONDS = 60.0
"""So long a disk may take to be made, and to be known to the scheduler."""
CRASHES, CRASH_SECONDS = 2, 300.0
"""A container that was begun anew so often, and ran for less time each time, is not said to be starting."""
BEGINNING_SECONDS = 5.0
"""So long nobody asks why a pod that has its node has not begun."""
KILLED = (137, 143)
"""Exit codes of what was ended by somebody else: what it said last tells nothing of that."""
WORDS = 300
"""Characters of a container's last words that fit into a message."""
UNREACHABLE = 75
"""Exit code of a migration or copy whose database cannot be used yet, see chatbot_common.database."""
KIND = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
PREEMPTION = re.compile(r" (no new claims to deallocate, )?preemption: .*", re.DOTALL)
UNCONNECTED = re.compile(
    r".*timeout.*|(weaviate|cannot)?connect.*|(os|brokenpipe|read|write|close|network|remoteprotocol|incompleteread|interface)error",
    re.IGNORECASE,
)
"""Kinds of error with which one and the same attempt to connect may end; which it is, changes from one to the next."""


def pods_finding(pods: Iterable[Manifest], at: str = "") -> Blocked | None:
    """What is wrong with the first pod that something is wrong with.

    Args:
        at: when they were looked at; empty: long after anything happened to them.
    """
    return next((finding for pod in _ordered(pods) if (finding := _pod_finding(pod, at))), None)


def waits_for_disk(pod: Manifest, at: str) -> bool:
    """Whether the scheduler waits for a disk that has only just been asked for."""
    unplaced = _unplaced(pod)
    if unplaced is None or DISK not in str(unplaced.get("message", "")).lower():
        return False
    return young(unplaced, DISK_SECONDS, at)


def waits_to_begin(pod: Manifest, at: str) -> bool:
    """Whether a pod has had its node for a while and no container of it was made, of which its status says no more."""
    placed = next((one for one in _status(pod).get("conditions") or [] if one["type"] == "PodScheduled"), None)
    if placed is None or placed["status"] != "True" or pod["metadata"].get("deletionTimestamp"):
        return False
    made = [*(_status(pod).get("initContainerStatuses") or []), *(_status(pod).get("containerStatuses") or [])]
    waiting = ((container.get("state") or {}).get("waiting") or {} for container in made)
    begins = all(one.get("reason") in ("ContainerCreating", "PodInitializing") for one in waiting)
    return begins and _status(pod).get("phase") == "Pending" and not young(placed, BEGINNING_SECONDS, at)


def attempt_finding(job: str, pods: Iterable[Manifest], database: str) -> Blocked | None:
    """Why the last attempt of a Job that goes on trying failed.

    Args:
        pods: all of the Job.
        database: what it works on, in words.
    """
    failed = _last_attempt(pods)
    if failed is None:
        return None
    pod, ended = failed
    if ended["exitCode"] == UNREACHABLE:
        text = f"Job {job} cannot use {database}: {_kind(ended)}. It is tried again by itself."
        return Blocked(Reason.STORE_UNREACHABLE, text)
    text = f"Job {job} is tried again: pod {pod} {_end(ended)}: kubectl logs {pod}"
    return Blocked(Reason.CRASH_LOOP, text)


def steady(kind: str) -> str:
    """A kind of error in words that are the same for each attempt, so that a status that says them is written once."""
    if kind == "gaierror":
        return "its host name is not found"
    return "no connection" if UNCONNECTED.fullmatch(kind) else kind


def failed_attempt(pod: Manifest) -> Manifest | None:
    """How a container of it ended that is not begun anew."""
    ends = ((item.get("state") or {}).get("terminated") for item in _status(pod).get("containerStatuses") or [])
    return next((ended for ended in ends if ended and ended.get("exitCode")), None)


def last_end(pods: Iterable[Manifest]) -> str:
    """How the last attempt of a Job ended; empty where that is not known any more."""
    failed = _last_attempt(pods)
    return f" Its last pod {_end(failed[1])}." if failed else ""


def _last_attempt(pods: Iterable[Manifest]) -> tuple[str, Manifest] | None:
    """Name of the newest pod that failed, and how its container ended."""
    ordered = sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp") or ""), reverse=True)
    found = ((str(pod["metadata"]["name"]), ended) for pod in ordered if (ended := failed_attempt(pod)))
    return next(found, None)


def _ordered(pods: Iterable[Manifest]) -> list[Manifest]:
    return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))


def _pod_finding(pod: Manifest, at: str) -> Blocked | None:
    name, status = pod["metadata"]["name"], _status(pod)
    if (unplaced := _unplaced(pod)) and not waits_for_disk(pod, at):
        return Blocked(Reason.UNSCHEDULABLE, f"Pod {name} fits no node: {_why_unplaced(unplaced)}{_asks_for(pod)}")
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return next((finding for container in containers if (finding := _container_finding(name, container, at))), None)


def _unplaced(pod: Manifest) -> Manifest | None:
    """The scheduler's word that no node takes it."""
    found: list[Manifest] = _status(pod).get("conditions") or []
    return next((one for one in found if one["type"] == "PodScheduled" and one.get("reason") == "Unschedulable"), None)


def _why_unplaced(unplaced: Manifest) -> str:
    """Without what was thought about ending others in its favour: that names no cause, and nothing to be done."""
    return PREEMPTION.sub("", str(unplaced.get("message", "")))


def _asks_for(pod: Manifest) -> str:
    """What a person would lower."""
    containers = (pod.get("spec") or {}).get("containers") or []
    asked: Manifest = next((found for one in containers if (found := (one.get("resources") or {}).get("requests"))), {})
    named = ", ".join(f"{kind} {asked[kind]}" for kind in sorted(asked))
    return f" It asks for {named}." if named else ""


def _again_and_again(container: Manifest, ended: Manifest, at: str) -> bool:
    """Whether it ends soon whenever it is begun; that it was killed once, a restart has mended."""
    begun, over = (str(ended.get(field) or "") for field in ("startedAt", "finishedAt"))
    lately = begun > "" and passed(over, at) < CRASH_SECONDS and passed(begun, over) < CRASH_SECONDS
    return bool(lately and container.get("restartCount", 0) >= CRASHES and not container.get("ready"))


def _container_finding(pod: str, container: Manifest, at: str) -> Blocked | None:
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason", "")
    if reason in PULL_FAILURES:
        # The kubelet's own message changes with each attempt; ours stays, so that it is written once.
        text = (
            f"Pod {pod} cannot pull image {container['image']} ({_cause(reason, waiting)}): kubectl describe pod {pod}"
        )
        return Blocked(Reason.IMAGE_PULL_FAILED, text)
    if reason in CONFIG_FAILURES:
        return Blocked(Reason.CONTAINER_CONFIG_ERROR, f"Pod {pod} cannot start: {waiting.get('message', reason)}")
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    if ended and (reason == "CrashLoopBackOff" or _again_and_again(container, ended, at)):
        logs = f"kubectl logs {pod}{'' if 'terminated' in state else ' --previous'}"
        hint = "its memory limit is too low" if ended.get("reason") == "OOMKilled" else logs
        return Blocked(Reason.CRASH_LOOP, f"Pod {pod} {_end(ended)}: {hint}")
    return None


def _cause(reason: str, waiting: Manifest) -> str:
    """What the registry or the kubelet said, in a word."""
    message = str(waiting.get("message", "")).lower()
    words = ("not found", "unauthorized", "forbidden", "denied", "no such host", "timeout", "refused")
    if reason in ("InvalidImageName", "ErrImageNeverPull"):
        return reason
    return next((word for word in words if word in message), "no answer yet")


def _end(ended: Manifest) -> str:
    cause = ended.get("reason", "")
    cause = "killed" if cause in ("", "Error") and ended["exitCode"] in KILLED else cause
    killed = f" ({cause})" if cause not in ("", "Error") else ""
    words = _said(ended)
    said = f", saying {words[-WORDS:]!r}" if words else ""
    return f"ended with exit code {ended['exitCode']}{killed}{said}"


def _said(ended: Manifest) -> str:
    """A container's last words, of a line of its log what a person would read."""
    logged = _logged(ended)
    if ended["exitCode"] in KILLED or logged.get("level") in ("debug", "info"):
        return ""  # a line of its start, say
    told = [str(logged[key]) for key in ("event", "error", "reason") if logged.get(key)]
    return ": ".join(told) or _last_line(ended)


def _kind(ended: Manifest) -> str:
    """The kind of an error, as a service logs it."""
    kind = str(_logged(ended).get("error", ""))
    return steady(kind) if KIND.fullmatch(kind) else "no answer"


def _logged(ended: Manifest) -> Manifest:
    """The last line of a service's log; empty where it is something else."""
    try:
        found = json.loads(_last_line(ended))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _last_line(ended: Manifest) -> str:
    lines = [line.strip() for line in str(ended.get("message", "")).splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _status(pod: Manifest) -> Manifest:
    return pod.get("status") or {}
