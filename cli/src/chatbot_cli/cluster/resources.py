"""A ChatbotDeployment as it is in the cluster, read leniently: its operator may be older or newer than this command."""

import re
from dataclasses import dataclass
from typing import Any

from chatbot_resource.model import KIND

from chatbot_cli.cluster.kubectl import Kubectl, Object
from chatbot_cli.cluster.refusals import Refused
from chatbot_cli.errors import CliError

ASIDE = ("Progressing", "Degraded", "Paused")
"""Conditions that say in another way what `Ready` says. True is no good news of any of them."""


@dataclass(frozen=True)
class Condition:
    type: str
    status: str
    reason: str
    message: str
    since: str
    """RFC 3339: when `status` last flipped."""

    @property
    def true(self) -> bool:
        return self.status == "True"

    @property
    def well(self) -> bool:
        """Whether it is as one wishes it: for some conditions that is False."""
        return self.status == "False" if self.type in ASIDE else self.true


@dataclass(frozen=True)
class Bot:
    """One resource, with what the operator last wrote about it."""

    raw: Object

    @property
    def name(self) -> str:
        return str(self.raw["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.raw["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        return str(self.raw["metadata"]["uid"])

    @property
    def created(self) -> str:
        return str(self.raw["metadata"].get("creationTimestamp") or "")

    @property
    def deleted(self) -> str | None:
        """Since when it is being deleted."""
        when = self.raw["metadata"].get("deletionTimestamp")
        return str(when) if when else None

    @property
    def generation(self) -> int:
        return int(self.raw["metadata"].get("generation") or 0)

    @property
    def spec(self) -> Object:
        return self.raw.get("spec") or {}

    @property
    def mode(self) -> str:
        return str(self.spec.get("mode") or "Active")

    @property
    def status(self) -> Object:
        return self.raw.get("status") or {}

    @property
    def seen(self) -> int | None:
        """The generation that the status tells of; None when nothing was ever written."""
        return self.status.get("observedGeneration")

    @property
    def current(self) -> bool:
        return self.seen == self.generation

    @property
    def conditions(self) -> list[Condition]:
        return [_condition(item) for item in self.status.get("conditions") or []]

    def condition(self, kind: str) -> Condition | None:
        return next((item for item in self.conditions if item.type == kind), None)

    def is_true(self, kind: str) -> bool:
        found = self.condition(kind)
        return found is not None and found.true

    @property
    def ready(self) -> bool:
        """Ready in its present form."""
        return self.current and self.is_true("Ready") and not self.deleted

    @property
    def components(self) -> list[Object]:
        return list(self.status.get("components") or [])


def get(kubectl: Kubectl, name: str) -> Bot:
    """Raises `CliError` when it is not there."""
    name = plain(name)
    found = kubectl.get(KIND, name)
    if found is None:
        others = ", ".join(bot.name for bot in every(kubectl))
        hint = f"There are: {others}." if others else f"There is none at all; look elsewhere: {_everywhere(kubectl)}"
        raise CliError(f"There is no {KIND} {name} in namespace {kubectl.namespace}.", hint)
    return Bot(found)


def every(kubectl: Kubectl, *, everywhere: bool = False) -> list[Bot]:
    """Raises `CliError`, also when there is no such namespace."""
    found = [Bot(item) for item in kubectl.list([KIND], everywhere=everywhere)]
    if not found and not everywhere:
        _check_namespace(kubectl)
    return found


def _check_namespace(kubectl: Kubectl) -> None:
    """The API server lists what is in a namespace that is not there without a word."""
    try:
        there = kubectl.run("get", "namespace", kubectl.namespace, "--ignore-not-found", "-o", "name").strip()
    except Refused:  # who may see bots may not see namespaces
        return
    if not there:
        raise CliError(f"There is no namespace {kubectl.namespace}.", f"All chatbots: {_everywhere(kubectl)}")


def plain(name: str) -> str:
    """Also of `cbd/NAME`, as kubectl prints it. Raises `CliError` for what cannot be a name, such as an option."""
    name = name.rpartition("/")[2]
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name):
        raise CliError(f"{name!r} is no name of a {KIND}.", "Names: lower-case letters, digits and '-'.", code=2)
    return name


def _everywhere(kubectl: Kubectl) -> str:
    return kubectl.here("chatbot status -A", everywhere=True)


def _condition(item: dict[str, Any]) -> Condition:
    fields = ("type", "status", "reason", "message", "lastTransitionTime")
    return Condition(*(str(item.get(field) or "") for field in fields))
