"""Postgres URLs as people and other operators write them, turned into the one form our driver reads.

CloudNativePG's Secrets say `postgresql://…`, hosted databases `postgres://…?sslmode=require`, we ourselves
`postgresql+asyncpg://…`. What the driver cannot do is refused when the settings are read, not ignored: a connection
that is less safe than its URL says would go unnoticed.
"""

import os
import ssl
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from pydantic import AfterValidator, SecretStr

SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
PASSED_ON = ("host", "port", "sslmode", "sslrootcert", "target_session_attrs", "application_name")
"""What the driver reads itself; hosts and files stay as they are."""
NEEDLESS = {
    "connect_timeout": None,  # ours is shorter
    "keepalives": None,
    "gssencmode": ("disable", "prefer"),
    "channel_binding": ("disable", "prefer"),
}
"""What may be left out, given one of these values or (None) any."""
AUTHORITY_VARIABLE = "CHATBOT_DATABASE_AUTHORITY"
"""Names the file with the certificate that was brought with the connection string; see `dsn_of`."""
AUTHORITIES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
"""Where systems keep the certificates everybody trusts."""


def dsn_of(url: str, authority: str | None = None) -> str:
    """The URL as asyncpg reads it; what is in that form stays the same.

    Args:
        authority: file of the certificate that the server's has to be signed with; then its name is checked, too.

    Raises:
        ValueError: it is no Postgres URL, or asks for something that would not be done. The URL is not in the message.
    """
    parts = _split(url.strip())
    options = urlencode(_options(parts, authority), safe="/")
    return f"postgresql://{parts.netloc}{parts.path}" + (f"?{options}" if options else "")


def _secret(url: SecretStr) -> SecretStr:
    return SecretStr(dsn_of(url.get_secret_value(), os.environ.get(AUTHORITY_VARIABLE)))


DatabaseUrl = Annotated[SecretStr, AfterValidator(_secret)]
"""A setting that holds a URL `dsn_of` takes; what is read from it is a DSN."""


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("the database URL cannot be read; are special characters of its password escaped?") from None
    if parts.scheme not in SCHEMES:
        raise ValueError("the database URL must start with postgresql:// or postgres://")
    if any(mark in text for text in (parts.path, parts.query, parts.fragment) for mark in "@#") or parts.fragment:
        # Whatever comes after an unescaped /, ? or # may be the rest of a password: it is not quoted from here on.
        raise ValueError("special characters of the password in the database URL must be escaped, such as / as %2F")
    if len(parts.path) < 2:
        raise ValueError("the database URL must end in the name of the database")
    return parts


def _options(parts: SplitResult, authority: str | None) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "ssl" in options:  # SQLAlchemy's name for it
        options["sslmode"] = options.pop("ssl")
    for name, value in list(options.items()):
        if name in NEEDLESS and ((allowed := NEEDLESS[name]) is None or value in allowed):
            del options[name]
        elif name not in PASSED_ON:
            raise ValueError(f"the database URL asks for {name}, which is not supported: leave it out")
    if (mode := options.get("sslmode")) is not None and mode not in SSL_MODES:
        raise ValueError(f"sslmode in the database URL must be one of {', '.join(SSL_MODES)}")
    options |= _checked(options, authority) if authority else {}
    return options | _authority(options)


def _checked(options: dict[str, str], authority: str) -> dict[str, str]:
    """Raises: ValueError: less is asked for than the certificate was brought for."""
    mode = options.get("sslmode", "verify-full")
    if not mode.startswith("verify-"):
        text = f"the database URL says sslmode={mode}, which does not check the server, although there is a certificate"
        raise ValueError(f"{text} to check it with (ca.crt): leave sslmode out, or make it verify-full")
    return {"sslmode": mode, "sslrootcert": authority}


def _authority(options: dict[str, str]) -> dict[str, str]:
    """The file of certificates to trust, where the URL asks for the server's to be checked."""
    named = options.get("sslrootcert") or os.environ.get("PGSSLROOTCERT")
    checked = options.get("sslmode", "").startswith("verify-")
    if not named and not checked:
        return {}
    candidates = [named] if named and named != "system" else [ssl.get_default_verify_paths().cafile, *AUTHORITIES]
    for path in candidates:
        if path and Path(path).is_file():
            return {"sslrootcert": path}
    raise ValueError(f"the database URL needs certificates to trust, but there is no file {named or AUTHORITIES[0]}")
