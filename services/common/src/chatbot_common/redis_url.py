"""Redis URLs as people write them: of one server, or of sentinels that know which server is the master.

    redis://user:password@host:6379/0                                  one server; rediss:// with TLS
    redis+sentinel://user:password@s1:26379,s2:26379/mymaster/0        the master that these sentinels name

User and password are the servers' own. Those of sentinels, where they have any, are `?sentinel_username=` and
`?sentinel_password=`. With rediss+sentinel:// both speak TLS.
"""

from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, SecretStr

SINGLE = ("redis", "rediss", "unix")
SENTINEL = ("redis+sentinel", "rediss+sentinel")
SENTINEL_PORT = 26379
OPTIONS = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True)
class Sentinels:
    """What a URL of sentinels says."""

    addresses: tuple[tuple[str, int], ...]
    service: str
    """The master's name."""
    database: int
    tls: bool
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    own: dict[str, str] = field(repr=False)
    """`username` and `password` of the sentinels themselves."""


def sentinels_of(url: str) -> Sentinels | None:
    """None for the URL of one server.

    Raises:
        ValueError: it is a URL of neither. The URL is not in the message.
    """
    scheme, _, rest = url.partition("://")
    if scheme in SINGLE:
        return None
    if scheme not in SENTINEL:
        raise ValueError("the Redis URL must start with redis://, rediss:// (TLS), unix:// or redis+sentinel://")
    # Hosts apart: urlsplit knows of one alone.
    parts = urlsplit(f"redis://{rest}")
    login, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    options = dict(parse_qsl(parts.query))
    if not service or not (database or "0").isdigit() or parts.fragment:
        raise ValueError("the Redis URL must end in the name of the master and a number, such as /mymaster/0")
    if unknown := options.keys() - set(OPTIONS):
        raise ValueError(f"the Redis URL asks for {min(unknown)}, which is not supported: leave it out")
    user, _, password = login.partition(":")
    return Sentinels(
        addresses=tuple(map(_address, hosts.split(","))),
        service=unquote(service),
        database=int(database or 0),
        tls=scheme == "rediss+sentinel",
        username=unquote(user) or None,
        password=unquote(password) or None,
        own={name.removeprefix("sentinel_"): value for name, value in options.items()},
    )


def _address(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    try:
        port = parts.port or SENTINEL_PORT
    except ValueError:
        port = 0
    if not parts.hostname or not port:
        raise ValueError("the Redis URL must name its sentinels as host:port, with commas between them")
    return parts.hostname, port


def _checked(url: SecretStr) -> SecretStr:
    text = url.get_secret_value().strip()
    sentinels_of(text)
    return SecretStr(text)


RedisUrl = Annotated[SecretStr, AfterValidator(_checked)]
"""A setting that holds the URL of a Redis, or of sentinels."""
