"""What the model may do besides talking: the `tools` part of the resource."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from chatbot_resource.cel import Rule, rules
from chatbot_resource.fields import Model, Url

ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=64)]
"""As model providers take them."""
Host = Annotated[
    str,
    StringConstraints(pattern=r"^(\*\.)?([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)+[a-z][-a-z0-9]*[a-z0-9]$", max_length=253),
]
"""Of the internet: `localhost`, an address and `*.com` are none."""

HTTP_FETCH, WEATHER = "http_fetch", "weather"
_NEEDS_HOSTS = f"tools.enabled has {HTTP_FETCH}, which needs httpAllowList: it reads no host that is not listed"


class Weather(Model):
    """Where the weather tool asks: an API that speaks like Open-Meteo, which is public and needs no key."""

    base_url: Annotated[Url, Field(alias="baseURL", description="Address of the forecast API, with its version.")] = (
        "https://api.open-meteo.com/v1"
    )
    geocoding_url: Annotated[
        Url,
        Field(alias="geocodingURL", description="Address of the API that finds places, with its version."),
    ] = "https://geocoding-api.open-meteo.com/v1"


class Tools(Model):
    """What the model may do besides talking. Those that reach out of the platform are off until they are named."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                f"!has(self.enabled) || !('{HTTP_FETCH}' in self.enabled)"
                " || (has(self.httpAllowList) && size(self.httpAllowList) > 0)",
                _NEEDS_HOSTS,
            )
        )
    )

    enabled: Annotated[
        list[ToolName],
        Field(
            max_length=64,
            description="Names of tools: calculator, current_time, knowledge_search, conversation_report, weather, "
            "http_fetch, and those of plug-ins in the chat image.",
        ),
    ] = ["calculator", "current_time", "knowledge_search"]  # noqa: RUF012 - copied for each
    http_allow_list: Annotated[
        list[Host],
        Field(
            max_length=64,
            description="Hosts that http_fetch may read, over https; `*.example.com` is each one below example.com. "
            "With http_fetch enabled, chat's pods reach port 443 of every public address.",
        ),
    ] = Field(default_factory=list)
    weather: Weather = Weather()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if HTTP_FETCH in self.enabled and not self.http_allow_list:
            raise ValueError(_NEEDS_HOSTS)
        return self
