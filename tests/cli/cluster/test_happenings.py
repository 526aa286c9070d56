"""Which of a bot's Warning events are shown, and how many of them as one."""

from datetime import UTC, datetime
from typing import Any

from chatbot_cli.cluster.happenings import Happening, chosen

LOOKED = datetime(2026, 11, 21, 6, 10, tzinfo=UTC)
OURS = {"bot": "", "sts": "", **{f"chat-{number}": "chat" for number in range(9)}, "auth-0": "auth"}


def event(uid: str, reason: str, message: str, minute: int = 5, count: int = 1, kind: str = "Pod") -> dict[str, Any]:
    about = {"kind": kind, "name": f"demo-{uid}", "uid": uid}
    when = f"2026-11-21T06:0{minute}:00Z"
    return {"metadata": {}, "involvedObject": about, "reason": reason, "message": message} | {
        "lastTimestamp": when,
        "count": count,
    }


def probe(uid: str, address: str, minute: int = 9, what: str = "Readiness") -> dict[str, Any]:
    return event(uid, "Unhealthy", f'{what} probe failed: Get "http://{address}:9090/readyz": refused', minute, 3)


def test_failed_probes_are_one_for_a_component_and_come_last() -> None:
    told = [probe(f"chat-{number}", f"10.0.0.{number}") for number in range(5)]
    told += [probe("auth-0", "10.0.1.0"), probe("chat-0", "10.0.0.0", what="Liveness")]
    told += [event("chat-8", "BackOff", "Back-off restarting failed container", 1)]
    found = chosen(told, OURS, LOOKED)
    assert [(item.reason, item.count, item.others) for item in found] == [
        ("BackOff", 1, 0),
        ("Unhealthy", 15, 4),
        ("Unhealthy", 3, 0),
        ("Unhealthy", 3, 0),
    ]


def test_what_pods_of_a_component_say_alike_is_told_once() -> None:
    same = "0/1 nodes are available: 1 Insufficient cpu."
    told = [event("chat-1", "FailedScheduling", same, 4), event("chat-2", "FailedScheduling", same, 6, 2)]
    told += [event("auth-0", "FailedScheduling", same, 5)]
    assert chosen(told, OURS, LOOKED) == [
        Happening("Pod demo-chat-2", "FailedScheduling", same, "2026-11-21T06:06:00Z", 3, 1),
        Happening("Pod demo-auth-0", "FailedScheduling", same, "2026-11-21T06:05:00Z", 1, 0),
    ]


def test_a_quota_is_told_once_however_many_pods_it_refuses() -> None:
    said = 'Error creating: pods "demo-sts-{}" is forbidden: exceeded quota: {}, requested: cpu=1, used: cpu={}'
    told = [
        event("sts", "FailedCreate", said.format(*words), minute, kind="StatefulSet")
        for minute, words in enumerate([("a", "team", 1), ("b", "team", 2), ("c", "other", 2)])
    ]
    found = chosen(told, OURS, LOOKED)
    assert [(item.message, item.count) for item in found] == [
        (said.format("c", "other", 2), 1),
        (said.format("b", "team", 2), 2),
    ]


def test_what_is_not_ours_or_long_ago_is_left_out() -> None:
    told = [event("other", "Failed", "of a neighbour"), event("sts", "Failed", "odd", kind="StatefulSet")]
    told[1]["lastTimestamp"] = "2026-11-21T05:09:00Z"
    assert chosen(told, OURS, LOOKED) == []


def test_no_more_than_a_screenful() -> None:
    told = [event("bot", "Odd", f"number {number}", number, kind="ChatbotDeployment") for number in range(9)]
    assert [item.message for item in chosen(told, OURS, LOOKED)] == [f"number {number}" for number in (8, 7, 6, 5, 4)]
