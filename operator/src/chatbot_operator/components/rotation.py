"""Rotation of the keys that sign users' tokens, so that no session breaks. Pure but for the making of a key.

Three steps, each a change of one Secret that rolls auth. The order of the keys tells which was taken last:

    [a]         a signs. The next rotation is due by schedule, or when the resource's annotation asks for one.
    [a, b]      a signs, b is published. Once every pod of auth publishes it, and every verifier has had time to see it:
    [a, b]      b signs, a is still published, for tokens that it signed. After the overlap:
    [b]

When a step was taken is noted on the Secret; what the status says is told from there and read by nobody. A note that
somebody made of it otherwise, unreadable or of a time to come, stops nothing: it is made anew, or done without.
"""

import datetime
import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any, Literal

from chatbot_resource.fields import seconds
from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import SecretStatus, Status

from chatbot_operator import names
from chatbot_operator.components import auth, reads
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import annotation
from chatbot_operator.components.reads import stored
from chatbot_operator.components.secrets import KEYS, SIGNING_KEYS, new_signing_key
from chatbot_operator.readiness import count, current, desired
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest, Observed

Stage = Literal["", "Asked", "Publishing", "Overlapping"]
PURPOSE = "signing-keys"
PUBLISH_SECONDS = 90.0
"""Verifiers fetch the published keys again after 30 s at the earliest; see chatbot_common.identity."""
ROLLING_SECONDS = 15.0
LAST_YEAR = 9000
SEALED = (
    "Secret {secret} is immutable, so its keys cannot be rotated. Make it anew with the same keys, while nothing else "
    "does: kubectl chatbot pause {bot} -n {namespace} && cd $(mktemp -d) && kubectl get secret {secret} -n {namespace} "
    "-o yaml | sed '/^immutable: true$/d' > keys.yaml && kubectl replace --force -f keys.yaml && rm keys.yaml && "
    "kubectl chatbot resume {bot} -n {namespace}. If something refuses it, keys.yaml alone has the keys: mend that, "
    "and go on from kubectl replace"
)
SKEW = datetime.timedelta(minutes=5)
"""How far one API server's clock may be ahead of another's, see clock.py."""


@dataclass(frozen=True)
class Rotation:
    patch: Manifest | None = None
    """What to write into the Secret now."""
    again: float | None = None
    """Seconds until there may be something to do."""
    blocked: Blocked | None = None
    """Why the next step cannot be taken."""


@dataclass(frozen=True)
class _Keys:
    secret: Manifest
    document: dict[str, Any]

    @property
    def kids(self) -> list[str]:
        return [key["kid"] for key in self.document[KEYS]]

    @property
    def current(self) -> str:
        return str(self.document["current"])

    def annotation(self, name: str) -> str:
        return str((self.secret["metadata"].get("annotations") or {}).get(name, ""))

    @property
    def made(self) -> datetime.datetime:
        return _time(self.secret["metadata"].get("creationTimestamp") or "1970-01-01T00:00:00Z")

    def noted(self, name: str, now: datetime.datetime) -> datetime.datetime | None:
        """Time an annotation holds; None where it holds none that has been."""
        try:
            found = _time(self.annotation(name))
        except ValueError:
            return None
        return found if found <= now + SKEW else None


def rotate(context: Context, now: str) -> Rotation:
    """The next step of a rotation, if it is time for one. `now` is RFC 3339."""
    bot, keys = context.bot, _keys(context.bot, context.observed)
    if keys is None or bot.spec.mode != "Active":
        return Rotation()
    due = _next(context, keys, _time(now))
    return Rotation(blocked=_sealed(bot)) if due.patch and keys.secret.get("immutable") else due


def told(bot: ChatbotDeployment, observed: Observed, now: str, previous: Status | None) -> list[SecretStatus]:
    """What the status says of it: which key signs, since when, and until when.

    While there is none, the last one stays known: that others take its place is to be told, see `lost`.
    """
    keys = _keys(bot, observed)
    if keys is None:
        return [item for item in previous.secrets if item.purpose == PURPOSE] if previous else []
    rotated = keys.noted(names.ROTATED_AT, _time(now)) or keys.made
    following = rotated + _duration(bot.spec.auth.signing_keys.rotate_every)
    return [
        SecretStatus(
            purpose=PURPOSE,
            secret=names.signing_keys(bot.name),
            rotated_at=_text(rotated),
            next_rotation=_text(following),
            digest=keys.current,
            rotation=_stage(bot, keys),
        )
    ]


def _stage(bot: ChatbotDeployment, keys: _Keys) -> Stage:
    if len(keys.kids) > 1:
        return "Publishing" if keys.current == keys.kids[0] else "Overlapping"
    return "Asked" if _asked(bot) != keys.annotation(names.ROTATION_ASKED) else ""


def lost(bot: ChatbotDeployment, observed: Observed, previous: Status | None) -> str:
    """What it means that the key which the status named last is not among the keys any more; empty while it is.

    A rotation keeps it for a while, so somebody has deleted or replaced the Secret.
    """
    keys = _keys(bot, observed)
    signed = next((item.digest for item in previous.secrets if item.purpose == PURPOSE), None) if previous else None
    if keys is None or signed is None or signed in keys.kids:
        return ""
    return (
        f"Secret {names.signing_keys(bot.name)} was deleted or replaced and has other keys now: every token that was "
        "signed before is refused, so people have to sign in again. To change keys without that: "
        f"kubectl chatbot rotate-keys {bot.name}"
    )


def _next(context: Context, keys: _Keys, now: datetime.datetime) -> Rotation:
    if len(keys.kids) == 1:
        return _begin(context.bot, keys, now)
    if keys.current == keys.kids[0]:
        return _switch(context, keys, now)
    return _end(context.bot, keys, now)


def _sealed(bot: ChatbotDeployment) -> Blocked:
    """It is left to a person to delete what holds the keys that every token was signed with."""
    text = SEALED.format(bot=bot.name, namespace=bot.metadata.namespace, secret=names.signing_keys(bot.name))
    return Blocked(Reason.APPLY_REFUSED, text)


def _begin(bot: ChatbotDeployment, keys: _Keys, now: datetime.datetime) -> Rotation:
    asked = _asked(bot)
    due = (keys.noted(names.ROTATED_AT, now) or keys.made) + _duration(bot.spec.auth.signing_keys.rotate_every)
    if now < due and asked == keys.annotation(names.ROTATION_ASKED):
        return Rotation(again=(due - now).total_seconds())
    document = keys.document | {KEYS: [*keys.document[KEYS], new_signing_key()]}
    noted = {names.ROTATION_ASKED: asked, names.ROTATION_SINCE: ""}
    return Rotation(_patch(keys, document, noted), ROLLING_SECONDS)


def _switch(context: Context, keys: _Keys, now: datetime.datetime) -> Rotation:
    if not _published(context):
        return Rotation(again=ROLLING_SECONDS)
    since = keys.noted(names.ROTATION_SINCE, now)
    if since is None:
        return Rotation(_patch(keys, keys.document, {names.ROTATION_SINCE: _text(now)}), PUBLISH_SECONDS)
    left = PUBLISH_SECONDS - (now - since).total_seconds()
    if left > 0:
        return Rotation(again=left)
    document = keys.document | {"current": keys.kids[-1]}
    return Rotation(_patch(keys, document, {names.ROTATED_AT: _text(now)}), ROLLING_SECONDS)


def _end(bot: ChatbotDeployment, keys: _Keys, now: datetime.datetime) -> Rotation:
    rotated = keys.noted(names.ROTATED_AT, now)
    if rotated is None:
        return Rotation(_patch(keys, keys.document, {names.ROTATED_AT: _text(now)}), ROLLING_SECONDS)
    until = rotated + _duration(bot.spec.auth.signing_keys.overlap)
    if now < until:
        return Rotation(again=(until - now).total_seconds())
    document = keys.document | {KEYS: [key for key in keys.document[KEYS] if key["kid"] == keys.current]}
    return Rotation(_patch(keys, document, {}))


def _published(context: Context) -> bool:
    """Whether every pod of auth has the keys that are in the Secret now. Where it is asleep, the next one will."""
    live = context.observed.child("Deployment", names.child(context.bot.name, "auth"))
    if live is None or not current(live):
        return False
    annotations = live["spec"]["template"]["metadata"].get("annotations") or {}
    same = annotations.get(names.REFERENCES_HASH) == reads.content(auth.reads(context.bot), context.observed)
    ready = count(live, "readyReplicas")
    asleep = desired(live) == 0
    return same and count(live, "updatedReplicas") == count(live, "replicas") == ready and (ready > 0 or asleep)


def _keys(bot: ChatbotDeployment, observed: Observed) -> _Keys | None:
    """None where there are none yet, or somebody wrote something else there."""
    name = names.signing_keys(bot.name)
    secret, value = observed.child("Secret", name), stored(observed, name, SIGNING_KEYS)
    if secret is None:
        return None
    try:
        found = _Keys(secret, json.loads(b64decode(value or "")))
        return found if found.current in found.kids else None
    except (ValueError, KeyError, TypeError):
        return None


def _patch(keys: _Keys, document: dict[str, Any], noted: dict[str, str]) -> Manifest:
    """Only of the Secret as it was read."""
    metadata = keys.secret["metadata"]
    told = {name: metadata[name] for name in ("name", "namespace", "resourceVersion")}
    data = {SIGNING_KEYS: b64encode(json.dumps(document).encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": told | {"annotations": noted}, "data": data}


def _asked(bot: ChatbotDeployment) -> str:
    return annotation(bot, names.ROTATE_KEYS)


def _duration(text: str) -> datetime.timedelta:
    return datetime.timedelta(seconds=seconds(text))


def _time(text: str) -> datetime.datetime:
    """Raises: ValueError: it is no time that can be reckoned with: not in any zone, or at the end of all time."""
    found = datetime.datetime.fromisoformat(text)
    if found.tzinfo is None or found.year > LAST_YEAR:
        raise ValueError(text)
    return found


def _text(when: datetime.datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
