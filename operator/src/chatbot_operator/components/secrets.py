"""Secrets that the operator makes: once, at random, and never again while they are there.

`missing` makes those that do not exist. Their content is never applied, only their labels and their owner are: the
`secrets` step carries those of what exists. With `deletionPolicy: Retain` what belongs to retained data has no owner,
and a later resource of the same name finds it by name and label.
"""

import json
import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from chatbot_resource.configuration import SERVICES
from chatbot_resource.model import ChatbotDeployment
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chatbot_operator import disks, names
from chatbot_operator.components import cloudnativepg, postgres, redis, weaviate
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import SECRETS, manifest, stamped
from chatbot_operator.components.reads import lost_secret, stored
from chatbot_operator.world import Blocked, Manifest, Observed

SIGNING_KEYS, KEYS = "signing_keys", "keys"
"""The Secret's key, and the list in the document below it."""
PASSWORD_BYTES = 24
"""32 characters that need no quoting in a URL."""

Values = dict[str, str]


@dataclass(frozen=True)
class Generated:
    """A Secret to be: its keys are known without making it."""

    name: str
    keys: tuple[str, ...]
    make: Callable[[], Values]
    outlives: bool = False
    """Belongs to data that `deletionPolicy: Retain` keeps."""
    type: str = "Opaque"
    labels: Mapping[str, str] = field(default_factory=dict)
    """Besides those that every child has."""


def wanted(bot: ChatbotDeployment) -> list[Generated]:
    """Every Secret a resource needs."""
    pairs = [Generated(names.service_key(bot.name, name), ("private_key", "public_key"), _pair) for name in SERVICES]
    signing = Generated(names.signing_keys(bot.name), (SIGNING_KEYS,), _signing_keys)
    # Its password is in the database of auth, which may be kept; another one would open nothing.
    admin = Generated(names.admin(bot.name), ("email", "password"), lambda: _admin(bot.name), outlives=True)
    return [*pairs, signing, admin, *_stores(bot)]


def missing(bot: ChatbotDeployment, observed: Observed) -> list[Manifest]:
    """Secrets to create, complete but for their owner. The one builder that is not pure: each call makes new values."""
    return [
        _manifest(bot, item, {"type": item.type, "data": _encoded(item.make())}, owned=not item.outlives)
        for item in wanted(bot)
        if observed.child("Secret", item.name) is None
    ]


def build(context: Context) -> list[Manifest]:
    """Labels and owner of the Secrets that exist, so that both follow the resource."""
    bot = context.bot
    return [
        _existing(context, item, live)
        for item in wanted(bot)
        if (live := context.observed.child("Secret", item.name)) is not None
    ]


def build_stores(context: Context) -> list[Manifest]:
    """The same of the passwords of Postgres alone, for one that was the resource's before."""
    found = [(item, context.observed.child("Secret", item.name)) for item in _postgres_secrets(context.bot)]
    return [_existing(context, item, live) for item, live in found if live is not None]


def problem(context: Context) -> Blocked | None:
    """The first generated Secret that is not there or has lost a key."""
    return next(
        (
            lost_secret(context.bot.name, item.name, key, context)
            for item in wanted(context.bot)
            for key in item.keys
            if stored(context.observed, item.name, key) is None
        ),
        None,
    )


def _existing(context: Context, item: Generated, live: Manifest) -> Manifest:
    # What opens a disk goes when that does.
    goes = context.bot.spec.stores.deletion_policy == "Delete" and not disks.stay(context.observed)
    made = _manifest(context.bot, item, {}, owned=goes or not item.outlives)
    # Without its uid, applying to a Secret that has just been deleted would make an empty one.
    made["metadata"]["uid"] = live["metadata"]["uid"]
    return stamped(made)


def _manifest(bot: ChatbotDeployment, item: Generated, body: Manifest, *, owned: bool) -> Manifest:
    """Unstamped: nothing was applied yet, and no hash of a secret belongs into an annotation."""
    made = manifest(bot, SECRETS, "Secret", item.name, body, owned=owned)
    metadata = {key: value for key, value in made["metadata"].items() if key != "annotations"}
    return made | {"metadata": metadata | {"labels": metadata["labels"] | item.labels}}


def _stores(bot: ChatbotDeployment) -> list[Generated]:
    found = _postgres_secrets(bot)
    if bot.spec.stores.redis.mode == "Dev":
        keys = ("password", "uri")
        found.append(Generated(names.store(bot.name, "redis"), keys, lambda: _redis(bot.name), outlives=True))
    if weaviate.managed(bot):
        name = names.store(bot.name, "weaviate")
        found.append(Generated(name, (weaviate.API_KEY,), lambda: {weaviate.API_KEY: _password()}, outlives=True))
    return found


def _postgres_secrets(bot: ChatbotDeployment) -> list[Generated]:
    if cloudnativepg.used(bot):
        return [_role(bot.name, owner) for owner in names.OWNERS]
    if bot.spec.stores.postgres.mode == "External":
        return []
    keys = ("password", *(f"{role}-{what}" for role in names.OWNERS for what in ("password", "uri")))
    return [Generated(names.store(bot.name, "postgres"), keys, lambda: _postgres(bot.name), outlives=True)]


def _postgres(bot: str) -> Values:
    values = {"password": _password()}
    host = f"{names.child(bot, 'postgres')}:{postgres.PORT}"
    for role in names.OWNERS:
        password = _password()
        values |= {
            f"{role}-password": password,
            f"{role}-uri": f"postgresql+asyncpg://{role}:{password}@{host}/{role}",
        }
    return values


def _role(bot: str, owner: names.Owner) -> Generated:
    """As CloudNativePG reads it, and its label so that it sees another password."""

    def make() -> Values:
        password = _password()
        return {"username": owner, "password": password, "uri": cloudnativepg.uri(bot, owner, password)}

    keys = ("username", "password", "uri")
    labels = {"cnpg.io/reload": "true"}
    return Generated(names.role(bot, owner), keys, make, True, "kubernetes.io/basic-auth", labels)


def _redis(bot: str) -> Values:
    password = _password()
    return {"password": password, "uri": f"redis://:{password}@{names.child(bot, 'redis')}:{redis.PORT}/0"}


def _admin(bot: str) -> Values:
    return {"email": f"admin@{bot}.example", "password": _password()}


def _pair() -> Values:
    private = Ed25519PrivateKey.generate()
    return {
        "private_key": _text(private.private_bytes_raw()),
        "public_key": _text(private.public_key().public_bytes_raw()),
    }


def new_signing_key() -> Values:
    """As a JSON Web Key, with its private half."""
    pair = _pair()
    kid = secrets.token_hex(8)
    return {"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": pair["public_key"], "d": pair["private_key"]}


def _signing_keys() -> Values:
    """A set, so that keys can be rotated, see rotation.py."""
    key = new_signing_key()
    return {SIGNING_KEYS: json.dumps({"current": key["kid"], KEYS: [key]})}


def _password() -> str:
    return secrets.token_urlsafe(PASSWORD_BYTES)


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _encoded(values: Mapping[str, str]) -> Manifest:
    return {key: b64encode(value.encode()).decode() for key, value in values.items()}
