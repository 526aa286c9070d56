"""What the gateway is told."""

from ipaddress import ip_network
from typing import Annotated

from chatbot_common.redis_url import RedisUrl
from chatbot_common.settings import ClosedModel, ServiceSettings
from pydantic import AfterValidator, Field

Count = Annotated[int, Field(ge=1)]


def _network(text: str) -> str:
    ip_network(text)  # raises: a name or a wildcard would be compared as text, or trust everyone
    return text


Network = Annotated[str, AfterValidator(_network)]


class Upstreams(ClosedModel):
    """Base URLs of the services behind the gateway."""

    auth: str
    chat: str
    conversation: str


class Limits(ClosedModel):
    """Requests per user, or per address before sign-in."""

    per_minute: Count
    per_hour: Count
    per_day: Count


class Settings(ServiceSettings):
    upstreams: Upstreams
    limits: Limits
    cors_allow_origins: list[str]
    max_body_bytes: Count = 1024 * 1024
    body_pause_seconds: Annotated[float, Field(gt=0)] = 10
    """How long a client may send nothing of a body it has begun; the whole may take `body_seconds`."""
    body_seconds: Annotated[float, Field(gt=0)] = 30
    trusted_proxies: list[Network] = Field(default_factory=list)
    """Addresses or CIDRs of the proxies in front; only their X-Forwarded-For and X-Forwarded-Proto are believed."""
    redis_url: RedisUrl
