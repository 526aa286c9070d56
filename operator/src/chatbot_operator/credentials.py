"""What the status says of every credential a bot has: which Secret has it, since when, and who changes it. Pure.

The API server tells when a Secret's content was last written, so nothing has to be remembered, and nothing of the
content has to be shown to tell that it has changed.
"""

from collections.abc import Iterator

from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import SecretStatus, Status

from chatbot_operator import names
from chatbot_operator.components import rotation, secrets
from chatbot_operator.components.context import Context
from chatbot_operator.plan import READS
from chatbot_operator.referenced import written


def told(context: Context, now: str, previous: Status | None) -> list[SecretStatus]:
    """One for each that is there: that of the operator's that is rotated, its others, and what the user brings."""
    rotated = rotation.told(context.bot, context.observed, now, previous)
    return [*rotated, *_generated(context), *_brought(context)]


def _generated(context: Context) -> Iterator[SecretStatus]:
    bot = context.bot.name
    for item in secrets.wanted(context.bot):
        live = context.observed.child("Secret", item.name)
        if live is not None and item.name != names.signing_keys(bot):
            purpose = item.name.removeprefix(f"{bot}-")
            yield SecretStatus(purpose=purpose, secret=item.name, rotated_at=written(live), rotates="Manual")


def _brought(context: Context) -> Iterator[SecretStatus]:
    for field, name in _named(context.bot).items():
        if when := context.observed.written.get(name):
            yield SecretStatus(purpose=field, secret=name, rotated_at=when, rotates="ByOwner")


def _named(bot: ChatbotDeployment) -> dict[str, str]:
    """Secret by the field of the resource that names it."""
    reads = (read for own in READS.values() for read in own(bot) if read.reference.kind == "Secret" and read.origin)
    found = {read.origin.removeprefix("spec."): read.reference.name for read in reads}
    if certificate := bot.spec.exposure.tls_secret_ref:
        found["exposure.tlsSecretRef"] = certificate.name
    return found
