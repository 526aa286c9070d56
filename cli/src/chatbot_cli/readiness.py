"""Waiting until the platform really answers: every process ready, all reached through the gateway, knowledge found."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chatbot_cli.calling import call
from chatbot_cli.errors import CliError
from chatbot_cli.home import Home
from chatbot_cli.knowledge import text_of
from chatbot_cli.loopback import Answer, request
from chatbot_cli.processes import tail
from chatbot_cli.services import Started
from chatbot_cli.state import State

READY_SECONDS = 120
HEALTHY_SECONDS = 30
KNOWLEDGE_SECONDS = 120
POLL_SECONDS = 0.1
SETTLING_SECONDS = 3
"""What a service goes on without may be there a moment later than the service."""
SPARED = ("tools", "providers")
"""Checks of what runs elsewhere, and answers can be had without. All else is started here, and has to come."""

Note = Callable[[str], None]


def readiness(private_port: int) -> str:
    """`ready`, or why a process is not, such as `database: timeout`; `no answer` before it listens."""
    return _readiness(request(private_port, "GET", "/readyz"))


def readiness_and_lack(private_port: int) -> tuple[str, str]:
    """The same, and what a process that is ready goes on without, such as `tools (ToolMissing)`."""
    answer = request(private_port, "GET", "/readyz?verbose")
    body = answer.body if answer and answer.ok and isinstance(answer.body, dict) else {}
    return _readiness(answer), _lacking(body.get("reported", {}))


def _readiness(answer: Answer | None) -> str:
    if answer is None:
        return "no answer"
    if answer.ok:
        return "ready"
    if not isinstance(answer.body, dict):
        return f"answered {answer.status}"
    bad = [f"{name}: {check}" for name, check in answer.body.get("checks", {}).items() if check != "ok"]
    return ", ".join(bad) or ("draining" if answer.body.get("draining") else "not ready")


def wait_ready(home: Home, state: State, started: Mapping[str, Started], names: Sequence[str], note: Note) -> None:
    """Return when every named process is ready. Raises `CliError` when one dies or never gets there."""
    deadline = time.monotonic() + READY_SECONDS
    waiting = dict.fromkeys(names, "starting")
    while waiting:
        for name in list(waiting):
            _still_there(home, state, name, started.get(name))
            reason = readiness(state.ports[name][1])
            if reason == "ready":
                del waiting[name]
            else:
                waiting[name] = reason
                _hopeless(home, name, reason, started.get(name))
        if waiting:
            note("waiting for " + ", ".join(_short(name, reason) for name, reason in waiting.items()))
            if time.monotonic() > deadline:
                raise _late(home, waiting)
            time.sleep(POLL_SECONDS)


def wait_healthy(port: int, note: Note) -> dict[str, str]:
    """Return when all services answer through the gateway. Raises `CliError`.

    Returns:
        By service, what it goes on without, such as `tools (ToolMissing)`.
    """
    began = time.monotonic()
    while True:
        services = _services(port)
        bad = [name for name, health in services.items() if not _goes_on(health)]
        lacking = {name: text for name, one in services.items() if (text := _lacking(one.get("checks", {})))}
        waited = time.monotonic() - began
        if services and not bad and (not lacking or waited > SETTLING_SECONDS):
            return lacking
        note(f"asking through the gateway: {', '.join(bad or lacking) or 'no answer yet'}")
        if waited > HEALTHY_SECONDS:
            raise CliError(
                f"Through the gateway not everything answers: {', '.join(bad) or 'no answer at all'}.",
                f"Look at: {call('status')}, {call('logs gateway')}",
            )
        time.sleep(POLL_SECONDS)


def wait_knowledge(port: int, access_token: str, expected: Mapping[str, str], note: Note) -> list[str]:
    """Return when a search finds all that is expected, or the time is up.

    Args:
        port: of the conversation service; asked directly, so that waiting uses up nobody's request limit.
        expected: query → title that one of the best passages must have; "" accepts any document.

    Returns:
        Queries that find nothing yet.
    """
    deadline = time.monotonic() + KNOWLEDGE_SECONDS
    waiting = dict(expected)
    pause = POLL_SECONDS
    while waiting:
        for query, title in list(waiting.items()):
            if _finds(port, access_token, query, title):
                del waiting[query]
        if not waiting or time.monotonic() > deadline:
            break
        note("indexing the knowledge")
        time.sleep(pause)
        pause = min(pause * 1.5, 1.0)
    return list(waiting)


def expected_answers(faqs: str | None, documents: Sequence[Path]) -> dict[str, str]:
    """Searches that succeed only when all of the knowledge is indexed: its first and its last piece.

    Args:
        faqs: text of the FAQ file.
        documents: those that can be indexed.
    """
    import yaml

    try:
        seeds = yaml.safe_load(faqs or "[]")
    except yaml.YAMLError:
        seeds = []  # the worker says what is wrong with it
    questions = [str(seed.get("question", "")).strip() for seed in seeds or [] if isinstance(seed, dict)]
    expected = {question: question for question in (questions[:1] + questions[-1:]) if question}
    return expected | {text_of(document)[:400]: "" for document in documents[-1:]}


def _finds(port: int, access_token: str, query: str, title: str) -> bool:
    answer = request(
        port,
        "POST",
        "/api/v1/knowledge/search",
        body={"query": query, "limit": 10},
        headers={"Authorization": f"Bearer {access_token}"},
        seconds=15,
    )
    if answer is None or not answer.ok or not isinstance(answer.body, dict):
        return False
    passages: list[dict[str, Any]] = answer.body.get("passages", [])
    if title:
        return any(str(passage.get("title")).strip() == title for passage in passages)
    return any(passage.get("kind") == "document" for passage in passages)


def _services(port: int) -> dict[str, dict[str, Any]]:
    """Each with its health, as the gateway tells it; none where it does not answer."""
    answer = request(port, "GET", "/health/all", seconds=5)
    found: dict[str, dict[str, Any]] = (
        answer.body.get("services", {}) if answer and isinstance(answer.body, dict) else {}
    )
    return found


def _goes_on(health: Mapping[str, Any]) -> bool:
    checks = {name: state for name, state in health.get("checks", {}).items() if name not in SPARED}
    return health.get("status") in ("ok", "degraded") and not _lacking(checks)


def _lacking(checks: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({state})" for name, state in checks.items() if state != "ok")


def _short(name: str, reason: str) -> str:
    return name if reason in ("starting", "no answer") else f"{name} ({reason})"


def _still_there(home: Home, state: State, name: str, started: Started | None) -> None:
    if state.alive(name):
        return
    log = home.log(name)
    lines = started.last_lines() if started else tail(log, 12)
    raise CliError(f"{name} ended while it was starting.", f"The whole log: {log}", lines)


def _hopeless(home: Home, name: str, reason: str, started: Started | None) -> None:
    """A file of the user's that cannot be read will not mend itself: say what its reader said."""
    if "Bad" not in reason:
        return
    log = home.log(name)
    lines = started.last_lines(40) if started else tail(log, 40)
    told = [line for line in lines if '"error"' in line or '"level": "error"' in line][-1:] or lines[-3:]
    raise CliError(f"{name} cannot use what it was given ({reason}).", f"The whole log: {log}", told)


def _late(home: Home, waiting: Mapping[str, str]) -> CliError:
    name, reason = next(iter(waiting.items()))
    return CliError(
        f"{', '.join(waiting)} did not become ready within {READY_SECONDS} s ({name}: {reason}).",
        f"The processes are left running. The whole log: {home.log(name)}",
        tail(home.log(name), 12),
    )
