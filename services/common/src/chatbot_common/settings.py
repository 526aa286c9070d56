"""How a service is told what it is: one JSON file and one folder of secrets, read once into a closed model.

The operator mounts both on a cluster, `chatbot up` writes both on a laptop; the service cannot tell the difference.
Environment variables carry only where to look, never values, so that `/proc` and crash dumps hold no secret.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

CONFIG_VARIABLE = "CHATBOT_CONFIG"
SECRETS_VARIABLE = "CHATBOT_SECRETS"

Port = Annotated[int, Field(ge=1, le=65535)]


class ClosedModel(BaseModel):
    """Frozen, and an unknown key is an error rather than a setting that silently does nothing.

    Errors name the key and never show its value: the value may be a secret, and the error ends up in a log.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ListenSettings(ClosedModel):
    """Where a service listens: requests on `port`; probes and metrics on `private_port`, never published."""

    host: str
    port: Port
    private_port: Port


class IdentitySettings(ClosedModel):
    """What every service needs to check identity itself."""

    issuer: str
    jwks_url: str
    service_public_keys: dict[str, str]
    """Service name → Ed25519 public key, 32 bytes as unpadded base64url."""


class TelemetrySettings(ClosedModel):
    """OTLP/HTTP base URL (`/v1/traces` is appended); None keeps trace ids in logs and exports nothing."""

    otlp_endpoint: str | None
    sample_ratio: Annotated[float, Field(ge=0, le=1)]
    log_level: str = "info"


class ServiceSettings(ClosedModel):
    """The part of the settings that is the same for all services."""

    bot: str
    """Name of the ChatbotDeployment; also the audience of user tokens."""
    listen: ListenSettings
    identity: IdentitySettings
    telemetry: TelemetrySettings
    drain_seconds: Annotated[int, Field(ge=1)]
    service_private_key: SecretStr
    """Ed25519 private key, 32 bytes as unpadded base64url. From the secrets folder."""

    @classmethod
    def load(cls) -> Self:
        """Read the settings named by the environment.

        Raises:
            KeyError: a variable is missing.
            OSError: a file cannot be read.
            pydantic.ValidationError: a key is unknown, missing or of the wrong type.
        """
        config: dict[str, Any] = json.loads(Path(os.environ[CONFIG_VARIABLE]).read_text())
        return cls.model_validate(config | read_secrets(Path(os.environ[SECRETS_VARIABLE])))

    @classmethod
    def load_or_exit(cls) -> Self:
        """`load` for a process: what is wrong is its last word and one line, for the operator tells that line."""
        try:
            return cls.load()
        except ValidationError as error:
            wrong = "; ".join(_mistake(item["loc"], item["msg"]) for item in error.errors(include_input=False))
        except (KeyError, OSError, ValueError) as error:
            wrong = f"{type(error).__name__}: {error}"
        sys.exit(f"The settings cannot be used: {wrong}")


def _mistake(location: tuple[int | str, ...], message: str) -> str:
    """Without values, and without words of the library that say nothing."""
    return f"{'.'.join(map(str, location))}: {message.removeprefix('Value error, ')}"


def read_secrets(folder: Path) -> dict[str, Any]:
    """File name → text without its final newline; a subfolder becomes a nested mapping.

    Names starting with a dot are skipped: kubelet keeps the real data of a mounted Secret in `..data`.
    """
    return {
        path.name: read_secrets(path) if path.is_dir() else path.read_text().removesuffix("\n").removesuffix("\r")
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".")
    }
