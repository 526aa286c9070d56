"""How much of a node a pod gets: requests and limits, as Kubernetes has them."""

from typing import Self

from pydantic import ConfigDict, model_validator

from chatbot_resource.cel import Rule, rules
from chatbot_resource.fields import Model, Quantity, amount


class Amounts(Model):
    """Quantities as Kubernetes writes them: `250m` or `1` of cpu, `512Mi` of memory."""

    cpu: Quantity | None = None
    memory: Quantity | None = None


def _exceeds(resource: str) -> str:
    return f"must not exceed its limit: lower it, or raise limits.{resource}"


def _within_limit(resource: str) -> Rule:
    both = f"has(self.requests) && has(self.limits) && has(self.requests.{resource}) && has(self.limits.{resource})"
    request, limit = (f"quantity(string(self.{part}.{resource}))" for part in ("requests", "limits"))
    return Rule(f"!({both}) || {request}.compareTo({limit}) <= 0", f"requests.{resource} {_exceeds(resource)}")


class Resources(Model):
    """What each pod asks for and may use. Unset keys depend on the profile."""

    model_config = ConfigDict(json_schema_extra=rules(_within_limit("cpu"), _within_limit("memory")))

    requests: Amounts = Amounts()
    limits: Amounts = Amounts()

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        for name in ("cpu", "memory"):
            request, limit = getattr(self.requests, name), getattr(self.limits, name)
            if request and limit and amount(request) > amount(limit):
                raise ValueError(f"requests.{name} {_exceeds(name)}")
        return self
