"""Every name the operator writes: objects, labels, annotations, ports. Final: a live cluster cannot rename them."""

import hashlib
from typing import Literal

from chatbot_resource.configuration import Service

Component = Literal["gateway", "auth", "chat", "conversation", "conversation-worker"]
Store = Literal["postgres", "redis", "weaviate"]
Part = Component | Store
Owner = Literal["auth", "conversation"]
"""Services that own a database, and so have migrations."""

SERVICE_COMPONENTS: tuple[Service, ...] = ("gateway", "auth", "chat", "conversation")
OWNERS: tuple[Owner, ...] = ("auth", "conversation")

PREFIX = "chatbot-operator.io"
FIELD_MANAGER = "chatbot-operator"
SCALE_MANAGER = "chatbot-operator-scale"
"""Holds `replicas` for a moment while an autoscaler takes over; see applying.py."""
LEASE = "chatbot-operator"
LEADER = f"{PREFIX}/leader"
"""Annotation on the operator's own ServiceAccount: the pod that may write, see the chart's fencing.yaml."""
ACCOUNT = f"{PREFIX}/account"
"""Annotation on the Lease: `NAME/UID` of the ServiceAccount of who holds it, where writes are fenced."""

MANAGED_BY = "app.kubernetes.io/managed-by"
INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"
NAME = "app.kubernetes.io/name"
BOT = f"{PREFIX}/bot"
"""Label with the resource's name. The recommended labels above are anybody's; this one makes selectors ours alone."""
REFERENCED = f"{PREFIX}/referenced"
"""Label on Secrets and ConfigMaps that users own and a resource refers to, so that edits are seen."""
APPLIED_HASH = f"{PREFIX}/applied-hash"
"""Annotation on every child: hash of the manifest it was last applied from."""
IMAGE = f"{PREFIX}/image"
"""Annotation on a StatefulSet: the image it was applied with, where a webhook may have put another in its place."""
SCALED_BY = f"{PREFIX}/scaled-by"
"""Annotation on a Deployment whose `replicas` are not the operator's: the scaling mode that says whose they are."""
MAY_HAVE_NONE = ("KEDA", "External")
"""Values of that annotation with which no pods at all are somebody's wish, and nothing to be mended."""
REPLICAS_BEFORE = f"{PREFIX}/replicas-before-hibernation"
"""Annotation on a Deployment that hibernates: with how many pods it wakes up."""
MOVE = f"{PREFIX}/move"
"""Annotation on a Job that copies a database: from where to where all data of Postgres goes, see lost_status.py."""
ROTATE_KEYS = f"{PREFIX}/rotate-keys"
"""Annotation on a resource: whenever its text changes, the signing keys are rotated."""
RETRY = f"{PREFIX}/retry"
"""Annotation on a resource: whenever its text changes, what was given up is tried once more."""
ROTATED_AT = f"{PREFIX}/rotated-at"
ROTATION_SINCE = f"{PREFIX}/rotation-since"
ROTATION_ASKED = f"{PREFIX}/rotation-asked"
"""Annotations on the Secret of signing keys: when the current key began to sign, since when every pod publishes the
next, and which text of the resource's annotation was followed last."""
REFERENCES_HASH = f"{PREFIX}/references-hash"
"""Annotation on pod templates: hash of what the pods read from objects that users own."""

HTTP_PORT = 8080
PRIVATE_PORT = 9090
SERVICE_PORT = 80

CONFIG_FOLDER = "/etc/chatbot/config"
CONFIG_FILE = f"{CONFIG_FOLDER}/settings.json"
SECRETS_FOLDER = "/etc/chatbot/secrets"
FAQ_FILE = "/etc/chatbot/knowledge/faqs.yaml"
PROMPTS_FOLDER = "/etc/chatbot/prompts"
RULES_FILE = "/etc/chatbot/moderation/rules.yaml"
AUTHORITIES_FOLDER = "/etc/chatbot/authorities"
FORMER_FOLDER = "/etc/chatbot/former"
POSTGRES_AUTHORITY = f"{AUTHORITIES_FOLDER}/postgres.crt"
"""Of CloudNativePG's certificates; read anew for each connection."""
EXTERNAL_AUTHORITY = "external.crt"
"""Of a user's Postgres."""


def child(bot: str, part: Part) -> str:
    """Name of a part's Deployment or StatefulSet, and of its Service, ServiceAccount, HPA and PDB."""
    return f"{bot}-{part}"


def host_label(host: str) -> str:
    """Label of an Ingress or HTTPRoute with that host name: a label's name holds no wildcard and 63 characters."""
    return f"{PREFIX}/host-{hashlib.sha256(host.encode()).hexdigest()[:16]}"


def config_map(bot: str, service: Service, digest: str) -> str:
    return f"{bot}-{service}-{digest[:10]}"


def migration(bot: str, owner: Owner, digest: str) -> str:
    """At most 63 characters for the longest bot name, as a Job's name must be."""
    return f"{bot}-{owner}-db-{digest[:6]}"


def copy(bot: str, owner: Owner, digest: str) -> str:
    """Job that copies a database; at most 63 characters, too."""
    return f"{bot}-{owner}-cp-{digest[:6]}"


def service_key(bot: str, service: Service) -> str:
    """Secret with the service's Ed25519 pair: `private_key`, `public_key` (32 bytes each, unpadded base64url)."""
    return f"{bot}-{service}-key"


def signing_keys(bot: str) -> str:
    """Secret with the keys that sign user tokens, under `signing_keys`."""
    return f"{bot}-signing-keys"


def admin(bot: str) -> str:
    """Secret with the first administrator: `email`, `password`."""
    return f"{bot}-admin"


def store(bot: str, name: Store) -> str:
    """Secret with a store's credentials.

    postgres of mode Dev: `password` (superuser), and `password` and `uri` of each role, as in `auth-uri`.
    redis: `password`, `uri`. weaviate: `api-key`.
    """
    return f"{bot}-{name}"


def role(bot: str, owner: Owner) -> str:
    """Secret with a role of a CloudNativePG Cluster: `username`, `password`, `uri`."""
    return f"{child(bot, 'postgres')}-{owner}"


def database(cluster: str) -> str:
    """CloudNativePG's Database object in a Cluster."""
    return f"{cluster}-conversation"
