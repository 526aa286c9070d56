"""Secrets of a bot on this machine: made once, kept in files of mode 0600, never printed."""

import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from chatbot_resource.configuration import OPERATOR, SECRET_FILES, SERVICES

from chatbot_cli.home import Home, write

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PRIVATE_KEY = "service_private_key"


def admin_password_file(home: Home) -> Path:
    return home.secrets / "auth" / "admin_password"


def private_key_file(home: Home, name: str) -> Path:
    """The Ed25519 private key of a service or of the operator, 32 bytes as unpadded base64url."""
    return home.secrets / name / PRIVATE_KEY


def provider_key_file(home: Home, provider: str) -> Path:
    return home.secrets / "chat" / "provider_keys" / provider


def ensure(home: Home) -> dict[str, str]:
    """Make what is missing. Returns each service's public key, 32 bytes as unpadded base64url."""
    public = {name: _public(_kept(private_key_file(home, name), _new_private)) for name in (*SERVICES, OPERATOR)}
    _kept(home.secrets / "auth" / "signing_keys", _new_signing_keys)
    _kept(admin_password_file(home), lambda: secrets.token_urlsafe(15))
    return public


def write_urls(home: Home, databases: Mapping[str, str], redis_url: str) -> None:
    """Where the stores are; on a cluster these hold passwords, so they are secrets here too."""
    for service, url in databases.items():
        write(home.secrets / service / "database_url", url)
    for service in SERVICES:
        file = home.secrets / service / "redis_url"
        if file.name in SECRET_FILES[service]:
            write(file, redis_url)
        else:
            file.unlink(missing_ok=True)  # a service refuses a secret it does not know


def write_provider_keys(
    home: Home, provider_keys: Mapping[str, str], embeddings_key: str | None, mcp_tokens: Mapping[str, str]
) -> None:
    """Exactly these keys: one that is no longer wanted is removed."""
    for folder, given in (("provider_keys", provider_keys), ("mcp_tokens", mcp_tokens)):
        _write_all(home.secrets / "chat" / folder, given)
    embeddings = home.secrets / "conversation" / "embeddings_key"
    if embeddings_key is None:
        embeddings.unlink(missing_ok=True)
    else:
        write(embeddings, embeddings_key)


def _write_all(folder: Path, given: Mapping[str, str]) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name not in given:
            path.unlink()
    for name, key in given.items():
        write(folder / name, key)


def encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def private_key(text: str) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def _kept(path: Path, make: Callable[[], str]) -> str:
    """What the file holds; made now where there is none or an interrupted run left it empty."""
    if path.is_file() and (text := path.read_text(encoding="utf-8").strip()):
        return text
    text = make()
    write(path, text)
    return text


def _public(private: str) -> str:
    return encode(private_key(private).public_key().public_bytes_raw())


def _new_private() -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return encode(Ed25519PrivateKey.generate().private_bytes_raw())


def _new_signing_keys() -> str:
    private = _new_private()
    kid = secrets.token_hex(8)
    jwk = {"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": _public(private), "d": private}
    return json.dumps({"current": kid, "keys": [jwk]})
