"""What the gateway is told."""

from typing import Annotated

from chatbot_common.settings import ClosedModel, ServiceSettings
from pydantic import Field, SecretStr

Count = Annotated[int, Field(ge=1)]


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
    redis_url: SecretStr
