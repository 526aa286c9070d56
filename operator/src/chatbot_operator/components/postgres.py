"""The system of record: one Postgres with a disk for development. It makes its roles and databases itself."""

from dataclasses import replace

from chatbot_resource.model import ChatbotDeployment

from chatbot_operator import names
from chatbot_operator.components import reads, sizes
from chatbot_operator.components.pods import scratch
from chatbot_operator.components.reads import Read
from chatbot_operator.components.stores import Store
from chatbot_operator.names import Owner
from chatbot_operator.world import Reference

PORT = 5432
AUTHORITY = "ca.crt"
"""Key of a Secret: the certificate that the server's own is signed with."""


def address(bot: ChatbotDeployment, owner: Owner) -> Read:
    """Where the owner of a database finds its connection string."""
    external = bot.spec.stores.postgres.external
    if external is not None:
        ref = external.auth_secret_ref if owner == "auth" else external.conversation_secret_ref
        return reads.user_uri(ref, "database_url", f"spec.stores.postgres.external.{owner}SecretRef")
    if bot.spec.stores.postgres.mode == "CloudNativePG":
        return reads.generated(names.role(bot.name, owner), "uri", "database_url")
    return reads.generated(names.store(bot.name, "postgres"), f"{owner}-uri", "database_url")


def authority(bot: ChatbotDeployment, owner: Owner) -> tuple[Read, ...]:
    """What the server's certificate is checked with, where the connection string names it or a user brings it."""
    if bot.spec.stores.postgres.external is not None:
        uri = address(bot, owner)
        reference = Reference("Secret", uri.reference.name, AUTHORITY, optional=True)
        return (replace(uri, reference=reference, file=names.EXTERNAL_AUTHORITY, folder="authorities"),)
    if bot.spec.stores.postgres.mode != "CloudNativePG":
        return ()
    reference = Reference("Secret", f"{names.child(bot.name, 'postgres')}-ca", AUTHORITY)
    return (Read(reference, names.POSTGRES_AUTHORITY.rpartition("/")[2], folder="authorities"),)


def external(bot: ChatbotDeployment) -> tuple[Read, ...]:
    """Connection strings that a user has to bring; none for a Postgres of our own."""
    return tuple(read for owner in names.OWNERS if (read := address(bot, owner)).origin)


def store(bot: ChatbotDeployment) -> Store | None:
    """None where the user brings one, or CloudNativePG runs it."""
    if bot.spec.stores.postgres.mode != "Dev":
        return None
    return Store(
        name="postgres",
        ports={"postgres": PORT},
        probe={"tcpSocket": {"port": "postgres"}},
        started={"exec": {"command": ["/usr/local/bin/chatbot-postgres", "ready"]}},
        size=sizes.postgres(bot.spec),
        passwords=("password", "auth-password", "conversation-password"),
        volumes=(scratch("run"),),
        mounts=({"name": "run", "mountPath": "/run/postgresql"},),
        data="/var/lib/postgresql/data",
    )
