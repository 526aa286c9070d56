"""The way in from outside the cluster: an Ingress, or an HTTPRoute below somebody's Gateway."""

from collections.abc import Iterator

from chatbot_resource.model import ChatbotDeployment

from chatbot_operator import names
from chatbot_operator.components import dependencies
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import manifest
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest, Reference

PART: names.Component = "gateway"
STREAM_SECONDS = 3600
"""An answer may take as long as chat may drain."""
# ingress-nginx holds answers back until its buffer is full, and gives up after a minute of silence, unless it is told
# not to. Others (Traefik, Envoy, Contour) stream by themselves and ignore these.
UNBUFFERED = {
    "nginx.ingress.kubernetes.io/proxy-buffering": "off",
    "nginx.ingress.kubernetes.io/proxy-request-buffering": "off",
    "nginx.ingress.kubernetes.io/proxy-read-timeout": str(STREAM_SECONDS),
    "nginx.ingress.kubernetes.io/proxy-send-timeout": str(STREAM_SECONDS),
}


def build(context: Context) -> list[Manifest]:
    """Empty where the resource wants none, or the cluster does not know the kind."""
    match context.bot.spec.exposure.type:
        case "Ingress":
            return [_ingress(context.bot)]
        case "HTTPRoute" if "HTTPRoute" in context.observed.apis:
            return [_route(context.bot)]
        case _:
            return []


def url(bot: ChatbotDeployment) -> str:
    """Where people reach it: from outside, else inside the cluster. A wildcard leads nowhere in particular."""
    return next(public(bot), inside(bot))


def inside(bot: ChatbotDeployment) -> str:
    return f"http://{names.child(bot.name, PART)}.{bot.metadata.namespace}.svc"


def public(bot: ChatbotDeployment) -> Iterator[str]:
    """One for each host name that leads somewhere."""
    told = bot.spec.exposure
    scheme = "https" if told.type == "HTTPRoute" or told.tls_secret_ref else "http"
    return (f"{scheme}://{host}" for host in told.hostnames if not host.startswith("*"))


def certificate(bot: ChatbotDeployment) -> tuple[Reference, ...]:
    """The Secret the controller reads; whole, since its kind of Secret has the keys it must."""
    told = bot.spec.exposure.tls_secret_ref
    return (Reference("Secret", told.name),) if told else ()


def finding(context: Context) -> Blocked | None:
    """Why nobody may get in from outside although the resource says so."""
    bot, kind = context.bot, context.bot.spec.exposure.type
    if kind == "None":
        return None
    if missing := dependencies.lacks(context, "HTTPRoute"):
        return missing
    if taken := [
        (host, context.observed.hosts[host]) for host in bot.spec.exposure.hostnames if host in context.observed.hosts
    ]:
        return Blocked(Reason.HOSTNAME_TAKEN, f"{taken[0][0]} is also the host name of {taken[0][1]}, which is older.")
    for secret in certificate(bot):
        if context.observed.references.get(secret) is None:
            where = f"which spec.exposure.tlsSecretRef names, is not in namespace {bot.metadata.namespace}"
            return Blocked(Reason.SECRET_NOT_FOUND, f"Secret {secret.name}, {where}.")
    live = context.observed.child(kind, names.child(bot.name, PART))
    if live is None:
        return Blocked(Reason.NOT_CREATED, f"{kind} {names.child(bot.name, PART)} does not exist yet.")
    return _not_admitted(live) if kind == "Ingress" else _not_accepted(live)


def _not_admitted(live: Manifest) -> Blocked | None:
    """Controllers that publish an address say so with it; no other sign is there."""
    if ((live.get("status") or {}).get("loadBalancer") or {}).get("ingress"):
        return None
    name = live["metadata"]["name"]
    text = (
        f"No controller has given Ingress {name} an address (class {live['spec'].get('ingressClassName', 'default')})."
    )
    return Blocked(Reason.ROUTE_PENDING, text)


def _not_accepted(live: Manifest) -> Blocked | None:
    name = live["metadata"]["name"]
    parents = (live.get("status") or {}).get("parents") or []
    for parent in parents:
        for condition in parent.get("conditions") or []:
            if condition["type"] in ("Accepted", "ResolvedRefs") and condition["status"] == "False":
                gateway = parent["parentRef"]["name"]
                text = f"Gateway {gateway} refuses HTTPRoute {name}: {condition['reason']}: {condition['message']}"
                return Blocked(Reason.ROUTE_REFUSED, text)
    if len(parents) < len(live["spec"]["parentRefs"]):
        return Blocked(Reason.ROUTE_PENDING, f"Not every Gateway has answered HTTPRoute {name} yet.")
    return None


def _ingress(bot: ChatbotDeployment) -> Manifest:
    told, name = bot.spec.exposure, names.child(bot.name, PART)
    backend = {"service": {"name": name, "port": {"name": "http"}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    spec: Manifest = {"rules": [{"host": host, "http": {"paths": paths}} for host in told.hostnames]}
    if told.class_name:
        spec["ingressClassName"] = told.class_name
    if told.tls_secret_ref:
        spec["tls"] = [{"hosts": list(told.hostnames), "secretName": told.tls_secret_ref.name}]
    return manifest(bot, PART, "Ingress", name, {"spec": spec}, annotations=UNBUFFERED, more=_marks(bot))


def _route(bot: ChatbotDeployment) -> Manifest:
    told, name = bot.spec.exposure, names.child(bot.name, PART)
    spec = {
        "parentRefs": [parent.model_dump(by_alias=True, exclude_none=True) for parent in told.parent_refs],
        "hostnames": list(told.hostnames),
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "backendRefs": [{"name": name, "port": names.SERVICE_PORT}],
                # No limit of its own: streams last as long as answers do.
                "timeouts": {"request": "0s"},
            }
        ],
    }
    return manifest(bot, PART, "HTTPRoute", name, {"spec": spec}, more=_marks(bot))


def _marks(bot: ChatbotDeployment) -> dict[str, str]:
    """By which hosts.py finds who else has a host name."""
    return {names.host_label(host): "true" for host in bot.spec.exposure.hostnames}
