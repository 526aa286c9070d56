"""The `slo` part of the resource: what people may expect of the bot; alerts are made from it."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from chatbot_resource.cel import Rule, rules
from chatbot_resource.fields import Duration, Model, seconds

FASTEST_SECONDS, SLOWEST_SECONDS = 0.05, 60.0
"""What chat's histogram of first tokens can tell."""

_FIRST_TOKEN = "slo.firstTokenP95 must be from 50ms to 60s"  # noqa: S105 - no password

Percent = Annotated[str, StringConstraints(pattern=r"^9[0-9](\.[0-9]{1,3})?$", max_length=6)]


class Slo(Model):
    """What is promised, over 30 days. Alerts tell when it is being broken: docs/guides/observability.md."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "duration(self.firstTokenP95) >= duration('50ms') && duration(self.firstTokenP95) <= duration('60s')",
                _FIRST_TOKEN,
            )
        )
    )

    availability: Annotated[
        Percent, Field(description="Percent of requests that the gateway does not fail, from 90 to 99.999.")
    ] = "99.9"
    first_token_p95: Annotated[
        Duration,
        Field(alias="firstTokenP95", description="In so long 95 of 100 answers of the models begin, 50ms to 60s."),
    ] = "2s"  # noqa: S105 - no password

    @model_validator(mode="after")
    def _measurable(self) -> Self:
        if not FASTEST_SECONDS <= seconds(self.first_token_p95) <= SLOWEST_SECONDS:
            raise ValueError(_FIRST_TOKEN)
        return self
