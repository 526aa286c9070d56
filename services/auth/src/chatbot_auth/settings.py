"""What the auth service is told."""

from typing import Annotated, Literal

from chatbot_common.database_url import DatabaseUrl
from chatbot_common.settings import ServiceSettings
from pydantic import Field, SecretStr

from chatbot_auth.users.schema import PASSWORD_MAX, PASSWORD_MIN, Email

Seconds = Annotated[int, Field(ge=1)]


class Settings(ServiceSettings):
    signup: Literal["Open", "Closed"]
    admin_email: Email
    access_token_seconds: Seconds = 15 * 60
    refresh_token_seconds: Seconds = 30 * 24 * 3600
    sign_in_link_seconds: Seconds = 15 * 60
    database_url: DatabaseUrl
    signing_keys: SecretStr
    """JSON {"current": kid, "keys": [private Ed25519 JWK, …]}: current, next and previous keys."""
    admin_password: Annotated[SecretStr, Field(min_length=PASSWORD_MIN, max_length=PASSWORD_MAX)]
    """Password of the administrator account at its creation; a later change of it in the account wins."""
