"""What a component's pods read besides their settings: keys of Secrets and ConfigMaps, each as one file.

One list per component says three things at once: which volumes its pods mount, what must be there before they start,
and whose edits roll them.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from chatbot_resource.fields import KeyRef, SecretRef

from chatbot_operator import names
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import digest
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest, Observed, Reference

URI = "uri"
"""Key of an external store's Secret."""
FILE_MODE = 0o440

Folder = Literal["secrets", "knowledge", "prompts", "moderation", "authorities", "former"]
FOLDERS: dict[Folder, str] = {
    "secrets": names.SECRETS_FOLDER,
    "knowledge": names.FAQ_FILE.rpartition("/")[0],
    "prompts": names.PROMPTS_FOLDER,
    "moderation": names.RULES_FILE.rpartition("/")[0],
    "authorities": names.AUTHORITIES_FOLDER,
    "former": names.FORMER_FOLDER,
}


@dataclass(frozen=True)
class Read:
    reference: Reference
    file: str
    """Below the folder, such as `provider_keys/openai`."""
    origin: str = ""
    """Field of the resource that refers to it; empty for what the operator generates."""
    folder: Folder = "secrets"
    once: bool = False
    """Used when the bot is new and never again: another content is no reason for other pods."""

    @property
    def watched(self) -> bool:
        """Not what a store makes itself, such as its certificates' authority: pods start once it is there, and read it
        anew by themselves when it has changed."""
        return self.folder != "former" and (self.folder != "authorities" or bool(self.origin))


def generated(secret: str, key: str, file: str) -> Read:
    return Read(Reference("Secret", secret, key), file)


def user_secret(ref: KeyRef, file: str, origin: str) -> Read:
    return Read(Reference("Secret", ref.name, ref.key), file, origin)


def user_uri(ref: SecretRef, file: str, origin: str) -> Read:
    return Read(Reference("Secret", ref.name, URI), file, origin)


def user_text(ref: KeyRef, file: str, origin: str, folder: Folder) -> Read:
    return Read(Reference("ConfigMap", ref.name, ref.key), file, origin, folder)


def references(reads: Iterable[Read]) -> frozenset[Reference]:
    """What users own: each key, and the whole object so that a missing key and a missing object can be told apart."""
    keys = {read.reference for read in reads if read.origin}
    return frozenset(keys | {Reference(item.kind, item.name) for item in keys})


def content(reads: Iterable[Read], observed: Observed) -> str:
    """Hash of everything the reads lead to, for a pod template: another content, other pods."""
    found = (read for read in there(reads, observed) if read.watched and not read.once)
    return digest(sorted((read.folder, read.file, _digest_of(read, observed) or "") for read in found))[:32]


def there(reads: Iterable[Read], observed: Observed) -> tuple[Read, ...]:
    """Without what may be left out, and is."""
    return tuple(read for read in reads if not read.reference.optional or _digest_of(read, observed) is not None)


def missing(reader: str, reads: Iterable[Read], context: Context) -> Blocked | None:
    """The first read that leads nowhere."""
    found = (read for read in reads if read.watched and not read.reference.optional)
    return next((_lost(reader, read, context) for read in found if _digest_of(read, context.observed) is None), None)


def volumes(reads: Iterable[Read]) -> list[Manifest]:
    """One projected volume per folder, so that each folder is complete the moment it is there."""
    found = list(reads)
    return [
        {"name": folder, "projected": {"defaultMode": FILE_MODE, "sources": sources}}
        for folder in FOLDERS
        if (sources := [_source(read) for read in found if read.folder == folder])
    ]


def mounts(reads: Iterable[Read]) -> list[Manifest]:
    used = {read.folder for read in reads}
    return [{"name": name, "mountPath": path, "readOnly": True} for name, path in FOLDERS.items() if name in used]


def _source(read: Read) -> Manifest:
    kind = "secret" if read.reference.kind == "Secret" else "configMap"
    source: Manifest = {"name": read.reference.name, "items": [{"key": read.reference.key, "path": read.file}]}
    return {kind: source | ({"optional": True} if read.reference.optional else {})}


def _digest_of(read: Read, observed: Observed) -> str | None:
    """Digest of what is read; None when it is not there."""
    if read.origin:
        return observed.references.get(read.reference)
    value = stored(observed, read.reference.name, str(read.reference.key))
    return None if value is None else hashlib.sha256(value.encode()).hexdigest()


def stored(observed: Observed, secret: str, key: str) -> str | None:
    """A key of one of our own Secrets, in base64 as it was observed."""
    found = observed.child("Secret", secret)
    return ((found or {}).get("data") or {}).get(key) or None


def _lost(reader: str, read: Read, context: Context) -> Blocked:
    kind, name, key = read.reference.kind, read.reference.name, read.reference.key
    if not read.origin:
        return lost_secret(reader, name, str(key), context)
    where = f"which {read.origin} names, for {reader}"
    if context.observed.references.get(Reference(kind, name)) is None:
        reason = Reason.SECRET_NOT_FOUND if kind == "Secret" else Reason.CONFIG_MAP_NOT_FOUND
        namespace = context.bot.metadata.namespace
        return Blocked(
            reason, f"{kind} {name}, {where}, is not in namespace {namespace}: create it, with the key {key}."
        )
    return Blocked(Reason.KEY_NOT_FOUND, f"{kind} {name}, {where}, has no key {key}: add it.")


def lost_secret(reader: str, name: str, key: str, context: Context) -> Blocked:
    """A generated Secret is not there, or somebody took a key out of it. It is never written over."""
    if context.observed.child("Secret", name) is None:
        labels = f"{names.MANAGED_BY}={names.FIELD_MANAGER},{names.BOT}={context.bot.name}"
        text = (
            f"Secret {name}, for {reader}, is not there yet. If one of that name exists, it is not ours: "
            f"delete it, or give it the labels {labels} to have it used."
        )
        return Blocked(Reason.SECRET_NOT_FOUND, text)
    text = (
        f"Secret {name}, which the operator made for {reader}, has lost its key {key}: "
        f"restore it. Deleting the Secret makes a new one, and requests fail until every pod has it."
    )
    return Blocked(Reason.KEY_NOT_FOUND, text)
