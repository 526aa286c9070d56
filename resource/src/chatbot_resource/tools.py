"""What the model may do besides talking: the `tools` part of the resource."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from chatbot_resource.cel import MapList, Rule, rules
from chatbot_resource.fields import KeyRef, Model, Url, unique

ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=64)]
"""As model providers take them."""
Host = Annotated[
    str,
    StringConstraints(pattern=r"^(\*\.)?([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)+[a-z][-a-z0-9]*[a-z0-9]$", max_length=253),
]
"""Of the internet: `localhost`, an address and `*.com` are none."""

HTTP_FETCH, WEATHER = "http_fetch", "weather"
_NEEDS_HOSTS = (
    f"tools.enabled has {HTTP_FETCH}, which reads listed hosts alone: name some in httpAllowList, or take it out"
)


class Weather(Model):
    """Where the weather tool asks: an API that speaks like Open-Meteo, which is public and needs no key."""

    base_url: Annotated[Url, Field(alias="baseURL", description="Address of the forecast API, with its version.")] = (
        "https://api.open-meteo.com/v1"
    )
    geocoding_url: Annotated[
        Url,
        Field(alias="geocodingURL", description="Address of the API that finds places, with its version."),
    ] = "https://geocoding-api.open-meteo.com/v1"


_SAFE_URL = (
    r"^(https://[^@]*|http://([-a-z0-9]+|[-a-z0-9]+\.[-a-z0-9]+\.svc(\.[-a-z0-9.]*)?|127\.0\.0\.1)(:[0-9]+)?(/[^@]*)?)$"
)
_SAFE = (
    "an MCP server's url must be https, or http to a Service of the cluster (name or name.namespace.svc), with no"
    " password"
)


def _safe(url: str) -> str:
    if not re.match(_SAFE_URL, url):
        raise ValueError(_SAFE)
    return url


class McpServer(Model):
    """Tools of another program, over MCP's streamable HTTP. They are called NAME_TOOL."""

    name: Annotated[
        str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=24), Field(description="Yours.")
    ]
    url: Annotated[
        Url,
        AfterValidator(_safe),
        Rule(f"self.matches(r'{_SAFE_URL}')", _SAFE),
        Field(description="Its endpoint, such as https://tools.example.com/mcp; http only inside of the cluster."),
    ]
    secret_ref: Annotated[KeyRef | None, Field(description="A token, sent as `Authorization: Bearer`.")] = None


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
    mcp_servers: Annotated[
        list[McpServer],
        MapList("name"),
        Field(
            max_length=16,
            description="Servers whose tools the model has, too. The user is asked before each call of one that its "
            "server does not mark as only reading.",
        ),
    ] = Field(default_factory=list)
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
        unique("mcpServers", (server.name for server in self.mcp_servers))
        if HTTP_FETCH in self.enabled and not self.http_allow_list:
            raise ValueError(_NEEDS_HOSTS)
        return self
