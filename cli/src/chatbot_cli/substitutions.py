"""What a laptop puts in the place of what the resource asks of a cluster; shown, so that nobody wonders later."""

from chatbot_resource.components import SERVICES, Component, Service
from chatbot_resource.model import ChatbotDeployment, Spec
from chatbot_resource.profiles import resolve_scaling
from pydantic.alias_generators import to_camel

from chatbot_cli.calling import call
from chatbot_cli.layout import DRAIN_SECONDS


def substitutions(bot: ChatbotDeployment) -> list[tuple[str, str]]:
    """Rows of: what the resource asks for, what runs here."""
    spec = bot.spec
    return [*_always(spec), *_where_written(spec)]


def _always(spec: Spec) -> list[tuple[str, str]]:
    stores = spec.stores
    return [
        (f"PostgreSQL ({_mode(stores.postgres.mode)})", "embedded PostgreSQL on a socket"),
        (f"Redis ({_mode(stores.redis.mode)})", "embedded Valkey on a socket"),
        (f"Vectors ({stores.vectors.type})", "pgvector, inside PostgreSQL"),
        (f"Replicas ({_scaling(spec)})", "one process each, one worker"),
        (f"Exposure ({spec.exposure.type})", "127.0.0.1, this machine only"),
    ]


def _mode(mode: str) -> str:
    return "External" if mode == "External" else "in the cluster"


def _where_written(spec: Spec) -> list[tuple[str, str]]:
    """Fields that only a cluster reads are worth a row only to who wrote them."""
    rows = []
    if spec.mode != "Active":
        rows.append((f"Mode ({spec.mode})", f"it runs until: {call('down')}"))
    if written := sorted(spec.defaults.model_fields_set):
        rows.append((f"Defaults ({', '.join(map(to_camel, written))})", "processes of this machine, not pods"))
    longest = max(_component(spec, name).drain_seconds for name in SERVICES)
    if longest > DRAIN_SECONDS and any("drain_seconds" in _component(spec, name).model_fields_set for name in SERVICES):
        rows.append((f"Drain ({longest} s)", f"{DRAIN_SECONDS} s at most"))
    if spec.version:
        rows.append((f"Version ({spec.version})", "the code that is installed here"))
    if images := [name for name in type(spec.images).model_fields if getattr(spec.images, name)]:
        rows.append((f"Images ({', '.join(images)})", "the code that is installed here"))
    if limited := [name for name in SERVICES if "resources" in _component(spec, name).model_fields_set]:
        rows.append((f"Resources ({', '.join(limited)})", "whatever this machine has, without requests or limits"))
    if "deletion_policy" in spec.stores.model_fields_set:
        rows.append((f"Deletion ({spec.stores.deletion_policy})", f"data stays until: {call('down --purge')}"))
    watched = {"monitors", "rules", "dashboards"} & spec.telemetry.model_fields_set
    if watched or "slo" in spec.model_fields_set:
        rows.append(("Monitors, alerts, dashboard", "nothing is watched; each process serves /metrics"))
    external = spec.stores.redis.external
    if external and "topology" in external.model_fields_set:
        rows.append((f"Redis topology ({external.topology})", "one embedded Valkey"))
    return rows


def _component(spec: Spec, name: Service) -> Component:
    component: Component = getattr(spec.components, name)
    return component


def _scaling(spec: Spec) -> str:
    """How many of each service: once where all have the same."""
    counts = {name: _count(spec, name) for name in SERVICES}
    if len(set(counts.values())) == 1:
        return f"{counts['gateway']} each"
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _count(spec: Spec, name: Service) -> str:
    scaling = resolve_scaling(spec, name)
    match scaling.mode:
        case "Fixed":
            return str(scaling.replicas)
        case "HPA" | "KEDA":
            return f"{scaling.min}..{scaling.max}"
        case "External":
            return "External"
