"""Who looks after the bots of a namespace: the operator's settings, found by label, and whether one holds its Lease."""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from chatbot_operator.names import LEASE
from chatbot_operator.settings import Settings
from pydantic import ValidationError

from chatbot_cli import screen
from chatbot_cli.cluster.kubectl import Kubectl, Object
from chatbot_cli.cluster.refusals import CHART, Refused, Why
from chatbot_cli.cluster.times import age, seconds_since
from chatbot_cli.errors import CliError

SELECTOR = "app.kubernetes.io/part-of=chatbot-platform"
"""Of what the chart makes."""
KEY = "settings.json"
INSTALL = f"To install it: `{CHART}`."
LATE_SECONDS = 60.0
"""On top of a Lease's duration: this machine's clock is not the cluster's."""
HANDOVER_SECONDS = 10.0
"""Within which a pod that waits has taken a Lease that was given back."""


@dataclass(frozen=True)
class Operator:
    """What can be seen of an operator from here."""

    running: bool | None
    """None: it cannot be seen."""
    text: str
    """A sentence when it is not running, or cannot be seen."""
    seen: str = ""
    """RFC 3339: when the last one that is gone was at work; empty where that is not known."""
    todo: str = "Get the operator to run first; nothing changes without it."
    """Where it is not running."""


def warn(kubectl: Kubectl, then: str) -> None:
    """After something was asked of an operator: that there is none, where that can be seen.

    Args:
        then: what becomes of it meanwhile.
    """
    with suppress(CliError):
        found = look(kubectl, datetime.now(UTC))
        if found.running is False:
            screen.warn("Later", f"{found.text} {then}")


def look(kubectl: Kubectl, now: datetime) -> Operator:
    """Whether an operator works for the namespace."""
    try:
        leases = _leases(kubectl)
    except Refused as refused:
        if refused.why is not Why.FORBIDDEN:
            raise
        return Operator(None, "Whether an operator runs cannot be seen: you may not list Leases.")
    try:
        installed = _installed(kubectl)
        ours = _watching(installed, kubectl.namespace)
    except CliError:  # no rights, or settings that this command does not know: then any operator will do
        return _judge(kubectl, leases, now)
    if installed and not ours:
        text = f"No operator watches namespace {kubectl.namespace}; there is: {', '.join(installed)}."
        todo = f"Add {kubectl.namespace} to the chart's `watchNamespaces` first; nothing changes without an operator."
        return Operator(False, text, todo=todo)
    namespaces = {settings.lease.namespace for settings in ours.values()}
    asked = [item for item in leases if not namespaces or item["metadata"]["namespace"] in namespaces]
    return _judge(kubectl, asked, now)


def _leases(kubectl: Kubectl) -> list[Object]:
    return kubectl.list(["Lease"], fields=f"metadata.name={LEASE}", everywhere=True)


def settings_of(kubectl: Kubectl, file: Path | None) -> Settings:
    """What the operator of the namespace is told; from a file when one is named.

    Raises:
        CliError: there is none, or it cannot be read, and how to get it.
    """
    if file is not None:
        return _from_file(file)
    try:
        found = _watching(_installed(kubectl), kubectl.namespace)
    except Refused as refused:
        if refused.why is Why.FORBIDDEN:
            raise _ask_for_settings("You may not read the operator's settings.", kubectl, refused.details) from None
        raise
    if not found:
        text = f"No operator was found that watches namespace {kubectl.namespace}, so its images are not known."
        raise _ask_for_settings(text, kubectl)
    return next(iter(found.values()))


def _ask_for_settings(text: str, kubectl: Kubectl, details: Iterable[str] = ()) -> CliError:
    read = kubectl.here(f"get configmap -A -l {SELECTOR}", everywhere=True)
    return CliError(text, f"Name a file with them: --operator-settings FILE  (the key {KEY} of: {read})", list(details))


def _installed(kubectl: Kubectl) -> dict[str, str]:
    """Name of the ConfigMap → its settings as text."""
    found = kubectl.list(["ConfigMap"], SELECTOR, everywhere=True)
    return {_name(item): item["data"][KEY] for item in found if KEY in (item.get("data") or {})}


def _name(item: Object) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def _watching(installed: dict[str, str], namespace: str) -> dict[str, Settings]:
    """Those that watch the namespace; the ones that watch only some come first. Raises `CliError`."""
    watched = {name: _namespaces(text) for name, text in installed.items()}
    chosen = [name for name, only in watched.items() if not only or namespace in only]
    chosen.sort(key=lambda name: (not watched[name], name))
    return {name: _parse(installed[name], f"ConfigMap {name}") for name in chosen}


def _namespaces(text: str) -> list[str]:
    """Of an operator of any version; empty: all of them."""
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return list(found.get("watch_namespaces") or []) if isinstance(found, dict) else []


def _from_file(file: Path) -> Settings:
    try:
        return _parse(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not a text file"
        raise CliError(f"{file} cannot be read: {why}.", code=2) from None


def _parse(text: str, where: str) -> Settings:
    try:
        return Settings.model_validate_json(text)
    except ValidationError as error:
        details = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_url=False)]
        hint = "Is the operator newer or older than this command? Use the command of the operator's version."
        raise CliError(
            f"{where} does not hold an operator's settings as this command knows them:", hint, details
        ) from None


def _judge(kubectl: Kubectl, leases: list[Object], now: datetime) -> Operator:
    if not leases:
        return Operator(False, f"No operator has ever run here: there is no Lease. Do its pods start? {INSTALL}")
    latest = max(leases, key=lambda item: str(item["spec"].get("renewTime") or ""))
    spec, where = latest["spec"], latest["metadata"]["namespace"]
    renewed = str(spec.get("renewTime") or "")
    late = seconds_since(renewed, now)
    if not spec.get("holderIdentity"):
        if late is not None and late <= HANDOVER_SECONDS:  # as in each upgrade
            return Operator(None, "An operator has just ended, and another one may be about to take over.")
        return Operator(False, f"No operator runs: the last one ended {age(renewed, now)} ago. {_look(where)}", renewed)
    lasts = float(spec.get("leaseDurationSeconds") or 0)
    if late is not None and late <= lasts:
        return Operator(True, "")
    # What is deleted together with its rights, as by helm uninstall, cannot give its Lease back.
    pods = _available(kubectl.within(where))
    holder = f"{spec['holderIdentity']} renewed its Lease {age(renewed, now)} ago"
    if pods == 0:
        text = f"No operator runs: {holder}, and none of its pods is available. {_look(where)} {INSTALL}"
        return Operator(False, text, renewed)
    if late is None or late > lasts + LATE_SECONDS:
        return Operator(False, f"No operator seems to run: {holder}. {_look(where)}", renewed)
    return Operator(True, "")


def _available(kubectl: Kubectl) -> int | None:
    """Pods of operators that the chart has installed in a namespace; None: they cannot be seen."""
    try:
        found = kubectl.list(["Deployment"], SELECTOR)
    except Refused:
        return None
    return sum(int((item.get("status") or {}).get("availableReplicas") or 0) for item in found)


def _look(namespace: str) -> str:
    return f"Look at its pods: kubectl get pods -n {namespace}."
